//go:build !linux

package commitlog

func allocate(bytes int) ([]byte, error) { return make([]byte, bytes), nil }

func free([]byte) {}
