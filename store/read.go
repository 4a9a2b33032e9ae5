package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store/commitlog"
	"github.com/apogeemq/apogee/store/view"
)

// ReadStatus says how a read by queue offset ended (GetMessageStatus).
type ReadStatus uint8

// The ends of a read.
const (
	Found        ReadStatus = iota
	NoMatch                 // messages, but none that the filter lets pass
	NoMessage               // the offset is the queue's end, or the queue is empty and the offset 0
	OffsetMoved             // before the first message, behind the end, or in a queue without messages: go on at Next
	ScanMoreOver            // nothing in what was looked at is readable any more: go on at Next
)

// ReadLimits bound one read. Matching messages are counted, all entries are scanned.
type ReadLimits struct {
	Messages int
	Bytes    int // at least one message is returned whatever its size
	Scanned  int // index entries looked at, and from the first message on offsets that compaction has removed
	Probed   int // bytes of the records whose properties were looked at, bodies included; one at least
}

// Match says which messages a read returns. Both functions see what is there for each message and must not keep it; nil matches all.
type Match struct {
	Tags       func(tagsCode int64) bool
	Properties func(properties []byte) bool // as they are encoded in the record; asked only for what Tags lets pass
}

// Result is what a read found. The slices are whole records, valid until Release.
type Result struct {
	Status           ReadStatus
	Slices           [][]byte
	Bytes, Messages  int
	Offsets          []int64 // of the records; that of a batch is its first, which may be less than the one that was asked for
	Next, First, End int64   // next offset to read; the queue's bounds
	ColdBytes        int     // of Bytes, those that are farther from the log's end than its memory reaches

	hot     int64 // log position before which all is cold
	pins    commitlog.Pins
	entries []view.Entry
	probe   probe
}

// Release gives the memory back that the slices are in.
func (r *Result) Release() { r.pins.Release() }

// Read returns messages of q from offset on into r, whose memory is reused. After an error r holds nothing.
func (s *Store) Read(r *Result, q *Queue, offset int64, limits ReadLimits, match Match) error {
	err := s.read(r, q, offset, limits, match)
	if err != nil {
		r.Release()
		r.Slices = r.Slices[:0]
	}
	return err
}

func (s *Store) read(r *Result, q *Queue, offset int64, limits ReadLimits, match Match) error {
	r.Slices, r.Offsets, r.Bytes, r.Messages = r.Slices[:0], r.Offsets[:0], 0, 0
	r.First, r.End = q.Bounds()
	r.Next, r.ColdBytes, r.hot = offset, 0, s.hot()
	gaps := q.Compacted().End > 0 && offset >= 0 // an offset before the first message is one of them
	switch {
	case r.First == r.End && offset != r.End && !gaps, offset > r.End:
		r.Status, r.Next = OffsetMoved, r.End
		return nil
	case offset < r.First && !gaps:
		r.Status, r.Next = OffsetMoved, r.First
		return nil
	case offset == r.End:
		r.Status = NoMessage
		return nil
	}
	r.Status = NoMatch
	r.probe.bytes = 0
	for scanned, again := 0, false; scanned < limits.Scanned && r.Next < r.End; {
		next, err := q.Skip(r.Next)
		if r.Messages > 0 { // what one read returns lies close together
			scanned += int(next - r.Next)
		}
		if r.Next = next; err != nil || next >= r.End || scanned >= limits.Scanned {
			return err
		}
		n := min(limits.Scanned-scanned, max(limits.Messages-r.Messages, 16))
		if err = r.look(q, n); err != nil || len(r.entries) == 0 {
			return err
		}
		for at := 0; at < len(r.entries); {
			n := messagesAt(r.entries[at:])
			enough, err := s.take(r, r.entries[at], n, limits, match)
			if errors.Is(err, commitlog.ErrGone) { // retention was faster
				if !again && r.Next < q.Compacted().End { // and what compaction left has a new place
					again = true
					break
				}
				r.First, r.End = q.Bounds()
				r.Status, r.Next = OffsetMoved, r.First
				return nil
			}
			if enough || err != nil {
				return err
			}
			at, r.Next, scanned = at+n, r.Next+int64(n), scanned+n
			if r.Messages >= limits.Messages {
				return nil
			}
		}
	}
	return nil
}

// look reads up to n index entries from Next on, and all of the last one's record.
func (r *Result) look(q *Queue, n int) (err error) {
	r.entries, err = q.Entries(r.entries[:0], r.Next, n)
	for at := len(r.entries); err == nil && at > 0 && r.entries[at-1].More; at++ {
		if at < len(r.entries) {
			continue
		}
		if r.entries, err = q.Entries(r.entries, r.Next+int64(at), partsAtOnce); err == nil && at == len(r.entries) {
			break // retention was faster
		}
	}
	return err
}

// partsAtOnce is how many index entries are read to find a batch's end.
const partsAtOnce = 256

// messagesAt counts the messages of the first entry's record from that one on.
func messagesAt(entries []view.Entry) int {
	n := 1
	for n < len(entries) && entries[n-1].More {
		n++
	}
	return n
}

// ReadOne returns the record at a queue's offset, valid until r's release; nil where there is none any more.
func (s *Store) ReadOne(r *Result, q *Queue, offset int64) ([]byte, error) {
	err := s.Read(r, q, offset, ReadLimits{Messages: 1, Bytes: math.MaxInt32, Scanned: 1}, Match{})
	switch {
	case err != nil:
		return nil, err
	case r.Status == NoMatch || r.Status == OffsetMoved:
		return nil, nil
	case r.Status != Found:
		return nil, fmt.Errorf("nothing at offset %d of queue %d, topic %s", offset, q.ID, q.Topic)
	case len(r.Slices) == 1:
		return r.Slices[0], nil
	}
	return bytes.Join(r.Slices, nil), nil
}

// ReadPosition returns the record of a size at a log position into r, whose memory is reused. After an error r holds nothing.
func (s *Store) ReadPosition(r *Result, position int64, size int32) (err error) {
	if r.Slices, err = s.log.Slices(r.Slices[:0], position, int(size), &r.pins); err != nil {
		r.Release()
		r.Slices = r.Slices[:0]
		return notFound(position, err)
	}
	return nil
}

// take adds a record to the result, which has n messages from Next on, if it matches; enough says that the limits forbid it.
func (s *Store) take(r *Result, e view.Entry, n int, limits ReadLimits, match Match) (enough bool, err error) {
	if e.Hole() || match.Tags != nil && !match.Tags(e.TagsCode) {
		return false, nil
	}
	if match.Properties != nil {
		if r.probe.bytes > 0 && r.probe.bytes+int(e.Size) > limits.Probed {
			return true, nil
		}
		r.probe.bytes += int(e.Size)
		properties, err := r.probe.properties(s.log, e)
		matches := err == nil && match.Properties(properties)
		r.probe.pins.Release()
		if !matches {
			return false, err
		}
	}
	if r.Messages > 0 && (r.Bytes+int(e.Size) > limits.Bytes || n > 1 && r.Messages+n > limits.Messages) {
		return true, nil
	}
	offset := r.Next
	if e.Part && len(r.Offsets) == 0 { // only the first record can have messages before Next
		if offset, err = s.firstOffset(e); err != nil {
			return false, err
		}
	}
	slices, last := len(r.Slices), []byte(nil)
	if slices > 0 {
		last = r.Slices[slices-1]
	}
	r.Slices, err = s.log.Slices(r.Slices, e.Position, int(e.Size), &r.pins)
	if intact := err == nil && r.pins.Intact(e.Position, int(e.Size)); !intact {
		if r.Slices = r.Slices[:slices]; slices > 0 {
			r.Slices[slices-1] = last // it may have been made longer
		}
		if err == nil {
			s.rotten(e.Position)
		}
		return false, err
	}
	r.Status = Found
	r.Offsets = append(r.Offsets, offset)
	r.Bytes += int(e.Size)
	if e.Position < r.hot {
		r.ColdBytes += int(e.Size)
	}
	r.Messages += n
	return false, nil
}

// rotten reports a record that is not as it was written any more. Nobody is given it; what follows it is not touched.
func (s *Store) rotten(position int64) {
	if s.rots.Load() >= rottenMax {
		return
	}
	if _, known := s.rot.LoadOrStore(position, true); !known {
		s.rots.Add(1)
		s.c.Logger.Error("a message in the log is damaged: it is passed over, and those behind it are served", "position", position)
	}
}

// rottenMax bounds the damaged records that are remembered, and reported.
const rottenMax = 1000

// firstOffset returns the offset of the first message in a batch.
func (s *Store) firstOffset(e view.Entry) (int64, error) {
	head, err := s.log.Read(e.Position, message.MinRecordSize)
	if err != nil {
		return 0, err
	}
	return message.QueueOffsetOf(head), nil
}

// probe looks at the properties of one record after the other, without its body.
type probe struct {
	pins   commitlog.Pins
	slices [][]byte
	copied []byte // what lies in two blocks of the log
	bytes  int    // length of the records looked at
}

// properties returns the record's, valid until the pins are released.
func (p *probe) properties(log *commitlog.Log, e view.Entry) ([]byte, error) {
	head, err := p.read(log, e.Position, min(int(e.Size), message.HeadSize))
	if err != nil {
		return nil, err
	}
	end, err := message.BodyEnd(head, int(e.Size))
	if err != nil {
		return nil, fmt.Errorf("log position %d: %w", e.Position, err)
	}
	_, magic := message.Peek(head)
	rest, err := p.read(log, e.Position+int64(end), int(e.Size)-end)
	if err != nil {
		return nil, err
	}
	properties, err := message.PropertiesBehindBody(rest, magic)
	if err != nil {
		return nil, fmt.Errorf("log position %d: %w", e.Position, err)
	}
	return properties, nil
}

func (p *probe) read(log *commitlog.Log, position int64, n int) (data []byte, err error) {
	if p.slices, err = log.Slices(p.slices[:0], position, n, &p.pins); err != nil {
		return nil, err
	}
	if len(p.slices) == 1 {
		return p.slices[0], nil
	}
	p.copied = p.copied[:0]
	for _, s := range p.slices {
		p.copied = append(p.copied, s...)
	}
	return p.copied, nil
}

// ReadApart fills p with the record at a log position, without bringing its neighbours into memory.
func (s *Store) ReadApart(p []byte, position int64) error {
	if err := s.log.ReadApart(p, position); err != nil {
		return notFound(position, err)
	}
	return nil
}

// InMemory tells whether the message at offset can be read without the disk.
func (s *Store) InMemory(q *Queue, offset int64) bool {
	e, err := s.entry(q, offset)
	return err == nil && s.log.InMemory(e.Position)
}

// hot is the log position from which on memory may hold what is read.
func (s *Store) hot() int64 { return s.log.Confirmed() - s.log.MemoryBytes() }

// IsCold tells whether the message at offset, or the next one that compaction has left, is farther from the log's end than its memory
// reaches.
func (s *Store) IsCold(q *Queue, offset int64) bool {
	offset, err := q.Skip(offset)
	if err != nil {
		return false
	}
	e, err := s.entry(q, offset)
	return err == nil && e.Position < s.hot()
}

// DistanceFromEnd returns how many bytes of log were written since the message at offset; 0 where there is none.
func (s *Store) DistanceFromEnd(q *Queue, offset int64) int64 {
	e, err := s.entry(q, offset)
	if err != nil || e.Hole() {
		return 0
	}
	return s.log.Confirmed() - e.Position
}

func (s *Store) entry(q *Queue, offset int64) (view.Entry, error) {
	entries, err := q.Entries(nil, offset, 1)
	if err != nil {
		return view.Entry{}, err
	}
	if len(entries) == 0 {
		return view.Entry{}, ErrNotFound
	}
	return entries[0], nil
}

// ErrNotFound says that there is no message where one was asked for.
var ErrNotFound = errors.New("no message there")

// RecordAt returns a copy of the record at a log position, and the record in it. Apogee's own state is never found.
func (s *Store) RecordAt(position int64) (r message.Record, raw []byte, err error) {
	head, err := s.log.Read(position, message.MinRecordSize)
	if err != nil {
		return r, nil, notFound(position, err)
	}
	size, _ := message.Peek(head)
	if size < message.MinRecordSize || int64(size) > s.log.SegmentBytes() {
		return r, nil, fmt.Errorf("log position %d: %w", position, ErrNotFound)
	}
	if raw, err = s.log.Read(position, size); err != nil {
		return r, nil, notFound(position, err)
	}
	r, _, err = message.Decode(raw)
	if err != nil || r.PhysicalOffset != position || message.IsStateTopic(string(r.Topic)) {
		return r, nil, fmt.Errorf("log position %d: %w", position, ErrNotFound)
	}
	if !s.log.Intact(raw) {
		s.rotten(position)
		return r, nil, fmt.Errorf("log position %d: %w: it is damaged", position, ErrNotFound)
	}
	return r, raw, nil
}

// Pins hold the log's memory that slices are in.
type Pins = commitlog.Pins

// Look is RecordAt without a copy: the record lies in the log's memory, and is valid until pins are released.
func (s *Store) Look(position int64, pins *Pins) (r message.Record, raw []byte, err error) {
	var buf [2][]byte
	slices, err := s.log.Slices(buf[:0], position, message.MinRecordSize, pins)
	if err != nil {
		return r, nil, notFound(position, err)
	}
	var head [8]byte
	if n := copy(head[:], slices[0]); n < len(head) {
		copy(head[n:], slices[1])
	}
	size, _ := message.Peek(head[:])
	if size < message.MinRecordSize || int64(size) > s.log.SegmentBytes() {
		return r, nil, fmt.Errorf("log position %d: %w", position, ErrNotFound)
	}
	if slices, err = s.log.Slices(buf[:0], position, size, pins); err != nil {
		return r, nil, notFound(position, err)
	}
	if raw = slices[0]; len(slices) > 1 {
		raw = bytes.Join(slices, nil)
	}
	r, _, err = message.Decode(raw)
	if err == nil && r.PhysicalOffset == position && !pins.Intact(position, size) {
		s.rotten(position)
		err = message.ErrChecksum
	}
	if err != nil || r.PhysicalOffset != position || message.IsStateTopic(string(r.Topic)) {
		return r, nil, fmt.Errorf("log position %d: %w", position, ErrNotFound)
	}
	return r, raw, nil
}

// notFound tells a position that the log does not hold from one that cannot be read.
func notFound(position int64, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, commitlog.ErrGone) {
		err = ErrNotFound
	}
	return fmt.Errorf("log position %d: %w", position, err)
}

// StoreTime returns the store time in ms of the message at a queue offset.
func (s *Store) StoreTime(q *Queue, offset int64) (int64, error) {
	e, err := s.entry(q, offset)
	if err != nil {
		return 0, err
	}
	if e.Hole() {
		return 0, ErrNotFound
	}
	raw, err := s.log.Read(e.Position, int(e.Size))
	if err != nil {
		return 0, notFound(e.Position, err)
	}
	r, _, err := message.Decode(raw)
	return r.StoreTime, err
}

// OffsetByTime returns the first offset whose store time is at least t, or with upper the last one whose store time is at most t
// (BoundaryType). Before the queue's messages it returns the first offset, beyond them the end.
func (s *Store) OffsetByTime(q *Queue, t int64, upper bool) (int64, error) {
	first, end := q.Bounds()
	if upper && t < math.MaxInt64 {
		t++
	}
	var failed error
	n := sort.Search(int(end-first), func(i int) bool {
		for at := first + int64(i); failed == nil; at++ {
			if at, failed = q.Skip(at); failed != nil || at >= end {
				break
			}
			stored, err := s.StoreTime(q, at)
			if err == nil {
				return stored >= t
			}
			if !errors.Is(err, ErrNotFound) {
				failed = err
			} // where a damaged record left a hole, the next one's time holds
		}
		return true
	})
	offset := first + int64(n)
	if upper && offset > first && offset < end {
		offset--
	}
	return offset, failed
}

// RecordStart returns the offset of the first message in the record that holds the one at offset: the offset itself, but in a batch.
func (s *Store) RecordStart(q *Queue, offset int64) (int64, error) {
	e, err := s.entry(q, offset)
	if err != nil || !e.Part {
		return offset, err
	}
	return s.firstOffset(e)
}

// keyHitsMax bounds the records that one search by key reads.
const keyHitsMax = 10_000

// FindKey calls fn with the messages of a topic that have the key, newest first, stored within [begin, end] ms, until it returns false.
// fn decides whether the message really has the key: the index holds hashes. It looks at keyHitsMax messages at most.
func (s *Store) FindKey(topic, key string, begin, end int64, fn func(r *message.Record, raw []byte) bool) error {
	return s.findHash(KeyHash([]byte(topic), []byte(key)), topic, begin, end, fn)
}

// FindTag is FindKey for the messages that have the tag.
func (s *Store) FindTag(topic, tag string, begin, end int64, fn func(r *message.Record, raw []byte) bool) error {
	return s.findHash(TagHash([]byte(topic), []byte(tag)), topic, begin, end, fn)
}

func (s *Store) findHash(hash uint64, topic string, begin, end int64, fn func(r *message.Record, raw []byte) bool) error {
	hits := 0
	return s.view.FindKey(hash, begin, end, func(position int64) bool {
		if hits++; hits > keyHitsMax {
			return false
		}
		r, raw, err := s.RecordAt(position)
		if err != nil || string(r.Topic) != topic || r.StoreTime < begin || r.StoreTime > end {
			return true
		}
		return fn(&r, raw)
	})
}

// LastRecord returns the log position behind the newest confirmed record and its store time.
func (s *Store) LastRecord() (position, storeTime int64) {
	a := s.view.Applied()
	return a.Position, a.StoreTime
}
