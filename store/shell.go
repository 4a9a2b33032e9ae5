package store

import (
	"errors"
	"sync"
	"time"
)

// shell drives the step functions of log and view: one goroutine each for writing, confirming, spares, asynchronous flush and the
// database. They end in the order of the data's way, so that what was appended before Close is confirmed and staged.
type shell struct {
	stop      chan struct{}
	confirm   chan []*Batch
	wait      sync.WaitGroup // writer, then confirmer
	timers    sync.WaitGroup // the others
	nudge     chan struct{}  // the log has grown much beyond the view
	closeOnce sync.Once
}

// confirmQueue is how many group commits may wait for their confirmation.
const confirmQueue = 64

// spareRetry is the pause after a spare segment could not be made.
const spareRetry = time.Second

func (s *Store) start() {
	s.shell.stop = make(chan struct{})
	s.shell.confirm = make(chan []*Batch, confirmQueue)
	s.shell.nudge = make(chan struct{}, 1)
	s.shell.wait.Add(2)
	go s.writer()
	go s.confirmer()
	s.shell.timers.Add(3)
	go s.spareMaker()
	go s.flusher()
	go s.stager()
}

func (s *Store) writer() {
	defer s.shell.wait.Done()
	defer close(s.shell.confirm)
	for {
		if batches := s.log.Step(); batches != nil {
			s.shell.confirm <- batches
			continue
		}
		select {
		case <-s.log.Work():
		case <-s.shell.stop:
			if batches := s.log.Step(); batches != nil {
				s.shell.confirm <- batches
				continue
			}
			return
		}
	}
}

func (s *Store) confirmer() {
	defer s.shell.wait.Done()
	for batches := range s.shell.confirm {
		s.log.Confirm(batches, s.apply)
		if s.log.Confirmed()-s.staged.Load() > s.c.ViewLagBytesMax/4 {
			select {
			case s.shell.nudge <- struct{}{}:
			default:
			}
		}
	}
}

func (s *Store) spareMaker() {
	defer s.shell.timers.Done()
	for {
		err := s.log.SpareStep()
		var retry <-chan time.Time
		if err != nil {
			s.c.Logger.Error("cannot make the next segment: sends are refused until it can be made", "error", err)
			retry = time.After(spareRetry)
		}
		select {
		case <-s.log.WantSpare():
		case <-retry:
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
				if err := writeCheckpoint(s.c.FS, s.c.path("state", "checkpoint"), flushed); err != nil {
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
	for {
		select {
		case <-ticker.C:
		case <-s.shell.nudge:
		case <-s.shell.stop:
			return
		}
		if err := s.Stage(); err != nil {
			s.c.Logger.Error("cannot bring the view to disk; it is kept in memory", "error", err)
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
		err = errors.Join(s.log.SyncStep(), s.Stage(),
			writeCheckpoint(s.c.FS, s.c.path("state", "checkpoint"), s.log.Flushed()))
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
