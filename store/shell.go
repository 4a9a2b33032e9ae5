package store

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// shell drives the step functions of log and view: one goroutine each for writing, confirming, spares, asynchronous flush, the database
// and its bases. They end in the order of the data's way, so that what was appended before Close is confirmed and staged.
type shell struct {
	stop       chan struct{}
	turn       sync.Mutex // held by whoever takes a group commit through
	confirm    chan []*Batch
	confirming atomic.Int32   // groups that the confirmer has not finished
	wait       sync.WaitGroup // writer, then confirmer
	timers     sync.WaitGroup // the others
	nudge      chan struct{}  // the log has grown much beyond the view
	retain     chan struct{}  // retention is to look at once
	based      chan struct{}  // something was staged: a base may be due
	closeOnce  sync.Once

	stages   sync.Mutex // guards what follows
	tried    sync.Cond  // a stage has ended
	stageErr error      // of the last one
	ended    bool       // no further one
}

// systemClock is the default of Config.Now.
func systemClock() time.Time { return time.Now() }

const (
	// stageBytesMin is how far the log has to be ahead of the view for a stage, other than after stageIntervalsMax intervals.
	stageBytesMin     = 16 << 20
	stageIntervalsMax = 12
	// stageBytesPerQueue is how much log for each queue that was written to is worth a stage.
	stageBytesPerQueue = 16 << 10
)

// confirmQueue is how many group commits may wait for their confirmation.
const confirmQueue = 64

func (s *Store) start() {
	s.shell.stop = make(chan struct{})
	s.shell.tried.L = &s.shell.stages
	s.shell.confirm = make(chan []*Batch, confirmQueue)
	s.shell.nudge = make(chan struct{}, 1)
	s.shell.retain = make(chan struct{}, 1)
	s.shell.based = make(chan struct{}, 1)
	s.shell.wait.Add(2)
	go s.writer()
	go s.confirmer()
	s.shell.timers.Add(5)
	go s.spareMaker()
	go s.readAhead()
	go s.flusher()
	go s.stager()
	go s.baser()
}

func (s *Store) writer() {
	defer s.shell.wait.Done()
	defer close(s.shell.confirm)
	for {
		s.shell.turn.Lock()
		worked := s.takeTurn()
		s.shell.turn.Unlock()
		if worked {
			continue
		}
		select {
		case <-s.log.Work():
		case <-s.shell.stop: // nothing is in flight any more
			return
		}
	}
}

// smallGroup is the number of records up to which a group is confirmed by whoever wrote it: waking the confirmer would take longer.
const smallGroup = 4

// takeTurn writes what is encoded and sees to its confirmation; false when there was nothing. The caller holds the turn.
func (s *Store) takeTurn() bool {
	batches := s.log.Step()
	if batches == nil {
		return false
	}
	records := 0
	for _, b := range batches {
		records += len(b.Entries)
	}
	if records <= smallGroup && s.shell.confirming.Load() == 0 {
		s.confirmGroup(batches)
		return true
	}
	s.shell.confirming.Add(1)
	s.shell.confirm <- batches
	return true
}

func (s *Store) confirmer() {
	defer s.shell.wait.Done()
	for batches := range s.shell.confirm {
		s.confirmGroup(batches)
		s.shell.confirming.Add(-1)
	}
}

// stageIsDue tells whether the log is so far ahead of the view that it must not wait for the clock. A stage costs so much for each queue, so
// that many queues make it later.
func (s *Store) stageIsDue() bool {
	ahead := s.log.Confirmed() - s.staged.Load()
	return ahead > s.c.ViewLagBytesMax/4 && (ahead > s.c.ViewLagBytesMax/2 || ahead > int64(s.view.Changed())*stageBytesPerQueue)
}

func (s *Store) confirmGroup(batches []*Batch) {
	s.log.Confirm(batches, s.apply)
	if s.stageIsDue() {
		s.nudge()
	}
}

func (s *Store) nudge() {
	select {
	case s.shell.nudge <- struct{}{}:
	default:
	}
}

// viewIsBehind tells whether a start would have to replay more than twice viewLagBytesMax.
func (s *Store) viewIsBehind() bool { return s.log.Confirmed()-s.staged.Load() > 2*s.c.ViewLagBytesMax }

// awaitRoom returns why no message is taken. It holds senders back while the view is too far behind, so that replays and memory are bounded;
// they are refused once a stage has failed.
func (s *Store) awaitRoom() error {
	if err := s.takesMessages(); err != nil || !s.viewIsBehind() {
		return err
	}
	s.shell.stages.Lock()
	defer s.shell.stages.Unlock()
	for s.viewIsBehind() && !s.shell.ended {
		at := s.staged.Load()
		if err := s.shell.stageErr; err != nil {
			return fmt.Errorf("%w, which is %d bytes ahead, the limit is twice viewLagBytesMax=%d; it goes on once this is mended: %w", ErrBehind, s.log.Confirmed()-at, s.c.ViewLagBytesMax, err)
		}
		s.nudge()
		if s.shell.tried.Wait(); s.shell.stageErr == nil && s.staged.Load() == at {
			break // there was nothing to stage
		}
	}
	return nil
}

// staged tells those who wait that a stage has ended, or that there will be no further one.
func (s *shell) staged(err error, ended bool) {
	s.stages.Lock()
	s.stageErr, s.ended = err, s.ended || ended
	s.stages.Unlock()
	s.tried.Broadcast()
}

// AppendNow is Append for a single record that somebody waits for: when the writer is idle, the caller's goroutine takes the record to
// the disk and confirms it itself, which saves two wake-ups. Done may run before it returns.
func (s *Store) AppendNow(b *Batch) error {
	if err := s.awaitRoom(); err != nil {
		return err
	}
	if err := s.log.AppendQuietly(b); err != nil {
		return err
	}
	if !s.shell.turn.TryLock() {
		s.log.Wake()
		return nil
	}
	s.takeTurn() // once: a connection must not become the writer for all others
	s.shell.turn.Unlock()
	s.log.WakeIfPending() // records that came while the turn was taken, and whose callers found it so
	return nil
}

// spareMaker sees to it that there is a next segment, and to what there is too much of.
func (s *Store) spareMaker() {
	defer s.shell.timers.Done()
	for {
		wait, err := s.retain(s.log.SpareStep())
		if err != nil {
			s.c.Logger.Error("old segments cannot be removed", "error", err)
		}
		select {
		case <-s.log.WantSpare():
		case <-s.shell.retain:
		case <-time.After(wait):
		case <-s.shell.stop:
			return
		}
	}
}

// readAhead reads blocks of the log before they are asked for.
func (s *Store) readAhead() {
	defer s.shell.timers.Done()
	for {
		select {
		case block := <-s.log.WantAhead():
			s.log.ReadAhead(block)
		case <-s.shell.stop:
			return
		}
	}
}

func (s *Store) flusher() {
	defer s.shell.timers.Done()
	ticker := time.NewTicker(s.c.FlushInterval)
	defer ticker.Stop()
	recorded := int64(-1)
	for {
		select {
		case <-ticker.C:
			if err := s.log.SyncStep(); err != nil {
				s.c.Logger.Error("fsync failed: the log stops", "error", err)
			}
			if flushed := s.log.Flushed(); flushed != recorded {
				recorded = flushed
				if err := writeMark(s.c.FS, s.c.path("state", "checkpoint"), flushed, false); err != nil {
					s.c.Logger.Warn("cannot write the checkpoint", "error", err)
				}
			}
		case <-s.shell.stop:
			return
		}
	}
}

func (s *Store) stager() {
	defer s.shell.timers.Done()
	ticker := time.NewTicker(s.c.StageInterval)
	defer ticker.Stop()
	for passed := 1; ; passed++ {
		select {
		case <-ticker.C:
			if passed < stageIntervalsMax && s.log.Confirmed()-s.staged.Load() < stageBytesMin {
				continue // each stage makes a table: few and large ones, a replay of this much takes no time
			}
		case <-s.shell.nudge:
		case <-s.shell.stop:
			s.shell.staged(nil, true)
			return
		}
		passed = 0
		err := s.stage()
		s.shell.staged(err, false)
		if err != nil {
			s.c.Logger.Error("cannot bring the view to disk; it is kept in memory", "error", err)
			continue
		}
		select {
		case s.shell.based <- struct{}{}:
		default:
		}
	}
}

// baser writes bases. It has a goroutine of its own: with millions of messages that wait a base takes seconds, for which the view must not
// grow in memory, nor the log ahead of it.
func (s *Store) baser() {
	defer s.shell.timers.Done()
	for {
		select {
		case <-s.shell.based:
		case <-s.shell.stop:
			return
		}
		if err := s.baseIfDue(); err != nil && !errors.Is(err, errStopping) {
			s.c.Logger.Error("cannot write a base; the next stage tries again", "error", err)
		}
	}
}

// Settle waits until all that was appended is confirmed or has failed.
func (s *Store) Settle() { s.log.Settle() }

// Close stops taking appends, confirms what was appended, flushes log and view, and closes the files. Nobody may be in a read.
func (s *Store) Close() error {
	var err error
	s.shell.closeOnce.Do(func() {
		s.log.Drain()
		close(s.shell.stop)
		s.shell.timers.Wait()
		s.shell.wait.Wait()
		err = errors.Join(s.log.SyncStep(), s.stage(),
			writeMark(s.c.FS, s.c.path("state", "checkpoint"), s.log.Flushed(), true))
		s.log.Stop()
		err = errors.Join(err, s.closeFiles())
	})
	return err
}

func (s *Store) closeFiles() error {
	var errs []error
	if s.view != nil {
		errs = append(errs, s.view.Close())
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	return errors.Join(append(errs, s.lock.Close())...)
}
