package store

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Retention: whole segments go, the oldest first, when they are too old, when the log is too long, or when the disk fills up. What is
// still needed stays whatever else: the segment that is being written, everything behind the older base, and what is still asked for
// (Hold). A disk that is full refuses messages before anything has failed; reads, and changes of state, go on, and messages are taken
// again by themselves once there is room (MappedFileQueue's clean-up, DefaultMessageStore.CleanCommitLogService).

// Retention says when segments of the log are removed. Zero values never remove any.
type Retention struct {
	Age      time.Duration // since a segment's youngest message was stored (fileReservedTime)
	BytesMax int64         // of the log, whole segments
	// The disk's used part, 0 to 1, from which on the oldest segments go whatever their age (diskSpaceCleanForciblyRatio), and from which
	// on messages are refused (diskSpaceWarningLevelRatio). Neither counts while at least FreeBytes are free.
	CleanRatio, FullRatio float64
	FreeBytes             int64
}

const (
	// retainInterval is the pause between looks at age and disk; retainSoon when the disk is filling up.
	retainInterval = 10 * time.Second
	retainSoon     = time.Second
	// readableLag is how far behind what is flushed a record is read from the file: no reader meets the block that is being written.
	readableLag = 1 << 20
	// stageFreeBytesMin is the space below which the view stays in memory: a database that runs out of it cannot go on.
	stageFreeBytesMin = 64 << 20
)

// Hold is asked before segments go: from which log position on records are still needed, math.MaxInt64 for none. Retention would like
// to remove what lies before wanted, and asks again later.
type Hold func(wanted int64) (from int64, err error)

// Hold lets retention begin.
func (s *Store) Hold(from Hold) {
	s.hold.Store(&from)
	s.RetainNow()
}

// RetainNow has retention look at once, and returns before it has.
func (s *Store) RetainNow() {
	select {
	case s.shell.retain <- struct{}{}:
	default:
	}
}

// retain removes what may go, refuses messages or takes them again, and tells how long to wait before the next look. noSpare is why there
// is no spare segment.
func (s *Store) retain(noSpare error) (wait time.Duration, err error) {
	if s.damaged != nil { // the next start must find the damage again
		return retainInterval, nil
	}
	usage, known := s.diskUsage()
	first, _ := s.log.Bounds()
	crowded := known && s.c.Retention.reached(s.c.Retention.CleanRatio, usage)
	keep, err := s.disposable(usage, crowded)
	if err == nil && keep > first {
		err = s.retireBefore(keep)
	}
	if crowded {
		if _, dropErr := s.log.DropSpares(); err == nil {
			err = dropErr
		}
		usage, known = s.diskUsage()
	}
	full := noSpare
	if full != nil {
		full = fmt.Errorf("%w: %w", ErrNoSpace, full)
	} else if known && s.c.Retention.reached(s.c.Retention.FullRatio, usage) {
		full = fmt.Errorf("%w: the disk of %s has %d of %d bytes in use, the limit is diskSpaceWarningLevelRatio=%.0f%%; make room, or raise it", ErrNoSpace, s.c.Dir,
			usage.UsedBytes, usage.UsedBytes+usage.AvailBytes, s.c.Retention.FullRatio*100)
	}
	s.refuse(full)
	if known && full == nil {
		s.ballast.keep(usage)
	}
	if crowded || full != nil {
		return retainSoon, err
	}
	return retainInterval, err
}

// refuse makes Append refuse messages with err, or take them again.
func (s *Store) refuse(err error) {
	before := s.refused.Load()
	if err == nil {
		if before != nil {
			s.refused.Store(nil)
			s.c.Logger.Info("messages are taken again")
		}
		return
	}
	if before == nil {
		s.c.Logger.Error("messages are refused", "error", err)
	}
	s.refused.Store(&err)
}

// diskUsage asks the file system; known is false where it cannot tell, as in memory.
func (s *Store) diskUsage() (usage vfs.DiskUsage, known bool) {
	usage, err := s.c.FS.GetDiskUsage(s.c.Dir)
	return usage, err == nil && usage.UsedBytes+usage.AvailBytes > 0
}

// reached tells whether so much of what the disk has for us, what is kept for the system left out, is in use
// (UtilAll.getDiskPartitionSpaceUsedPercent).
func (r *Retention) reached(ratio float64, u vfs.DiskUsage) bool {
	return ratio > 0 && float64(u.UsedBytes) >= ratio*float64(u.UsedBytes+u.AvailBytes) && int64(u.AvailBytes) < r.FreeBytes
}

// disposable returns the log position before which everything may go.
func (s *Store) disposable(usage vfs.DiskUsage, crowded bool) (int64, error) {
	r := &s.c.Retention
	first, end := s.log.Bounds()
	segment := s.log.SegmentBytes()
	keep := first
	if r.Age > 0 {
		var err error
		if keep, err = s.expired(s.c.Now().Add(-r.Age).UnixMilli()); err != nil {
			return first, err
		}
	}
	if r.BytesMax > 0 {
		for end-keep > max(r.BytesMax, segment) {
			keep += segment
		}
	}
	if crowded {
		over := float64(usage.UsedBytes) - r.CleanRatio*float64(usage.UsedBytes+usage.AvailBytes)
		keep = max(keep, first+segment*int64(1+over/float64(segment)))
	}
	hold := s.hold.Load()
	if keep == first || hold == nil {
		return first, nil
	}
	keep = min(keep, s.log.Confirmed())
	needed, err := (*hold)(keep)
	if err != nil {
		return first, err
	}
	keep = max(first, min(keep, needed))
	return keep - (keep-first)%segment, nil
}

// expired returns the start of the first segment that may hold a message stored at or after a time, in ms. Store times never go back: what
// stands before a segment is not younger than its first record.
func (s *Store) expired(before int64) (int64, error) {
	first, _ := s.log.Bounds()
	keep, segment := first, s.log.SegmentBytes()
	for next := first + segment; next+readableLag <= s.log.Flushed(); next += segment {
		r, found, err := s.log.ReadRecord(next)
		if err != nil {
			return keep, err
		}
		if found && r.StoreTime >= before {
			break
		}
		if found { // a damaged one says nothing; the next one does
			keep = next
		}
	}
	return keep, nil
}

// retireBefore removes segments as far as bases allow: whoever rebuilds the view from the older one needs the log from there on.
func (s *Store) retireBefore(keep int64) error {
	bases, err := s.bases()
	if err == nil && (len(bases) < basesKept || bases[0] < keep) {
		if err = s.Stage(); err == nil {
			err = s.WriteBase()
		}
		if err == nil {
			bases, err = s.bases()
		}
	}
	if err != nil {
		return err
	}
	first, _ := s.log.Bounds()
	if len(bases) < basesKept {
		return nil // the next look finds two, once the log has grown
	}
	keep = min(keep, bases[0])
	if keep -= (keep - first) % s.log.SegmentBytes(); keep <= first {
		return nil
	}
	s.view.SetFirst(keep)
	freed, err := s.log.Retire(keep)
	now, _ := s.log.Bounds()
	s.c.Logger.Info("old segments were removed", "from", first, "to", now, "bytesFreed", freed)
	return err
}
