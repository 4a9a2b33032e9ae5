package remoting

import "github.com/apogeemq/apogee/protocol"

const (
	// readBytesMin is the buffer of a connection that was quiet: ten thousand idle ones must be cheap.
	readBytesMin = 4 << 10
	// readBytesMax is what the buffer grows to while reads fill it; only a frame that needs more gets more.
	readBytesMax = 256 << 10
	// bigReadsKept is after how many reads without a large frame a buffer beyond readBytesMax is given up.
	bigReadsKept = 64
)

// inBuffer is a connection's read buffer: bytes r..w are unread.
type inBuffer struct {
	buf    []byte
	r, w   int
	need   int  // size of the frame that is incomplete, 0 when not yet known
	filled bool // the last read filled the buffer
	idle   int  // reads since a frame needed more than readBytesMax
}

// unread returns what was read and not yet taken.
func (in *inBuffer) unread() []byte { return in.buf[in.r:in.w] }

// next returns the next whole frame, nil when the buffer holds none.
func (in *inBuffer) next(bytesMax int) ([]byte, error) {
	n, err := protocol.FrameSize(in.buf[in.r:in.w], bytesMax)
	if err != nil {
		return nil, err
	}
	if n == 0 || n > in.w-in.r {
		in.need = n
		return nil, nil
	}
	f := in.buf[in.r : in.r+n : in.r+n]
	in.r += n
	return f, nil
}

// room returns where to read to, never empty. Frames handed out before are overwritten.
func (in *inBuffer) room() []byte {
	have := in.w - in.r
	if have == 0 {
		in.r, in.w, in.need = 0, 0, 0
	}
	if in.need > readBytesMax {
		in.idle = 0
	} else {
		in.idle++
	}
	size := len(in.buf)
	switch {
	case size == 0:
		size = readBytesMin
	case have == size: // one frame, of which there is more: what it claims to be is believed as it arrives
		size = min(2*size, max(in.need, readBytesMax))
	case in.filled && size < readBytesMax:
		size = min(2*size, readBytesMax)
	case size > readBytesMax && in.idle > bigReadsKept && have <= readBytesMin:
		size = readBytesMax
	}
	switch {
	case size != len(in.buf):
		buf := make([]byte, size)
		copy(buf, in.unread())
		in.buf, in.r, in.w = buf, 0, have
	case in.r > 0 && (have <= readBytesMin || in.r+in.need > size || size-in.w < size/4):
		copy(in.buf, in.unread())
		in.r, in.w = 0, have
	}
	return in.buf[in.w:]
}

// took records that n bytes were read into room.
func (in *inBuffer) took(n int) {
	in.w += n
	in.filled = in.w == len(in.buf)
}

// shrink gives the buffer up where it is empty.
func (in *inBuffer) shrink() {
	if in.r == in.w && len(in.buf) > readBytesMin {
		*in = inBuffer{}
	}
}
