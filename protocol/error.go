package protocol

import (
	"errors"
	"fmt"
)

// Error is a refusal as the peer sees it: a response code and a remark. Handlers return it; one place writes it to the wire.
type Error struct {
	Code   ResponseCode
	Remark string
}

// Error returns code and remark.
func (e *Error) Error() string { return fmt.Sprintf("%s (%d): %s", e.Code, int32(e.Code), e.Remark) }

// Errorf returns an Error.
func Errorf(code ResponseCode, format string, args ...any) *Error {
	return &Error{Code: code, Remark: fmt.Sprintf(format, args...)}
}

// CodeOf maps an error to what the peer is told: an Error's own code, SYSTEM_ERROR for any other.
func CodeOf(err error) (ResponseCode, string) {
	var e *Error
	if errors.As(err, &e) {
		return e.Code, e.Remark
	}
	return RespSystemError, err.Error()
}
