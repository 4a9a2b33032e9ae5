package remoting

import (
	"encoding/binary"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// look is how a goroutine gives way to the network. Go looks there when nothing is left to run, or every 10 ms; one that steps behind others
// (runtime.Gosched) is still there to run. So it waits for a file of its own: the look that finds the file readable finds connections, too.
type look struct {
	mu   sync.Mutex // held by whoever waits
	file *os.File
	raw  syscall.RawConn
	told bool
	f    func(fd uintptr) bool
}

// newLook returns nil where there is no such file.
func newLook() *look {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil
	}
	l := &look{file: os.NewFile(uintptr(fd), "eventfd")}
	if l.raw, err = l.file.SyscallConn(); err != nil {
		_ = l.file.Close()
		return nil
	}
	l.f = l.tell
	return l
}

// wait returns after Go's next look; at once while somebody else waits for one.
func (l *look) wait() {
	if l == nil || !l.mu.TryLock() {
		return
	}
	defer l.mu.Unlock()
	l.told = false
	_ = l.raw.Read(l.f)
}

func (l *look) close() {
	if l != nil {
		_ = l.file.Close()
	}
}

// tell makes the file readable, and takes it as read once that was seen.
func (l *look) tell(fd uintptr) bool {
	if l.told {
		var b [8]byte
		_, _ = unix.Read(int(fd), b[:])
		return true
	}
	l.told = true
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, err := unix.Write(int(fd), one[:])
	return err != nil
}
