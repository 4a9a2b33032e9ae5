//go:build !linux

package remoting

// look is Linux's.
type look struct{}

func newLook() *look { return nil }

func (*look) wait()  {}
func (*look) close() {}
