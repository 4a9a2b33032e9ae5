package remoting

import (
	"net"
	"sync"
)

const (
	// outKeepBytesMax is the largest buffer of small frames that is kept for reuse.
	outKeepBytesMax = 1 << 20
	// outCopyBytes is what a connection without vectored writes (TLS) gathers for one write.
	outCopyBytes = 64 << 10
)

// outBatch is what one write takes: small frames back to back in one buffer and, between them, payloads that are not copied.
type outBatch struct {
	small  []byte
	pieces []outPiece
	vec    net.Buffers // scratch of write
	rest   net.Buffers // what is left of vec; a field, so that writing allocates nothing
	size   int         // bytes in all
}

// outPiece is a payload that goes out after the first at bytes of the small buffer.
type outPiece struct {
	at      int
	slices  [][]byte
	release func()
}

var outBatches = sync.Pool{New: func() any { return new(outBatch) }}

// write writes the batch, with one system call where the connection can. With atOnce it does not wait: false and no error say that the
// socket has not taken all yet; the next call goes on from there.
func (b *outBatch) write(c *Conn, atOnce bool) (done bool, err error) {
	if b.rest == nil {
		b.gather()
	}
	switch {
	case atOnce:
		err = c.direct.write(&b.rest)
	case c.direct == nil && len(b.rest) > 1:
		err = b.writeGathered(c.nc)
	default:
		_, err = b.rest.WriteTo(c.nc)
	}
	return len(b.rest) == 0, err
}

// gather lists the slices that the batch consists of, in order.
func (b *outBatch) gather() {
	b.vec = b.vec[:0]
	at := 0
	for i := range b.pieces {
		p := &b.pieces[i]
		if p.at > at {
			b.vec = append(b.vec, b.small[at:p.at])
			at = p.at
		}
		b.vec = append(b.vec, p.slices...)
	}
	if at < len(b.small) {
		b.vec = append(b.vec, b.small[at:])
	}
	b.rest = b.vec
}

// writeGathered copies short slices together: each write is at least one TLS record and one system call.
func (b *outBatch) writeGathered(nc net.Conn) error {
	buf := make([]byte, 0, min(b.size, outCopyBytes))
	for _, s := range b.vec {
		for len(s) > 0 {
			n := min(len(s), cap(buf)-len(buf))
			buf = append(buf, s[:n]...)
			s = s[n:]
			if len(buf) < cap(buf) {
				continue
			}
			if _, err := nc.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	b.rest = b.rest[:0]
	if len(buf) == 0 {
		return nil
	}
	_, err := nc.Write(buf)
	return err
}

// drop releases the payloads, written or not.
func (b *outBatch) drop() {
	for i := range b.pieces {
		if r := b.pieces[i].release; r != nil {
			r()
		}
	}
	clear(b.pieces)
	clear(b.vec[:cap(b.vec)])
	b.pieces, b.vec, b.rest = b.pieces[:0], b.vec[:0], nil
}

// recycle gives a batch back that was dropped.
func (b *outBatch) recycle() {
	b.small, b.size = b.small[:0], 0
	if cap(b.small) > outKeepBytesMax {
		b.small = nil
	}
	outBatches.Put(b)
}
