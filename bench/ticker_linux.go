package bench

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ticker wakes a sender at short intervals. The runtime's timers round an idle process's sleep up to a millisecond, which would show
// as latency of the server; a timerfd does not, and its reader parks in the poller like that of a socket.
type ticker struct{ f *os.File }

func newTicker(d time.Duration) (*ticker, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	period := unix.NsecToTimespec(int64(d))
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: period, Value: period}, nil); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	return &ticker{os.NewFile(uintptr(fd), "timerfd")}, nil
}

// wait returns at the next tick, and how many have passed.
func (t *ticker) wait() (uint64, error) {
	var b [8]byte
	_, err := t.f.Read(b[:])
	return binary.NativeEndian.Uint64(b[:]), err
}

func (t *ticker) close() { _ = t.f.Close() }
