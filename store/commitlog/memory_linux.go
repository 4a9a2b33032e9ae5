package commitlog

import "golang.org/x/sys/unix"

// allocate returns zeroed, page-aligned memory outside the Go heap: the collector neither scans it nor doubles it.
func allocate(bytes int) ([]byte, error) {
	return unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

func free(b []byte) { _ = unix.Munmap(b) }
