package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store/commitlog"
	"github.com/apogeemq/apogee/store/view"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Config says where the store is and how it flushes. Zero values take the defaults.
type Config struct {
	FS    vfs.FS              // nil: the disk
	Files commitlog.SegmentFS // nil: the disk, direct writes where possible
	Dir   string              // the store's root: commitlog/, spare/, state/, view/

	SegmentBytes     int64         // length of a log segment; default 1 GiB
	MemoryBytesMax   int64         // log tail and cache; default 64 MiB
	UnsyncedBytesMax int64         // appended and not yet on disk; default 32 MiB
	AsyncFlush       bool          // acknowledge what is written; fsync every FlushInterval
	FlushInterval    time.Duration // default 500 ms (flushIntervalCommitLog)
	ViewLagBytesMax  int64         // log from which on the view is brought to disk, half of what may have to be replayed at a start; default 256 MiB
	StageInterval    time.Duration // default 5 s; while little happens, every twelfth
	AcceptDamage     bool          // take appends although the middle of the log is damaged
	MultiDispatch    bool          // records that name light queues stand in them as well; those that do already, do so whatever this is
	Retention        Retention     // what may be removed

	// DueTime gives what the index of a schedule queue, or of rmq_sys_wheel_timer, holds instead of a tag's code: when the message is due,
	// ms. Nil: the tag's code. Of a record that is confirmed its body must not be looked at.
	DueTime func(r *message.Record) int64
	// Retired gives the change of state that comes with a record that names its source (PreparedOffset): the source is done with. It is
	// asked when such a record is replayed; who appends one gives the same changes as its Target (WithState). source is nil where the log
	// does not hold it any more, which happens when the view is made anew from an older base.
	Retired func(r, source *message.Record) (kind string, changes []Mutation)
	// Pending gives the change of state that comes with a record of a topic whose messages wait (rmq_sys_wheel_timer,
	// RMQ_SYS_TRANS_HALF_TOPIC). It is asked when such a record is confirmed, and when it is replayed; its position and store time are
	// known. Of a record that is confirmed its body must not be looked at.
	Pending func(r *message.Record) (kind string, changes []Mutation)
	// Import gives the state that RocketMQ has left beside a log of its own, by kind. It is asked when such a directory is first opened.
	Import func(fs vfs.FS, dir string) (map[string][]Mutation, error)

	Synced func(took time.Duration) // told of each fdatasync of the log, one at a time; it must not wait
	Now    func() time.Time         // default the system's clock
	Logger *slog.Logger
}

const (
	defaultFlushInterval   = 500 * time.Millisecond
	defaultViewLagBytesMax = 256 << 20
	defaultStageInterval   = 5 * time.Second
)

func (c *Config) setDefaults() {
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.FlushInterval == 0 {
		c.FlushInterval = defaultFlushInterval
	}
	if c.ViewLagBytesMax == 0 {
		c.ViewLagBytesMax = defaultViewLagBytesMax
	}
	if c.StageInterval == 0 {
		c.StageInterval = defaultStageInterval
	}
	if c.Now == nil {
		c.Now = systemClock
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}

func (c *Config) path(elements ...string) string {
	return c.FS.PathJoin(append([]string{c.Dir}, elements...)...)
}

// Batch and Entry are the log's; Entry.Target is the *Queue that the record belongs to, or a *WithState.
type (
	Batch = commitlog.Batch
	Entry = commitlog.Entry
	// Queue is one message queue.
	Queue = view.Queue
	// Mutation changes one entry of the broker's state; a nil value deletes it.
	Mutation = view.Mutation
)

// Why the store refuses.
var (
	// ErrStopped: a write or fsync of the log failed, or the store was closed. It is final.
	ErrStopped = commitlog.ErrStopped
	// ErrNoSpace: the log's next segment cannot be made. It passes.
	ErrNoSpace = commitlog.ErrNoSpace
	// ErrTooLarge: the record would not fit into a segment, or the batch is too large.
	ErrTooLarge = commitlog.ErrTooLarge
	// ErrEnded: the queue was deleted meanwhile.
	ErrEnded   = commitlog.ErrEnded
	ErrDamaged = errors.New("the log is damaged in its middle")
	// ErrBehind: the view cannot be brought to disk, and the log is as far ahead of it as it may be. It passes.
	ErrBehind = errors.New("the view cannot follow the log")
	// ErrVersion: view, base or a state record was written by a newer version.
	ErrVersion = view.ErrVersion
)

// Store is open for appends and reads until Close.
type Store struct {
	c    Config
	log  *commitlog.Log
	view *view.View
	lock io.Closer

	staging sync.Mutex   // one stage at a time
	basing  sync.Mutex   // one base at a time
	staged  atomic.Int64 // position up to which the view is on disk
	foreign int64        // log position before which RocketMQ wrote
	damaged []commitlog.Gap
	rot     sync.Map              // positions of records that were found damaged when they were read
	rots    atomic.Int64          // how many
	refused atomic.Pointer[error] // why no message is taken now
	hold    atomic.Pointer[Hold]
	ballast *ballast
	shell   shell
}

// Recovery says what Open found.
type Recovery struct {
	commitlog.Recovery
	From     int64 // where the replay began
	Replayed int64 // records
	Rebuilt  bool  // the view was made anew
	Imported bool  // the directory was RocketMQ's, and has been taken over
}

// WithState is the Target of a record that changes the broker's state by replacing another: the changes are applied, and staged,
// together with the record. A replay finds them again through Config.Retired.
type WithState struct {
	Queue   *Queue
	Kind    string
	Changes []Mutation
}

// Open opens or creates the store in c.Dir and replays what the view has not got yet. It takes appends and reads when it returns.
func Open(c Config) (*Store, Recovery, error) {
	var rec Recovery
	c.setDefaults()
	s := &Store{c: c}
	if err := s.makeDirs(); err != nil {
		return nil, rec, err
	}
	if c.Files == nil {
		files, err := commitlog.NewDiskFS(c.Dir, c.AsyncFlush)
		if err != nil {
			return nil, rec, err
		}
		s.c.Files = files
	}
	s.ballast = newBallast(&s.c)
	s.c.FS = vfs.OnDiskFull(c.FS, s.ballast.drop)
	lock, err := c.FS.Lock(c.path("lock"))
	if err != nil {
		return nil, rec, fmt.Errorf("the directory %s is in use by another process: %w", c.Dir, err)
	}
	s.lock = lock
	if rec, err = s.open(); err != nil {
		s.closeFiles()
		return nil, rec, err
	}
	s.start()
	return s, rec, nil
}

// makeDirs makes the directories durable, those above the store's root that did not exist included: a power cut could take them with all
// that is synced in them.
func (s *Store) makeDirs() error {
	fs, made := s.c.FS, []string{}
	for dir := s.c.Dir; ; dir = fs.PathDir(dir) {
		made = append(made, dir)
		if _, err := fs.Stat(dir); err == nil || fs.PathDir(dir) == dir {
			break
		}
	}
	for _, dir := range []string{"state", "commitlog", "spare"} {
		if err := fs.MkdirAll(s.c.path(dir), 0o755); err != nil {
			return err
		}
	}
	for _, dir := range made {
		if err := syncDir(fs, dir); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) open() (rec Recovery, err error) {
	foreignEnd, known, err := s.foreignEnd()
	if err != nil {
		return rec, err
	}
	s.foreign = foreignEnd
	s.log, err = commitlog.Open(commitlog.Options{
		FS: s.c.FS, Files: s.c.Files, Dir: s.c.path("commitlog"), SpareDir: s.c.path("spare"),
		SegmentBytes: s.c.SegmentBytes, MemoryBytesMax: s.c.MemoryBytesMax, UnsyncedBytesMax: s.c.UnsyncedBytesMax,
		AsyncFlush: s.c.AsyncFlush, Synced: s.c.Synced, Now: s.c.Now, ForeignEnd: foreignEnd, Whole: !known && !s.foreignCrashed(),
	})
	if err != nil {
		return rec, err
	}
	flushed, _, err := readMark(s.c.FS, s.c.path("state", "checkpoint"))
	if err != nil {
		return rec, err
	}
	was, err := s.openView(!known, &rec)
	if err != nil {
		return rec, err
	}
	applied := s.view.Applied()
	stateFrom := applied.Position
	rec.From = applied.Position
	if was.LastRecord < 0 || rec.Rebuilt { // queue indexes come from the log, state from the base
		rec.From = s.log.First()
	}
	flushed = max(flushed, was.Position, applied.Position)
	if rec.Imported = !known; !known {
		stateFrom = math.MaxInt64 // whatever state the log has is from before RocketMQ wrote here
	}
	if err := s.replayLog(&rec, flushed, applied, stateFrom); err != nil {
		return rec, err
	}
	s.view.SetFirst(s.log.First())
	if err := s.view.Ready(); err != nil {
		return rec, err
	}
	s.staged.Store(rec.From)
	for _, g := range rec.Gaps {
		s.c.Logger.Error("the log is damaged: messages are missing", "from", g.From, "to", g.To, "reason", g.Reason)
	}
	if len(rec.Gaps) > 0 && !s.c.AcceptDamage {
		s.damaged = rec.Gaps
	}
	if !known && s.damaged == nil {
		return rec, s.finishImport(rec.End)
	}
	return rec, nil
}

// openView opens the view, or makes it anew from the newest base, or from what RocketMQ left; then it has no queue indexes. It returns what
// the view that was found had applied.
func (s *Store) openView(foreign bool, rec *Recovery) (was view.Applied, err error) {
	was = view.Applied{LastRecord: -1}
	s.view, err = view.Open(s.c.FS, s.c.path("view"))
	broken := errors.Is(err, view.ErrBroken)
	if broken {
		s.c.Logger.Warn("the view is made anew from base and log", "error", err)
	} else if err != nil {
		return was, err
	} else {
		was = s.view.Applied()
	}
	if !broken && was.LastRecord >= 0 && !foreign && s.log.EndsRecord(was.LastRecord, was.Position) && was.Position >= s.log.First() {
		return was, nil
	}
	if broken || was.LastRecord >= 0 {
		rec.Rebuilt = true
		if err := s.discard(); err != nil {
			return was, err
		}
	}
	if foreign {
		return was, s.beginImport()
	}
	_, end := s.log.Bounds()
	return was, s.loadBase(end)
}

// replayLog finds the log's end and brings the view up to it. Changes of state count from stateFrom on.
func (s *Store) replayLog(rec *Recovery, flushed int64, applied view.Applied, stateFrom int64) (err error) {
	_, limit := s.log.Bounds()
	synced := limit - s.log.SegmentBytes() // a segment is synced when it is left
	kept := rec.From
	s.view.Begin()
	rec.Recovery, err = s.log.Recover(rec.From, flushed, applied.StoreTime, func(r *message.Record, raw []byte) error {
		rec.Replayed++
		if err := s.replay(r, raw, stateFrom); err != nil {
			return err
		}
		end := r.PhysicalOffset + int64(len(raw))
		if end-kept < s.c.ViewLagBytesMax || end > synced {
			return nil
		}
		kept = end // a long replay does not gather all of it in memory
		s.view.End(end)
		defer s.view.Begin()
		return s.view.StageAll()
	})
	s.view.End(rec.End)
	return err
}

// foreignEnd returns the log position before which RocketMQ wrote, whose records need not have a checksum of the whole record; known is
// false when that is still to be found out. It is kept from the first start on.
func (s *Store) foreignEnd() (end int64, known bool, err error) {
	if end, known, err = readMark(s.c.FS, s.foreignEndPath()); known || err != nil {
		return end, known, err
	}
	names, err := s.c.FS.List(s.c.path("commitlog"))
	if err != nil || len(names) > 0 {
		return math.MaxInt64, false, err
	}
	if _, err := s.c.FS.Stat(s.c.path("config")); err == nil { // a broker that never had a message
		return 0, false, nil
	}
	return 0, true, writeMark(s.c.FS, s.foreignEndPath(), 0, true)
}

func (s *Store) foreignEndPath() string { return s.c.path("state", "rocketmq-end") }

// discard puts an empty view in the place of one that is broken or not the log's.
func (s *Store) discard() (err error) {
	if s.view != nil {
		err = s.view.Close()
		s.view = nil
	}
	if err == nil {
		err = s.c.FS.RemoveAll(s.c.path("view"))
	}
	if err == nil {
		s.view, err = view.Open(s.c.FS, s.c.path("view"))
	}
	return err
}

// replay applies a record that is read back. State from before stateFrom is in the base already.
func (s *Store) replay(r *message.Record, raw []byte, stateFrom int64) error {
	m := view.Message{
		Queue:       s.view.Queue(string(r.Topic), r.QueueID),
		QueueOffset: r.QueueOffset,
		Entry:       view.Entry{Position: r.PhysicalOffset, Size: int32(len(raw)), TagsCode: TagsCodeOf(r)},
		StoreTime:   r.StoreTime,
		Restart:     r.PhysicalOffset < s.foreign,
	}
	s.schedule(&m, r)
	m.Numbering = s.numberingOf(r)
	if message.IsStateTopic(string(r.Topic)) {
		var err error
		if m.State, err = decodeState(r.Body, r.PhysicalOffset+int64(r.BodyOffset())); err != nil {
			return fmt.Errorf("state record at log position %d: %w", r.PhysicalOffset, err)
		}
		if r.PhysicalOffset < stateFrom {
			s.view.Pass(&m)
			return nil
		}
	} else {
		m.Keys, _ = keysOf(nil, r.Topic, r.Properties)
		if r.PhysicalOffset >= stateFrom {
			if err := s.retire(&m, r); err != nil {
				return err
			}
			s.pend(&m, r)
		}
	}
	s.view.Apply(&m)
	return nil
}

// retire adds to a replayed record what it changes by replacing its source.
func (s *Store) retire(m *view.Message, r *message.Record) error {
	if s.c.Retired == nil || r.PreparedOffset <= 0 || r.PreparedOffset >= r.PhysicalOffset {
		return nil
	}
	source, found, err := s.log.ReadRecord(r.PreparedOffset)
	switch {
	case err != nil:
		return err
	case found:
		m.Retires.Kind, m.Retires.Changes = s.c.Retired(r, &source)
	case r.PreparedOffset < s.log.First():
		m.Retires.Kind, m.Retires.Changes = s.c.Retired(r, nil)
	}
	return nil
}

// pend adds what a record changes by waiting.
func (s *Store) pend(m *view.Message, r *message.Record) {
	if m.Queue.Pending && s.c.Pending != nil {
		m.Pends.Kind, m.Pends.Changes = s.c.Pending(r)
	}
}

// schedule gives the entry of a queue of delays the time that it is due at, which needs the store time that the log has assigned.
func (s *Store) schedule(m *view.Message, r *message.Record) {
	if m.Queue.Timed && s.c.DueTime != nil {
		m.Entry.TagsCode = s.c.DueTime(r)
	}
}

// apply takes confirmed batches into the view.
func (s *Store) apply(batches []*Batch) {
	s.view.Begin()
	for _, b := range batches {
		for i := range b.Entries {
			e := &b.Entries[i]
			m := view.Message{
				QueueOffset: e.Record.QueueOffset,
				Entry:       view.Entry{Position: e.Record.PhysicalOffset, Size: e.Size, TagsCode: e.TagsCode},
				StoreTime:   e.Record.StoreTime,
				Numbering:   e.Numbering,
				Keys:        e.Keys,
			}
			switch t := e.Target.(type) {
			case *Queue:
				m.Queue = t
			case *stateTarget:
				m.Queue, m.State = t.queue, t.at(e.Record.PhysicalOffset+int64(e.Record.BodyOffset()))
			case *WithState:
				m.Queue, m.Retires = t.Queue, view.Change{Kind: t.Kind, Changes: t.Changes}
			}
			s.schedule(&m, &e.Record)
			s.pend(&m, &e.Record)
			s.view.Apply(&m)
		}
	}
	s.view.End(batches[len(batches)-1].End())
}

// TagsCodeOf computes what the queue index holds of a record's tag.
func TagsCodeOf(r *message.Record) int64 {
	return message.TagsCode(message.Property(r.Properties, message.PropTags))
}

// keysOf appends the hashes that the key index holds of a message: its unique key, each word of KEYS and its tag.
func keysOf(dst []uint64, topic, properties []byte) (keys []uint64, tag []byte) {
	for k, v := range message.Properties(properties) {
		switch string(k) {
		case message.PropUniqueKey:
			dst = append(dst, view.KeyHash(topic, v))
		case message.PropTags:
			if tag == nil {
				tag = v
			}
			if len(v) > 0 {
				dst = append(dst, view.TagHash(topic, v))
			}
		case message.PropKeys:
			for len(v) > 0 {
				n := 0
				for n < len(v) && v[n] != ' ' {
					n++
				}
				if n > 0 {
					dst = append(dst, view.KeyHash(topic, v[:n]))
				}
				v = v[min(n+1, len(v)):]
			}
		}
	}
	return dst, tag
}

// keysUsual is how many hashes few messages have more of: of the unique key, a tag and keys.
const keysUsual = 4

// IndexEntry notes what the indexes hold of an entry's record. It uses the room that e.Keys has.
func IndexEntry(e *Entry) {
	if e.Keys == nil {
		e.Keys = make([]uint64, 0, keysUsual)
	}
	keys, tag := keysOf(e.Keys[:0], e.Record.Topic, e.Record.Properties)
	e.Keys, e.TagsCode = keys, message.TagsCode(tag)
}

// EntryFor makes the entry of a record that goes to a queue.
func (s *Store) EntryFor(r message.Record, queue *Queue) Entry {
	r.QueueID = queue.ID
	e := Entry{Record: r, BodyCRC: crc32.ChecksumIEEE(r.Body), Sequence: &queue.Sequence, Target: queue}
	IndexEntry(&e)
	s.Number(&e, nil)
	return e
}

// KeyHash is what the key index holds of a topic's key, TagHash of a tag of its messages.
func KeyHash(topic, key []byte) uint64 { return view.KeyHash(topic, key) }
func TagHash(topic, tag []byte) uint64 { return view.TagHash(topic, tag) }

// Queue returns a queue, made empty when it is new. Find returns nil instead of making one.
func (s *Store) Queue(topic string, id int32) *Queue { return s.view.Queue(topic, id) }
func (s *Store) Find(topic string, id int32) *Queue  { return s.view.Find(topic, id) }

// QueuesOf returns the queues of a topic, those included that it had when it had more.
func (s *Store) QueuesOf(topic string) []*Queue { return s.view.QueuesOf(topic) }

// LightQueues counts the queues of light topics.
func (s *Store) LightQueues() int { return s.view.LightQueues() }

// OnLight has f told of each message that comes to a light queue, in the middle of a confirmation: it must neither block nor append.
func (s *Store) OnLight(f func(topic string)) { s.view.OnLight(f) }

// LightTopics returns the light topics whose names begin with prefix.
func (s *Store) LightTopics(prefix string) []string { return s.view.LightTopics(prefix) }

// Append appends a batch of messages; see commitlog.Log.Append.
func (s *Store) Append(b *Batch) error {
	if err := s.awaitRoom(); err != nil {
		return err
	}
	return s.log.Append(b)
}

// AppendCopies appends messages whose originals stand before what retention wants to remove. They are taken while others are refused for
// want of space: nothing would ever make room otherwise.
func (s *Store) AppendCopies(b *Batch) error {
	if s.refused.Load() == nil {
		return s.Append(b)
	}
	return s.appendState(b)
}

// takesMessages returns why no message is taken, nil if one is.
func (s *Store) takesMessages() error {
	if refused := s.refused.Load(); refused != nil {
		return *refused
	}
	return s.takesState()
}

// takesState returns why nothing at all is taken.
func (s *Store) takesState() error {
	if s.damaged == nil {
		return nil
	}
	g := s.damaged[0]
	return fmt.Errorf("%w: nothing valid from log position %d to %d; look with `apogee inspect`, or accept the loss with --accept-damage true", ErrDamaged, g.From, g.To)
}

// Writable returns nil while messages are taken.
func (s *Store) Writable() error {
	if err := s.takesMessages(); err != nil {
		return err
	}
	return s.log.Err()
}

// ForeignEnd returns the log position before which RocketMQ wrote; 0 when it did not.
func (s *Store) ForeignEnd() int64 { return s.foreign }

// Log gives the log's positions to metrics and to requests that name a log position.
func (s *Store) Log() *commitlog.Log { return s.log }
