package protocol

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// CheckRetryPolicy refuses a groupRetryPolicy that fastjson cannot read as RocketMQ's GroupRetryPolicy. It takes what fastjson takes: a type
// of another name counts as none, numbers may stand in quotes, and no number is too small or too great but for its 64 bits. Times are in ms.
func CheckRetryPolicy(policy []byte) error {
	if string(policy) == `""` { // null to fastjson
		return nil
	}
	var p struct {
		Type        retryPolicyType `json:"type"`
		Exponential *struct {
			Initial    javaLong `json:"initial"`
			Max        javaLong `json:"max"`
			Multiplier javaLong `json:"multiplier"`
		} `json:"exponentialRetryPolicy"`
		Customized *struct {
			Next []javaLong `json:"next"`
		} `json:"customizedRetryPolicy"`
	}
	if err := json.Unmarshal(policy, &p); err != nil {
		return fmt.Errorf(`groupRetryPolicy %s: %w; want {"type":"CUSTOMIZED","customizedRetryPolicy":{"next":[MS,...]}} or `+
			`{"type":"EXPONENTIAL","exponentialRetryPolicy":{"initial":MS,"max":MS,"multiplier":N}}`, excerpt(policy), err)
	}
	return nil
}

// retryPolicyType is the name of a GroupRetryPolicyType, or its ordinal.
type retryPolicyType struct{}

// UnmarshalJSON refuses what names no type.
func (*retryPolicyType) UnmarshalJSON(b []byte) error {
	if s := string(b); b[0] == '"' || s == "null" || s == "0" || s == "1" {
		return nil
	}
	return fmt.Errorf("type %s is neither CUSTOMIZED nor EXPONENTIAL", excerpt(b))
}

// javaLong is what fastjson takes for a long.
type javaLong struct{}

// UnmarshalJSON refuses what is no number of 64 bits.
func (*javaLong) UnmarshalJSON(b []byte) error {
	s := strings.Trim(string(b), `"`)
	if s == "null" || s == "true" || s == "false" {
		return nil
	}
	if _, err := strconv.ParseInt(s, 10, 64); err == nil {
		return nil
	}
	if f, err := strconv.ParseFloat(s, 64); err != nil || math.Abs(f) >= math.MaxInt64 {
		return fmt.Errorf("%s is no number of 64 bits", excerpt(b))
	}
	return nil
}
