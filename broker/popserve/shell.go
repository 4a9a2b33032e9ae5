package popserve

import (
	"math"
	"time"
)

// The goroutines of the service: what is due again, lite topics that are too old, and pops that wait and have something.

// wakers serve waiting pops beside one another.
const wakers = 2

// Start begins the service's own work: deadlines, and pops that are woken. Stop ends it.
func (v *Service) Start() {
	v.wait.Add(2 + wakers)
	go v.reviver()
	go v.liteExpirer()
	for range wakers {
		go v.waker()
	}
}

// Stop ends the service's own work, and records what is not recorded yet.
func (v *Service) Stop() {
	close(v.stop)
	v.wait.Wait()
	v.Record()
}

func (v *Service) spawn(f func()) { go f() }

func (v *Service) waker() {
	defer v.wait.Done()
	for {
		select {
		case at := <-v.wakes:
			v.serveLine(at)
		case <-v.stop:
			return
		}
	}
}

// liteExpirer looks for lite topics that are too old, at first when they may have been used again since the start.
func (v *Service) liteExpirer() {
	defer v.wait.Done()
	next := time.NewTimer(v.host.Settings().LiteKeptMin)
	defer next.Stop()
	for {
		select {
		case <-next.C:
			v.expireLites(v.host.Now())
			next.Reset(v.host.Settings().LiteExpiryCheck)
		case <-v.stop:
			return
		}
	}
}

// arrived has a line served, by the wakers. It is called under a queue's lock and must not block.
func (v *Service) arrived(at *watch) {
	select {
	case v.wakes <- at:
	default:
		go v.serveLine(at)
	}
}

// reviver delivers again what is due.
func (v *Service) reviver() {
	defer v.wait.Done()
	t := v.table
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for {
		select {
		case <-t.nudge:
		case <-alarm.C:
		case <-v.stop:
			return
		}
		now := v.host.Now().UnixMilli()
		t.alarmsMu.Lock()
		due := t.deadlines.Due(now, math.MaxInt)
		t.alarmsMu.Unlock()
		for _, q := range due {
			v.revive(q, now)
		}
		t.alarmsMu.Lock()
		if at, ok := t.deadlines.First(); ok {
			alarm.Reset(time.Duration(max(at-v.host.Now().UnixMilli(), 1)) * time.Millisecond)
		}
		t.alarmsMu.Unlock()
	}
}
