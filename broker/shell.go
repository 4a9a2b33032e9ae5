package broker

import (
	"context"
	"time"
)

// tickInterval is the resolution of deadlines.
const tickInterval = 100 * time.Millisecond

// offsetRecordInterval is how long a one-way offset commit may wait for its record.
const offsetRecordInterval = 200 * time.Millisecond

// wakers serve woken pulls beside one another.
const wakers = 2

// Start begins the broker's own work: deadlines, expiry, recording of offsets, delayed messages, woken pulls. Stop ends it.
func (b *Broker) Start() {
	b.wait.Add(2 + wakers)
	go b.ticker()
	b.delays.Start(b.stop, &b.wait)
	b.rounds.Start(b.stop, &b.wait)
	go b.transactions.run()
	b.pop.Start()
	for range wakers {
		go b.waker()
	}
}

func (b *Broker) ticker() {
	defer b.wait.Done()
	t := time.NewTicker(tickInterval)
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-t.C:
			b.Tick(b.c.Now())
			if n%int(offsetRecordInterval/tickInterval) == 0 {
				b.offsets.record()
			}
		case <-b.stop:
			return
		}
	}
}

func (b *Broker) waker() {
	defer b.wait.Done()
	for {
		select {
		case p := <-b.wake:
			b.serveHeld(p, true)
		case <-b.stop:
			return
		}
	}
}

// woken hands a pull to the wakers; it is called under the queue's lock and must not block.
func (b *Broker) woken(p *heldPull) {
	select {
	case b.wake <- p:
	default:
		go b.serveHeld(p, true)
	}
}

// spawn runs f on a goroutine of its own.
func (b *Broker) spawn(f func()) { go f() }

// Tick does what is due at now.
func (b *Broker) Tick(now time.Time) {
	b.expire(now)
	b.pop.Tick(now)
	b.clients.tick(now)
	b.filters.Tick(now)
	b.cold.Tick(now, b.live().cold)
	b.traffic.Tick(now)
}

// AnswerAll answers, when no more requests are read, what is still in flight: held pulls now, sends once they are confirmed.
func (b *Broker) AnswerAll(context.Context) {
	b.expire(b.c.Now().Add(farFuture))
	b.pop.Tick(b.c.Now().Add(farFuture))
	b.offsets.record()
	b.store.Settle()
}

// farFuture is later than any deadline.
const farFuture = 1000 * time.Hour

// Stop ends the broker's own work and records what offsets are left. The store is still open.
func (b *Broker) Stop() {
	close(b.stop)
	b.wait.Wait()
	b.pop.Stop()
	b.offsets.flush()
}
