package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store/commitlog"
)

// A directory of RocketMQ is taken over where it lies: its log is the log; the state in config/ goes into the view and a first base;
// queue indexes and keys are made anew from the log, and only how far each queue had come is read from consumequeue/. Nothing of
// RocketMQ's is changed or removed. The mark state/rocketmq-end is written last: until then the take-over begins again at each start.

// beginImport fills the empty view with what stands beside the log.
func (s *Store) beginImport() error {
	if s.c.Import != nil {
		state, err := s.c.Import(s.c.FS, s.c.Dir)
		if err != nil {
			return fmt.Errorf("cannot take over RocketMQ's configuration in %s: %w", s.c.path("config"), err)
		}
		for kind, changes := range state {
			s.view.Import(kind, changes)
		}
	}
	for folder, end := range map[string]func(string) (int64, error){"consumequeue": s.consumeQueueEnd, "batchconsumequeue": s.batchQueueEnd} {
		if err := s.eachConsumeQueue(folder, end); err != nil {
			return err
		}
	}
	return nil
}

// finishImport makes the take-over durable.
func (s *Store) finishImport(end int64) error {
	if err := s.view.StageAll(); err != nil {
		return err
	}
	if applied := s.view.Applied(); applied.LastRecord >= 0 {
		if err := s.WriteBase(); err != nil {
			return err
		}
	}
	s.staged.Store(end)
	s.foreign = end
	s.c.Logger.Info("a directory of RocketMQ was taken over", "dir", s.c.Dir, "logEnd", end)
	return writeMark(s.c.FS, s.foreignEndPath(), end, true)
}

// EachForeign calls fn for the messages of a queue from an offset on that RocketMQ wrote. One that cannot be read is passed over.
func (s *Store) EachForeign(q *Queue, from int64, fn func(r *message.Record) error) error {
	const page = 2048
	at, next := q.Bounds()
	var pins Pins
	defer pins.Release()
	for at = max(at, from); at < next; {
		entries, err := q.Entries(nil, at, page)
		if err != nil || len(entries) == 0 {
			return err
		}
		at += int64(len(entries))
		for _, e := range entries {
			if e.Hole() || e.Position >= s.foreign {
				continue
			}
			r, raw, err := s.Look(e.Position, &pins)
			if err != nil || r.Verify(raw) != nil {
				s.c.Logger.Warn("a message of RocketMQ cannot be read and is passed over", "topic", q.Topic, "position", e.Position, "error", err)
				continue
			}
			if err := fn(&r); err != nil {
				return err
			}
		}
		pins.Release()
	}
	return nil
}

// foreignCrashed tells whether RocketMQ did not get to end: it removes this file when it does (StorePathConfigHelper.getAbortFile).
func (s *Store) foreignCrashed() bool {
	_, err := s.c.FS.Stat(s.c.path("abort"))
	return err == nil
}

const (
	// foreignUnitBytes is ConsumeQueue.CQ_STORE_UNIT_SIZE: log position 8, size 4, tags code 8.
	foreignUnitBytes = 20
	// foreignBatchUnitBytes is BatchConsumeQueue.CQ_STORE_UNIT_SIZE: the same, store time 8, first offset 8, messages 2, unused 8.
	foreignBatchUnitBytes = 46
	foreignQueueMax       = 1 << 16
)

// eachConsumeQueue gives every queue that RocketMQ has files of in a folder its next offset, which end reads.
func (s *Store) eachConsumeQueue(folder string, end func(dir string) (int64, error)) error {
	root := s.c.path(folder)
	topics, err := s.listIfThere(root)
	if err != nil {
		return err
	}
	for _, topic := range topics {
		ids, err := s.listIfThere(s.c.FS.PathJoin(root, topic))
		if err != nil {
			return err
		}
		for _, name := range ids {
			id, err := strconv.ParseUint(name, 10, 32)
			if err != nil || id >= foreignQueueMax {
				continue
			}
			next, err := end(s.c.FS.PathJoin(root, topic, name))
			if err != nil {
				return err
			}
			if next > 0 {
				s.view.Floor(topic, int32(id), next)
			}
		}
	}
	return nil
}

func (s *Store) listIfThere(dir string) ([]string, error) {
	names, err := s.c.FS.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

// consumeQueueEnd reads how far a queue's files go: their names are byte positions, and a unit that is used has a size.
func (s *Store) consumeQueueEnd(dir string) (next int64, err error) {
	names, err := s.listIfThere(dir)
	if err != nil {
		return 0, err
	}
	slices.Sort(names)
	for _, name := range slices.Backward(names) {
		start, err := strconv.ParseInt(name, 10, 64)
		if err != nil || len(name) != 20 {
			continue
		}
		used, _, err := s.usedUnits(s.c.FS.PathJoin(dir, name), foreignUnitBytes)
		if err != nil {
			return 0, err
		}
		if used > 0 || start == 0 {
			return start/foreignUnitBytes + used, nil
		}
		next = max(next, start/foreignUnitBytes) // a file that was made ahead
	}
	return next, nil
}

// batchQueueEnd is consumeQueueEnd for the queues of batches, whose units hold their offsets.
func (s *Store) batchQueueEnd(dir string) (next int64, err error) {
	names, err := s.listIfThere(dir)
	if err != nil {
		return 0, err
	}
	slices.Sort(names)
	for _, name := range slices.Backward(names) {
		if len(name) != 20 {
			continue
		}
		used, last, err := s.usedUnits(s.c.FS.PathJoin(dir, name), foreignBatchUnitBytes)
		if err != nil {
			return 0, err
		}
		if used > 0 {
			return int64(binary.BigEndian.Uint64(last[28:])) + int64(binary.BigEndian.Uint16(last[36:])), nil
		}
	}
	return 0, nil
}

// usedUnits counts a file's units of a size up to the last one that is used, which it returns; those before the first message are blank.
func (s *Store) usedUnits(path string, size int) (n int64, last []byte, err error) {
	f, err := s.c.FS.Open(path)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, nil, err
	}
	b := make([]byte, int(st.Size())/size*size)
	if _, err := f.ReadAt(b, 0); err != nil {
		return 0, nil, err
	}
	for at := len(b) - size; at >= 0; at -= size {
		if binary.BigEndian.Uint32(b[at+8:]) > 0 {
			return int64(at/size) + 1, b[at : at+size], nil
		}
	}
	return 0, nil, nil
}

// leftBehind is what RocketMQ makes anew from the log and config/, and what is ours alone.
var leftBehind = []string{"consumequeue", "batchconsumequeue", "index", "checkpoint", "timerlog", "view", "spare", "ballast"}

// Leave hands the directory back to RocketMQ: config holds the files for its config/, by name. The store is closed then, and the
// directory is RocketMQ's: its log as it is, zeros behind its end, nothing that RocketMQ derives from it (abort makes it do so anew), and nothing of
// ours. A crash on the way leaves a directory that opens here.
func (s *Store) Leave(config map[string][]byte) error {
	if s.damaged != nil {
		return s.takesState()
	}
	if err := s.Close(); err != nil {
		return err
	}
	lock, err := s.c.FS.Lock(s.c.path("lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := commitlog.ZeroRest(s.c.FS, s.c.Files, s.c.path("commitlog"), s.log.Confirmed(), s.log.SegmentBytes()); err != nil {
		return err
	}
	if err := s.c.FS.MkdirAll(s.c.path("config"), 0o755); err != nil {
		return err
	}
	for name, content := range config {
		if err := writeAside(s.c.FS, s.c.path("config", name), content, true); err != nil {
			return err
		}
	}
	// From here on it is RocketMQ's: what is ours goes in any order.
	if err := s.c.FS.Remove(s.foreignEndPath()); err != nil {
		return err
	}
	if err := syncDir(s.c.FS, s.c.path("state")); err != nil {
		return err
	}
	names, err := s.c.FS.List(s.c.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if slices.Contains(leftBehind, name) || strings.HasPrefix(name, "timerwheel") { // which has snapshots beside it
			if err := s.c.FS.RemoveAll(s.c.path(name)); err != nil {
				return err
			}
		}
	}
	if err := writeAside(s.c.FS, s.c.path("abort"), nil, true); err != nil {
		return err
	}
	if err := s.c.FS.RemoveAll(s.c.path("state")); err != nil {
		return err
	}
	return syncDir(s.c.FS, s.c.Dir)
}
