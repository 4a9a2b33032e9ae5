//go:build !linux

package remoting

// yield is Linux's.
func yield() {}
