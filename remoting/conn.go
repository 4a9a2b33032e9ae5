package remoting

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apogeemq/apogee/protocol"
)

// env is what a connection has from its server or client.
type env struct {
	log             *slog.Logger
	now             func() time.Time
	frameBytesMax   int
	outBytesMax     int
	requestBytesMax int64 // 0 in a client's: what it asks for is its own
	memory          memory
	purge           func(*Conn) // drops what waits in lanes for a closed connection; nil in a client
	overflow        overflow
	idleTimeout     time.Duration
	callTimeout     time.Duration
	serialize       protocol.Serialization // of requests that we send
	traffic         traffic
	ids             atomic.Uint64
}

// overflow is what happens to a connection that does not drain.
type overflow bool

const (
	overflowCloses  overflow = true  // a server's: the peer asked for more than it reads
	overflowRefuses overflow = false // a client's: the caller is told
)

// traffic counts what went over the connections of a server or client.
type traffic struct {
	bytesIn, bytesOut atomic.Uint64
	unread            atomic.Uint64 // connections closed because the peer did not read its answers
}

// shrinkAfter is how long a connection must be quiet to lose its read buffer.
const shrinkAfter = 10 * time.Second

// Conn is one connection, of a server or of a client: both ends send requests and answers on it.
type Conn struct {
	env    *env
	id     uint64
	local  netip.AddrPort
	remote netip.AddrPort // written only by the reader, under mu, before it reads frames (PROXY protocol)
	raw    net.Conn       // what is closed
	in     inBuffer       // the reader's
	calls  callTable

	received   time.Time    // when the last read returned; the reader's
	lastActive atomic.Int64 // Unix time in ns
	inBytes    atomic.Int32 // size of the read buffer
	partial    atomic.Int64 // Unix time in ns since when a frame is incomplete, 0 when none is
	writing    atomic.Int64 // Unix time in ns since when the write that is under way runs, 0 when none does

	held         atomic.Int64       // bytes of memory, see memory.go
	requestBytes atomic.Int64       // of which belong to requests in lanes
	backlogs     [laneCount]backlog // each guarded by its lane's mu
	stopping     atomic.Bool        // the reader shall end; set before a read deadline wakes it
	stopBy       time.Time          // when it shall have ended; set before stopping

	mu        sync.Mutex // guards the following
	cond      sync.Cond  // the flusher wrote or ended, or the connection closed
	nc        net.Conn   // raw or TLS over it; written only by the reader, before it reads frames
	direct    *direct    // nc's socket, nil where nc is not the socket itself; written with nc
	out       *outBatch  // waits for the flusher; nil when empty
	outBytes  int        // in out and in the write that is under way
	flushing  bool
	parked    *Request // requests of LanePull that wait for the output to drain, latest first
	closed    bool
	finished  bool
	reason    string
	onClose   []func()
	begun     *outBatch // is being written; of whoever has set flushing
	flushFunc func()    // c.flush, made once so that starting the goroutine allocates nothing
}

func newConn(e *env, nc net.Conn) *Conn {
	c := &Conn{env: e, id: e.ids.Add(1), raw: nc, nc: nc, local: addrPort(nc.LocalAddr()), remote: addrPort(nc.RemoteAddr())}
	c.cond.L = &c.mu
	c.flushFunc = c.flush
	c.lastActive.Store(e.now().UnixNano())
	c.direct = newDirect(nc)
	return c
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// ID numbers the connections of a server or client.
func (c *Conn) ID() uint64 { return c.id }

// RemoteAddr returns the peer's address, as the PROXY protocol gave it where it is used; invalid when it is not TCP.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.remote }

// LocalAddr returns our address as the peer sees it.
func (c *Conn) LocalAddr() netip.AddrPort { return c.local }

// LastActive returns when the connection last read or wrote something.
func (c *Conn) LastActive() time.Time { return time.Unix(0, c.lastActive.Load()) }

// Close closes the connection; output that has not been written is dropped. The reason is logged.
func (c *Conn) Close(reason string) { c.close(slog.LevelInfo, reason) }

// OnClose has f called when the connection has ended, on its reader after the last round of its Sink; at once if it has.
func (c *Conn) OnClose(f func()) {
	c.mu.Lock()
	if c.finished {
		c.mu.Unlock()
		f()
		return
	}
	c.onClose = append(c.onClose, f)
	c.mu.Unlock()
}

// IsClosed tells whether the connection is closed.
func (c *Conn) IsClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// OutBytes returns how many bytes wait to be written, payloads included.
func (c *Conn) OutBytes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outBytes
}

// Congested tells that the peer reads too slowly: half of OutBytesMax waits for it. Meanwhile requests are not read, and those of
// LanePull not begun; who answers one that has waited long (a long poll) should hold a large payload back.
func (c *Conn) Congested() bool { return c.OutBytes() > c.env.outBytesMax/2 }

// park keeps a request until the output has drained, if it has to. A consumer may ask for hundreds of queues at once and be no slow
// reader: their answers together must not close its connection.
func (c *Conn) park(r *Request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.outBytes <= c.env.outBytesMax/2 {
		return false
	}
	r.next, c.parked = c.parked, r
	return true
}

// unparkLocked returns the parked requests, in their order, when they may go on.
func (c *Conn) unparkLocked() *Request {
	if c.parked == nil || c.outBytes > c.env.outBytesMax/2 {
		return nil
	}
	var first *Request
	for r := c.parked; r != nil; {
		next := r.next
		r.next, first = first, r
		r = next
	}
	c.parked = nil
	return first
}

// resubmit gives requests back to their lanes.
func resubmit(r *Request) {
	for r != nil {
		next := r.next
		r.next = nil
		r.route.lane.submit(r)
		r = next
	}
}

// dropAll drops requests that nobody waits for any more.
func dropAll(r *Request) {
	for r != nil {
		next := r.next
		r.recycle()
		r = next
	}
}

// ClosedError says that a connection was closed, and why.
type ClosedError struct{ Addr, Reason string }

// Error names the address and the reason.
func (e *ClosedError) Error() string {
	return fmt.Sprintf("connection to %s closed: %s", e.Addr, e.Reason)
}

func (c *Conn) closedError() error { return &ClosedError{Addr: c.remoteName(), Reason: c.reason} }

// remoteName is the remote address for messages.
func (c *Conn) remoteName() string {
	if c.remote.IsValid() {
		return c.remote.String()
	}
	return c.raw.RemoteAddr().String()
}

func (c *Conn) close(level slog.Level, reason string) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed, c.reason = true, reason
	b := c.out
	c.out = nil
	if b != nil {
		c.charge(-b.size)
	}
	parked := c.parked
	c.parked = nil
	c.cond.Broadcast()
	err, remote := c.closedError(), c.remoteName()
	c.mu.Unlock()
	_ = c.raw.Close() // not TLS's, which would wait to say goodbye
	if b != nil {
		b.drop()
		b.recycle()
	}
	dropAll(parked)
	if c.env.purge != nil {
		c.env.purge(c)
	}
	c.calls.close(err)
	c.env.log.Log(context.Background(), level, "connection closed", "remote", remote, "id", c.id, "reason", reason)
}

// finish is the end of the reader: it waits for the flusher and runs the callbacks.
func (c *Conn) finish() {
	c.mu.Lock()
	for c.flushing {
		c.cond.Wait()
	}
	c.finished = true
	callbacks := c.onClose
	c.onClose = nil
	c.mu.Unlock()
	c.chargeIn(0)
	for _, f := range callbacks {
		f()
	}
}

var errStopped = errors.New("no longer read")

// end is what the server's and the client's end of a connection do with what arrives. Frames are valid until endRound returns.
type end interface {
	frame(c *Conn, frame []byte) error
	endRound(c *Conn)
}

// readFrames hands over every frame until the connection ends, and returns why.
func (c *Conn) readFrames(e end) error {
	for {
		err := c.round(e)
		if err == nil {
			err = c.waitDrained()
		}
		c.notePartial()
		if err == nil {
			err = c.fill()
		}
		for errors.Is(err, os.ErrDeadlineExceeded) { // the janitor or Shutdown woke us
			c.in.shrink()
			c.chargeIn(len(c.in.buf))
			_ = c.nc.SetReadDeadline(time.Time{})
			err = c.fill()
		}
		if err != nil {
			return err
		}
	}
}

// round hands over the whole frames in the buffer.
func (c *Conn) round(e end) error {
	defer e.endRound(c)
	for {
		f, err := c.in.next(c.env.frameBytesMax)
		if err != nil || f == nil {
			return err
		}
		c.wholeFrame()
		if err := e.frame(c, f); err != nil {
			return err
		}
	}
}

// wholeFrame ends the time that a frame has been incomplete.
func (c *Conn) wholeFrame() {
	if c.partial.Load() != 0 {
		c.partial.Store(0)
	}
}

// notePartial keeps since when the peer owes the rest of a frame. While we are busy with what came before, or do not read, it is not late.
func (c *Conn) notePartial() {
	if len(c.in.unread()) > 0 && c.partial.Load() == 0 {
		c.partial.Store(c.env.now().UnixNano())
	}
}

// fill reads once.
func (c *Conn) fill() error {
	last := c.stopping.Load()
	if last {
		c.mu.Lock() // behind stopReading, which sets a deadline too
		until := time.Now().Add(stopQuiet)
		if until.After(c.stopBy) {
			until = c.stopBy
		}
		_ = c.nc.SetReadDeadline(until)
		c.mu.Unlock()
	}
	room := c.in.room()
	c.chargeIn(len(c.in.buf))
	n, err := c.nc.Read(room)
	if n == 0 {
		if last && errors.Is(err, os.ErrDeadlineExceeded) {
			return errStopped
		}
		if err == nil {
			err = io.ErrNoProgress
		}
		return err
	}
	c.in.took(n)
	c.env.traffic.bytesIn.Add(uint64(n))
	c.received = c.env.now()
	c.lastActive.Store(c.received.UnixNano())
	return nil // an error comes again with the next read
}

// waitDrained keeps a peer that does not read its answers from asking for more.
func (c *Conn) waitDrained() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.outBytes > c.env.outBytesMax/2 && !c.closed && !c.stopping.Load() && c.env.overflow == overflowCloses {
		c.partial.Store(0) // the rest of a frame is not late while we do not read
		c.cond.Wait()
	}
	if c.closed {
		return c.closedError()
	}
	return nil
}

// What a peer wrote before its connection was to end counts, the offsets among it that consumers commit as they leave, and nobody repeats.
const (
	stopQuiet = 20 * time.Millisecond  // nothing arrives for so long: that was all
	stopMax   = 250 * time.Millisecond // the end of reading, whatever arrives
)

// stopReading ends the reader after what has arrived; output is still written.
func (c *Conn) stopReading() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopBy = time.Now().Add(stopMax)
	c.stopping.Store(true)
	c.cond.Broadcast()
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
}

// AppendOut has f append whole frames to the output, which is then written: many answers in one call. f runs under the connection's
// lock and must be quick. It does not run when the connection is closed, or when it is closed because it does not drain.
func (c *Conn) AppendOut(f func(dst []byte) []byte) {
	b, err := c.lockOut(0)
	if err != nil {
		return
	}
	before := len(b.small)
	b.small = f(b.small)
	c.unlockOut(b, len(b.small)-before)
}

// WriteFrames appends encoded frames to the output.
func (c *Conn) WriteFrames(frames []byte) {
	b, err := c.lockOut(0)
	if err != nil {
		return
	}
	b.small = append(b.small, frames...)
	c.unlockOut(b, len(frames))
}

// write appends a command, and a payload as its body, to the output. It never blocks; the payload is released in any case.
func (c *Conn) write(cmd *protocol.Command, p *Payload) error {
	size := 0
	if p != nil {
		for _, s := range p.Slices {
			size += len(s)
		}
		if size != p.Size {
			panic(fmt.Sprintf("remoting: payload of %d bytes said to be %d", size, p.Size))
		}
	}
	b, err := c.lockOut(size)
	if err != nil {
		p.release()
		return err
	}
	before := len(b.small)
	b.small = protocol.AppendFrame(b.small, cmd, size)
	if p != nil && (size > 0 || p.Release != nil) {
		b.pieces = append(b.pieces, outPiece{at: len(b.small), slices: p.Slices, release: p.Release})
	}
	c.unlockOut(b, len(b.small)-before+size)
	return nil
}

// lockOut returns the batch to append to, with c.mu held; without when it fails. size is what shall be pinned beside small bytes.
func (c *Conn) lockOut(size int) (*outBatch, error) {
	c.mu.Lock()
	if c.closed {
		defer c.mu.Unlock()
		return nil, c.closedError()
	}
	if queued := c.outBytes; queued+size > c.env.outBytesMax {
		c.mu.Unlock()
		err := fmt.Errorf("connection to %s does not drain: %d bytes wait and %d shall, the limit is OutBytesMax=%d",
			c.remoteName(), queued, size, c.env.outBytesMax)
		if c.env.overflow == overflowCloses {
			c.env.traffic.unread.Add(1)
			c.close(slog.LevelWarn, err.Error())
		}
		return nil, err
	}
	if c.out == nil {
		c.out = outBatches.Get().(*outBatch)
	}
	return c.out, nil
}

// unlockOut counts what was appended and sees to it that somebody writes it.
func (c *Conn) unlockOut(b *outBatch, size int) {
	b.size += size
	c.outBytes += size
	start := !c.flushing
	c.flushing = true
	c.charge(size)
	switch {
	case !start:
		c.mu.Unlock()
	case c.direct == nil:
		c.mu.Unlock()
		go c.flushFunc()
	default:
		c.flushLocked(true)
	}
}

// flush writes what waits until nothing does.
func (c *Conn) flush() {
	c.mu.Lock()
	c.flushLocked(false)
}

// flushLocked is flush by whoever has set flushing; it takes over the lock. Who must not wait (atOnce) writes what there is and the socket
// takes, which nearly always is all, and leaves the rest to a goroutine: to start one for each answer would cost more than the write.
func (c *Conn) flushLocked(atOnce bool) {
	for first := true; c.begun != nil || (c.out != nil && !c.closed); first = false {
		if atOnce && !first { // others add to it as fast as it is written
			c.mu.Unlock()
			go c.flushFunc()
			return
		}
		b := c.begun
		if b == nil {
			b, c.out = c.out, nil
			c.begun = b
			c.writing.Store(c.env.now().UnixNano())
		}
		c.mu.Unlock()
		done, err := b.write(c, atOnce)
		if !done && err == nil {
			go c.flushFunc()
			return
		}
		c.wrote(b, err)
		c.mu.Lock()
		c.outBytes -= b.size
		b.recycle()
		c.cond.Broadcast()
		if r := c.unparkLocked(); r != nil {
			c.mu.Unlock()
			resubmit(r)
			c.mu.Lock()
		}
	}
	c.flushing = false
	c.cond.Broadcast()
	c.mu.Unlock()
}

// wrote is the end of a batch's write.
func (c *Conn) wrote(b *outBatch, err error) {
	c.begun = nil
	c.writing.Store(0)
	b.drop()
	c.charge(-b.size)
	if err != nil {
		c.close(slog.LevelDebug, fmt.Sprintf("write: %v", err))
		return
	}
	c.env.traffic.bytesOut.Add(uint64(b.size))
	c.lastActive.Store(c.env.now().UnixNano())
}

// waitFlushed waits until nothing is left to write, the connection is closed or ctx ends.
func (c *Conn) waitFlushed(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.cond.Broadcast()
	})
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.flushing && !c.closed && ctx.Err() == nil {
		c.cond.Wait()
	}
}

// Send sends a request; done gets the answer. cmd is encoded before Send returns.
func (c *Conn) Send(cmd *protocol.Command, done Callback) { c.send(cmd, c.env.callTimeout, done) }

func (c *Conn) send(cmd *protocol.Command, timeout time.Duration, done Callback) {
	opaque, err := c.calls.open(cmd.Code, c.env.now().Add(timeout).UnixNano(), done)
	if err != nil {
		done(nil, err)
		return
	}
	if err := c.writeRequest(cmd, opaque, 0); err != nil {
		if done := c.calls.take(opaque); done != nil { // otherwise closing the connection has called it
			done(nil, err)
		}
	}
}

func (c *Conn) writeRequest(cmd *protocol.Command, opaque, flag int32) error {
	out := *cmd
	out.Opaque, out.Flag = opaque, flag
	if c.env.serialize == protocol.SerializeBinary {
		out.Serialize = protocol.SerializeBinary
	}
	if out.Code > math.MaxInt16 || out.Code < math.MinInt16 { // POP's codes do not fit the binary header
		out.Serialize = protocol.SerializeJSON
	}
	return c.write(&out, nil)
}

// OneWay sends a request that is not answered.
func (c *Conn) OneWay(cmd *protocol.Command) error {
	return c.writeRequest(cmd, cmd.Opaque, protocol.FlagOneWay)
}

// Invoke sends a request and waits for the answer, which owns its memory.
func (c *Conn) Invoke(ctx context.Context, cmd *protocol.Command) (*protocol.Command, error) {
	return await(ctx, c.remoteName(), cmd.Code, c.env.callTimeout, func(timeout time.Duration, done Callback) {
		c.send(cmd, timeout, done)
	})
}

// complete delivers an answer from the peer to who waits for it.
func (c *Conn) complete(answer *protocol.Command) {
	if done := c.calls.take(answer.Opaque); done != nil {
		done(answer, nil)
	}
}

// scan is the janitor's look at the connection: calls that timed out, an idle connection, a read buffer that is too large for it.
func (c *Conn) scan(now time.Time) {
	for _, e := range c.calls.expire(now.UnixNano()) {
		e.done(nil, &TimeoutError{Addr: c.remoteName(), Code: protocol.RequestCode(e.code), After: c.env.callTimeout})
	}
	quiet := now.Sub(c.LastActive())
	since := func(at *atomic.Int64) time.Duration {
		if ns := at.Load(); ns != 0 {
			return now.Sub(time.Unix(0, ns))
		}
		return 0
	}
	switch {
	case since(&c.partial) >= c.env.idleTimeout: // whatever trickles in meanwhile
		c.close(slog.LevelInfo, fmt.Sprintf("a frame has been incomplete for %s", since(&c.partial).Round(time.Second)))
	case since(&c.writing) >= c.env.idleTimeout:
		c.env.traffic.unread.Add(1)
		c.close(slog.LevelInfo, fmt.Sprintf("the peer has not read its answers for %s", since(&c.writing).Round(time.Second)))
	case quiet >= c.env.idleTimeout:
		c.close(slog.LevelDebug, fmt.Sprintf("idle for %s", quiet.Round(time.Second)))
	case quiet >= shrinkAfter && c.inBytes.Load() > readBytesMin:
		c.mu.Lock()
		nc := c.nc
		c.mu.Unlock()
		_ = nc.SetReadDeadline(time.Unix(1, 0)) // wakes the reader, which clears it
	}
}
