package view

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store/commitlog"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrVersion: what is read has a newer format than this program knows.
var ErrVersion = errors.New("written by a newer version of this program: use that one")

// ErrBroken: the database cannot be read, and has to be made anew.
var ErrBroken = errors.New("the view is broken")

// formatVersion of the database; a newer one is refused as a version, an older one is made anew.
const formatVersion = 5

// Applied is what the database is true up to.
type Applied struct {
	Position   int64 // log position behind the last record
	LastRecord int64 // position of that record; -1 when there was none
	StoreTime  int64 // of that record, ms
}

// Mutation changes one entry of the broker's state; a nil value deletes it.
type Mutation struct {
	Key   string
	Value []byte
}

// KindQueues is the kind of state whose deletion of a topic drops all its queues.
const KindQueues = "queues"

// View is the derived state. Apply and Freeze exclude one another; readers run beside both.
type View struct {
	db      *pebble.DB
	fs      vfs.FS
	dir     string
	options *pebble.Options

	queuesMu sync.RWMutex // guards what follows
	queues   map[string][]*Queue
	leaving  map[string]int // deletions of a topic that have their place in the log and are not applied yet
	light    int            // light queues among them

	first atomic.Int64 // log position that the log begins at
	cold  coldBlocks

	applyMu sync.Mutex // guards what follows
	now     Applied
	onLight func(topic string) // told of each message in a light queue; nil: nobody
	changed []*Queue           // with entries that are not in the database
	dropped [][]byte           // keys, or prefixes of them, of what was dropped since the last Freeze
	frozen  *Frozen            // not in the database yet
	end     int64              // log position that the database has been written up to
	partial bool               // a replay from the log's beginning has not ended
	keys    keyPart            // of what came since the last Freeze

	// of Sweep, Stage and Flush
	sweeping  []*Queue // still to be looked at
	swept     int64    // the log's beginning at the last full sweep
	runsFrom  int64    // the log's beginning when runs of keys were last deleted
	unflushed bool
	flushing  <-chan struct{} // a flush that has not ended
	failed    chan error      // what Pebble reports meanwhile

	stateMu sync.RWMutex // guards the two layers of state that are not in the database
	state   stateLayer
	staging stateLayer
}

// Open opens the database in dir, or makes it. A crash leaves it true as of an earlier position.
func Open(fs vfs.FS, dir string) (*View, error) { return open(fs, dir, false) }

// OpenReadOnly opens a database that there is, and changes nothing. Only what reads may be called.
func OpenReadOnly(fs vfs.FS, dir string) (*View, error) { return open(fs, dir, true) }

func open(fs vfs.FS, dir string, readOnly bool) (*View, error) {
	v := &View{
		fs: fs, dir: dir, queues: map[string][]*Queue{}, leaving: map[string]int{}, state: stateLayer{},
		now: Applied{LastRecord: -1}, failed: make(chan error, 1),
	}
	o := databaseOptions(fs)
	o.ReadOnly = readOnly
	v.options = o
	var inUse atomic.Bool // until then, and in a look at it, damage is an error of the call that meets it
	o.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) {
			select {
			case v.failed <- err:
			default:
			}
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			if inUse.Load() {
				v.giveUp(info)
			}
		},
	}
	var err error
	if _, statErr := fs.Stat(v.brokenMark()); statErr == nil && !readOnly {
		err = fmt.Errorf("%w: the node ended when it found that out", ErrBroken)
	} else if v.db, err = pebble.Open(dir, o); err == nil {
		if err = v.load(); err != nil {
			_ = v.db.Close()
		}
		inUse.Store(!readOnly)
	}
	if pebble.IsCorruptionError(err) || errors.Is(err, iofs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrBroken, err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the view %s: %w", dir, err)
	}
	v.end, v.partial = v.now.Position, v.now.LastRecord < 0
	return v, nil
}

func (v *View) brokenMark() string { return v.fs.PathJoin(v.dir, "BROKEN") }

// giveUp ends the process, as what Pebble's file holds is not what was written: the next start makes the view anew.
func (v *View) giveUp(info pebble.DataCorruptionInfo) {
	f, err := v.fs.Create(v.brokenMark(), vfs.WriteCategoryUnspecified)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	remedy := "start again, and it is made anew from base and log, which have all that was acknowledged"
	if err != nil {
		remedy = fmt.Sprintf("remove %s and start again (the mark for that cannot be written: %v)", v.dir, err)
	}
	panic(fmt.Sprintf("the view is damaged, %s: %v; see to its disk; %s", info.Path, info.Details, remedy))
}

// Verify reads all of the database; the error of the first block that is damaged names its file. It returns how many keys there are.
func (v *View) Verify() (keys int64, err error) {
	it, err := v.db.NewIter(nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for valid := it.First(); valid; valid = it.Next() {
		keys++
	}
	return keys, it.Error()
}

// databaseOptions suit what is written: few large batches of entries that hardly compress (hashes, offsets) and are seldom rewritten.
func databaseOptions(fs vfs.FS) *pebble.Options {
	o := &pebble.Options{
		FS: fs, DisableWAL: true, Logger: quiet{},
		MemTableSize: 4 << 20,
		// Each stage writes keys of all queues that were written to, so that each compaction of the first level meets all that the next one
		// has: with many queues that is much after 8 tables. With 32, reads of many queues look into too many.
		L0CompactionThreshold: 16,
		L0StopWritesThreshold: 64,
		LBaseMaxBytes:         256 << 20,
		FormatMajorVersion:    pebble.FormatNewest,
	}
	for i := range o.Levels {
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	}
	for i := range o.TargetFileSizes {
		o.TargetFileSizes[i] = 32 << 20
	}
	return o
}

// quiet drops Pebble's chatter; its errors come back from calls, and a fatal one ends the process.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, a ...any) {
	panic(fmt.Sprintf(format, a...) + ": the view cannot go on; see to its disk and start again, the log has all that was acknowledged")
}

// Close closes the database without staging what is in memory.
func (v *View) Close() error { return v.db.Close() }

func (v *View) load() error {
	value, closer, err := v.db.Get([]byte("a"))
	if errors.Is(err, pebble.ErrNotFound) {
		return v.replayed()
	}
	if err != nil {
		return err
	}
	v.now, err = decodeApplied(value)
	if err = errors.Join(err, closer.Close()); err != nil {
		return err
	}
	if err := v.replayed(); err != nil {
		return err
	}
	be := binary.BigEndian
	err = v.scan([]byte("n"), func(key, value []byte) error {
		topic, id := string(key[:len(key)-5]), int32(be.Uint32(key[len(key)-4:]))
		q := v.Queue(topic, id)
		q.base, q.min = int64(be.Uint64(value)), int64(be.Uint64(value[8:]))
		return nil
	})
	if err != nil {
		return err
	}
	return v.loadCompacted()
}

// replayed tells that no replay has begun, or that it has ended.
func (v *View) replayed() error {
	_, closer, err := v.db.Get([]byte("r"))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = errors.Join(fmt.Errorf("%w: a replay did not end", ErrBroken), closer.Close())
	}
	return err
}

func decodeApplied(value []byte) (a Applied, err error) {
	if len(value) > 0 && value[0] > formatVersion {
		return a, fmt.Errorf("format version %d, the newest known is %d: %w", value[0], formatVersion, ErrVersion)
	}
	if len(value) != 25 || value[0] < formatVersion {
		return a, fmt.Errorf("%w: the applied position is %x", ErrBroken, value)
	}
	be := binary.BigEndian
	return Applied{int64(be.Uint64(value[1:])), int64(be.Uint64(value[9:])), int64(be.Uint64(value[17:]))}, nil
}

// scan calls fn for each entry whose key begins with prefix, with the rest of the key.
func (v *View) scan(prefix []byte, fn func(key, value []byte) error) error {
	return scan(v.db, prefix, fn)
}

func scan(db pebble.Reader, prefix []byte, fn func(key, value []byte) error) error {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := fn(it.Key()[len(prefix):], value); err != nil {
			return err
		}
	}
	return it.Error()
}

// after returns the least key that is greater than all that begin with prefix, which begins with a letter.
func after(prefix []byte) []byte {
	k := append([]byte(nil), prefix...)
	for k[len(k)-1] == 0xff {
		k = k[:len(k)-1]
	}
	k[len(k)-1]++
	return k
}

// Applied returns the position up to which the view, with what is in memory, is true.
func (v *View) Applied() Applied {
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	return v.now
}

// Queue returns a queue, made empty when it is new.
func (v *View) Queue(topic string, id int32) *Queue {
	if q := v.Find(topic, id); q != nil {
		return q
	}
	v.queuesMu.Lock()
	defer v.queuesMu.Unlock()
	list := v.queues[topic]
	if int(id) < len(list) && list[id] != nil {
		return list[id]
	}
	if n := len(list); n > 0 {
		topic = list[n-1].Topic // the name is in memory once; the last one is never nil
	}
	for int(id) >= len(list) {
		list = append(list, nil)
	}
	q := &Queue{Topic: topic, ID: id, view: v}
	q.holdsState = message.IsStateTopic(topic)
	q.Timed = topic == message.TopicSchedule || topic == message.TopicTimerWheel
	q.Pending = topic == message.TopicTimerWheel || topic == message.TopicHalf
	list[id] = q
	v.queues[topic] = list
	if message.IsLMQ(topic) {
		v.light++
	}
	return q
}

// LightQueues counts the queues whose topics are light.
func (v *View) LightQueues() int {
	v.queuesMu.RLock()
	defer v.queuesMu.RUnlock()
	return v.light
}

// OnLight has f told of each message that comes to a light queue, in the middle of a confirmation: it must neither block nor append.
func (v *View) OnLight(f func(topic string)) {
	v.applyMu.Lock()
	v.onLight = f
	v.applyMu.Unlock()
}

// LightTopics returns the light topics whose names begin with prefix.
func (v *View) LightTopics(prefix string) (names []string) {
	v.queuesMu.RLock()
	defer v.queuesMu.RUnlock()
	for name := range v.queues {
		if message.IsLMQ(name) && strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names
}

// forget takes a topic's queues away. The caller holds queuesMu.
func (v *View) forget(topic string) {
	if message.IsLMQ(topic) {
		for _, q := range v.queues[topic] {
			if q != nil {
				v.light--
			}
		}
	}
	delete(v.queues, topic)
}

// Find returns a queue that exists, nil otherwise. Asking never makes one.
func (v *View) Find(topic string, id int32) *Queue {
	v.queuesMu.RLock()
	defer v.queuesMu.RUnlock()
	if list := v.queues[topic]; id >= 0 && int(id) < len(list) {
		return list[id]
	}
	return nil
}

// Import takes over state of a kind, and Floor the least next offset of a queue, before the replay: what RocketMQ has left.
func (v *View) Import(kind string, changes []Mutation) {
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	v.applyState(kind, changes, false)
}

// Floor is described at Import.
func (v *View) Floor(topic string, id int32, next int64) { v.Queue(topic, id).floor = next }

// Ready ends the replay: every queue's sequence goes on behind what was found, in the log or in the base.
func (v *View) Ready() error {
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	v.partial = false
	if err := v.loadCompacted(); err != nil {
		return err
	}
	v.queuesMu.RLock()
	defer v.queuesMu.RUnlock()
	for _, list := range v.queues {
		for _, q := range list {
			if q != nil && q.settle(v.now.Position) {
				q.dirty = true
				v.changed = append(v.changed, q)
			}
		}
	}
	return nil
}

// SetFirst tells that the log holds nothing before a position any more.
func (v *View) SetFirst(position int64) { v.first.Store(position) }

// sweepMax is how many queues one Sweep looks at.
const sweepMax = 512

// Sweep brings queues that nobody uses past what the log does not hold any more, a few at a time. What is dead in the database is deleted
// with the next stage. Called by Stage's goroutine.
func (v *View) Sweep() {
	first := v.first.Load()
	if len(v.sweeping) == 0 {
		if v.swept == first {
			return
		}
		v.swept = first
		v.Each(func(q *Queue) { v.sweeping = append(v.sweeping, q) })
	}
	n := min(sweepMax, len(v.sweeping))
	var cut []*Queue
	for _, q := range v.sweeping[:n] {
		q.mu.Lock()
		q.retire()
		if q.block > q.cut {
			cut = append(cut, q)
		}
		q.mu.Unlock()
	}
	if v.sweeping = v.sweeping[n:]; len(v.sweeping) == 0 {
		v.sweeping = nil
	}
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	for _, q := range cut {
		if !q.dirty && v.Find(q.Topic, q.ID) == q {
			q.dirty = true
			v.changed = append(v.changed, q)
		}
	}
}

// Leave is told that a topic's deletion has its place in the log: its queues take no more records, and one that is asked for from now
// on is new.
func (v *View) Leave(topic string) {
	v.queuesMu.Lock()
	defer v.queuesMu.Unlock()
	for _, q := range v.queues[topic] {
		if q != nil {
			q.End()
		}
	}
	v.forget(topic)
	v.leaving[topic]++
}

// Each calls fn for every queue.
func (v *View) Each(fn func(q *Queue)) {
	v.queuesMu.RLock()
	defer v.queuesMu.RUnlock()
	for _, list := range v.queues {
		for _, q := range list {
			if q != nil {
				fn(q)
			}
		}
	}
}

// QueuesOf returns the queues of a topic.
func (v *View) QueuesOf(topic string) (list []*Queue) {
	v.queuesMu.RLock()
	defer v.queuesMu.RUnlock()
	for _, q := range v.queues[topic] {
		if q != nil {
			list = append(list, q)
		}
	}
	return list
}

// Queues returns every queue, sorted by topic and id.
func (v *View) Queues() []*Queue {
	var list []*Queue
	v.Each(func(q *Queue) { list = append(list, q) })
	slices.SortFunc(list, func(a, b *Queue) int { return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.ID, b.ID)) })
	return list
}

// Change is what a message changes of a kind of the broker's state; of none when the kind is empty.
type Change struct {
	Kind    string
	Changes []Mutation
}

// Message is a record as the view sees it.
type Message struct {
	Queue       *Queue
	QueueOffset int64
	Entry       Entry
	StoreTime   int64
	Keys        []uint64
	Numbering   *commitlog.Numbering // nil: the record takes one offset of its queue; the stamps' targets are queues
	State       []Mutation           // of a state record
	Retires     Change               // of state, by replacing its source
	Pends       Change               // of state, by waiting: entries whose keys name the record, and are new
	Restart     bool                 // an offset that was there before begins the queue anew: RocketMQ keeps a deleted topic's messages in its log
}

// Begin and End enclose the application of a group of records; position is the log's behind the last of them.
func (v *View) Begin() { v.applyMu.Lock() }

// End ends what Begin began.
func (v *View) End(position int64) {
	v.now.Position = position
	v.applyMu.Unlock()
}

// Pass goes by a state record that a base covers already. What it dropped is dropped again: messages from before it have just been
// replayed.
func (v *View) Pass(m *Message) {
	v.now.LastRecord, v.now.StoreTime = m.Entry.Position, m.StoreTime
	if m.Queue.kind() == KindQueues {
		v.drop(m.State, false) // what compaction left is of the base, and of a later topic
	}
}

// Apply takes the next record of the log. Whoever sees a message in its queue sees what state it changes.
func (v *View) Apply(m *Message) {
	v.now.LastRecord, v.now.StoreTime = m.Entry.Position, m.StoreTime
	q := m.Queue
	if c := &m.Retires; c.Kind != "" {
		v.applyState(c.Kind, c.Changes, false)
	}
	if c := &m.Pends; c.Kind != "" {
		v.applyState(c.Kind, c.Changes, true)
	}
	if m.Numbering == nil {
		v.enter(q, m.QueueOffset, 1, m)
	} else {
		v.enterAll(m)
	}
	if q.holdsState {
		v.applyState(q.kind(), m.State, false)
	}
	if len(m.Keys) > 0 {
		v.keys.add(m.Entry.Position, m.StoreTime, m.Keys)
	}
}

// enter puts a record into a queue, which it takes span offsets of.
func (v *View) enter(q *Queue, offset, span int64, m *Message) {
	if q.append(offset, span, m.Entry, m.Restart) {
		v.dropped = append(v.dropped, q.key('n'), q.key('q'))
	}
	if !q.dirty {
		q.dirty = true
		v.changed = append(v.changed, q)
	}
	if v.onLight != nil && message.IsLMQ(q.Topic) {
		v.onLight(q.Topic)
	}
}

// enterAll puts a record into every queue that it stands in, into each once.
func (v *View) enterAll(m *Message) {
	v.enter(m.Queue, m.QueueOffset, m.Numbering.Span, m)
	stamps := m.Numbering.Stamps
	for i, s := range stamps {
		same := func(other commitlog.Stamp) bool { return other.Sequence == s.Sequence }
		if q := s.Target.(*Queue); q != m.Queue && !slices.ContainsFunc(stamps[:i], same) {
			v.enter(q, s.Offset, 1, m)
		}
	}
}

func (v *View) applyState(kind string, changes []Mutation, fresh bool) {
	v.stateMu.Lock()
	for _, c := range changes {
		v.state.set(kind, c.Key, c.Value, fresh)
	}
	v.stateMu.Unlock()
	switch kind {
	case KindQueues:
		v.drop(changes, true)
	case KindCompaction:
		v.compact(changes)
	}
}

func (v *View) drop(changes []Mutation, compacted bool) {
	for _, c := range changes {
		if c.Value != nil {
			continue
		}
		v.dropQueues(c.Key)
		if compacted {
			v.dropCompacted(c.Key)
		}
	}
}

// dropQueues forgets the queues of a deleted topic; a new topic of that name begins at offset 0.
func (v *View) dropQueues(topic string) {
	v.queuesMu.Lock()
	if n := v.leaving[topic]; n > 1 {
		v.leaving[topic] = n - 1
	} else if n == 1 {
		delete(v.leaving, topic)
	} else {
		v.forget(topic)
	}
	v.queuesMu.Unlock()
	kept := v.changed[:0]
	for _, q := range v.changed {
		if q.Topic != topic {
			kept = append(kept, q)
		}
	}
	v.changed = kept
	for _, kind := range []byte("nq") {
		v.dropped = append(v.dropped, append(append([]byte{kind}, topic...), 0))
	}
}
