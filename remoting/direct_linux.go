package remoting

import (
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// direct writes to a connection's socket without ever waiting for its peer, which package net cannot. Calls must not overlap.
type direct struct {
	raw    syscall.RawConn
	rest   *net.Buffers // of the call that is under way
	err    error
	onward func(fd uintptr) bool // d.writeTo, made once so that a write allocates nothing
}

// iovecsMax is the kernel's UIO_MAXIOV.
const iovecsMax = 1024

// newDirect returns nil for what is not a socket.
func newDirect(nc net.Conn) *direct {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	d := &direct{raw: raw}
	d.onward = d.writeTo
	return d
}

// write takes from rest what the socket takes at once.
func (d *direct) write(rest *net.Buffers) error {
	d.rest, d.err = rest, nil
	if err := d.raw.Write(d.onward); err != nil {
		return err
	}
	return d.err
}

func (d *direct) writeTo(fd uintptr) bool {
	for len(*d.rest) > 0 {
		n, err := unix.Writev(int(fd), (*d.rest)[:min(len(*d.rest), iovecsMax)])
		switch {
		case err == nil && n > 0:
			consume(d.rest, n)
		case err == nil:
			d.err = io.ErrNoProgress
			return true
		case errors.Is(err, unix.EAGAIN):
			return true
		case !errors.Is(err, unix.EINTR):
			d.err = err
			return true
		}
	}
	return true
}

// consume drops the first n bytes.
func consume(b *net.Buffers, n int) {
	for len(*b) > 0 && n >= len((*b)[0]) {
		n -= len((*b)[0])
		*b = (*b)[1:]
	}
	if n > 0 {
		(*b)[0] = (*b)[0][n:]
	}
}
