package delay

import (
	"sync"
	"time"

	"github.com/apogeemq/apogee/broker/timer"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store"
)

// What the shells have in common that deliver messages at their time: a goroutine that takes turns, a mailbox for what it is to know, and
// batches of deliveries.

// mailbox holds events for a goroutine.
type mailbox[E any] struct {
	mu    *sync.Mutex // guards mail
	mail  *[]E
	nudge chan struct{}
}

func newMailbox[E any]() mailbox[E] {
	return mailbox[E]{mu: new(sync.Mutex), mail: new([]E), nudge: make(chan struct{}, 1)}
}

// tell hands an event to the goroutine. It never blocks: the log's goroutine calls it.
func (m *mailbox[E]) tell(e E) {
	m.mu.Lock()
	*m.mail = append(*m.mail, e)
	m.mu.Unlock()
	select {
	case m.nudge <- struct{}{}:
	default:
	}
}

// read takes what there is, and leaves the memory of into for what comes.
func (m *mailbox[E]) read(into []E) []E {
	m.mu.Lock()
	defer m.mu.Unlock()
	events := *m.mail
	*m.mail = into[:0]
	return events
}

// Start begins to deliver. Whoever closes stop waits for wait.
func (d *Delays) Start(stop <-chan struct{}, wait *sync.WaitGroup) {
	d.stop, d.wait = stop, wait
	wait.Add(2)
	go d.takeTurns(d.levels.nudge, d.levels.turn)
	go d.takeTurns(d.timed.nudge, d.timed.turn)
}

// takeTurns calls turn when it is nudged, as often as it has worked, and at the elapsed time that it asks for, until it is to stop.
func (d *Delays) takeTurns(nudge <-chan struct{}, turn func() (worked bool, wake int64)) {
	defer d.wait.Done()
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for {
		select {
		case <-nudge:
		case <-alarm.C:
		case <-d.stop:
			return
		}
		for again := true; again; {
			select {
			case <-d.stop:
				return
			default:
			}
			var wake int64
			if again, wake = turn(); !again && wake != timer.Never {
				alarm.Reset(time.Duration(max(wake-d.now().Elapsed, 1)) * time.Millisecond)
			}
		}
	}
}

// delivery is a batch of messages on their way to where they belong.
type delivery struct {
	store.Batch
	arena []byte
	topic []byte // that the message goes to which was added last; empty where that cannot be read
	last  store.WithState
	frees bool // so that retention can remove what it was copied from
}

var deliveries = sync.Pool{New: func() any { return new(delivery) }}

// newDelivery returns an empty one.
func newDelivery() *delivery {
	d := deliveries.Get().(*delivery)
	clear(d.Entries)
	d.Entries, d.arena, d.frees = d.Entries[:0], d.arena[:0], false
	return d
}

// add adds the delivery of a stored record, whose bytes are used until append returns.
func (d *delivery) add(s *Delays, raw []byte) error {
	d.topic = nil
	source, err := decodeWhole(raw)
	if err != nil {
		return err
	}
	d.topic = message.Property(source.Properties, message.PropRealTopic)
	var e store.Entry
	if e, d.arena, err = s.DeliveryOf(&source, d.arena, message.PropCRC); err != nil {
		return err
	}
	d.Entries = append(d.Entries, e)
	return nil
}

// append appends what was added, which changes the state. After nil done will be called, by the log's goroutine, and the delivery must not
// be used any more. The records are applied together, so the changes of all stand with the last.
func (d *delivery) append(s *store.Store, kind string, changes []store.Mutation, done func(error)) error {
	end := &d.Entries[len(d.Entries)-1]
	d.last = store.WithState{Queue: end.Target.(*store.Queue), Kind: kind, Changes: changes}
	end.Target = &d.last
	d.Done = func(_ *store.Batch, err error) {
		deliveries.Put(d)
		done(err)
	}
	if d.frees {
		return s.AppendCopies(&d.Batch)
	}
	return s.Append(&d.Batch)
}

// decodeWhole decodes a record whose checksums are right.
func decodeWhole(raw []byte) (message.Record, error) {
	r, _, err := message.Decode(raw)
	if err == nil {
		err = r.Verify(raw)
	}
	return r, err
}
