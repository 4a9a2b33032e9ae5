package view

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// coldBlock is the database block of a queue that was read last: a consumer that catches up reads it many times.
type coldBlock struct {
	first int64
	data  []byte
}

func (b *coldBlock) holds(offset int64) bool {
	return b != nil && offset >= b.first && int(offset-b.first)*entryBytes < len(b.data)
}

// coldBytesMax is how much all queues keep of the database: 800 whole blocks.
const coldBytesMax = 16 << 20

// coldBlocks bounds what queues keep of the database: the block goes whose queue has had one for longest.
type coldBlocks struct {
	mu     sync.Mutex // guards what follows
	queues []*Queue
	bytes  int
}

// keep makes a block the queue's. The caller holds the queue's mu.
func (c *coldBlocks) keep(q *Queue, first int64, data []byte) *coldBlock {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &coldBlock{first: first}
	if old := q.cold.Load(); old != nil {
		b.data = old.data[:0]
		c.bytes -= len(old.data)
	} else {
		c.queues = append(c.queues, q)
	}
	b.data = append(b.data, data...)
	q.cold.Store(b)
	for c.bytes += len(data); c.bytes > coldBytesMax; c.queues = c.queues[1:] {
		c.take(c.queues[0])
	}
	return b
}

// drop lets go of the queue's block.
func (c *coldBlocks) drop(q *Queue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.take(q)
}

func (c *coldBlocks) take(q *Queue) {
	if gone := q.cold.Swap(nil); gone != nil {
		c.bytes -= len(gone.data)
	}
}

// loadCold reads the database block that holds offset, and keeps it. The caller holds mu.
func (q *Queue) loadCold(offset int64) (*coldBlock, error) {
	missing := fmt.Errorf("queue %s/%d: no index block for offset %d", q.Topic, q.ID, offset)
	var at pointer
	found := false
	if err := q.pointers(offset, func(p pointer) bool { at, found = p, p.first <= offset; return false }); err != nil {
		return nil, err
	}
	if !found {
		return nil, missing
	}
	be := binary.BigEndian
	prefix := append(at.run.prefix('q'), q.key('q')[1:]...)
	it, err := q.view.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: be.AppendUint64(prefix[:len(prefix):len(prefix)], uint64(offset)+1)})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	if !it.Last() {
		if err := it.Error(); err != nil {
			return nil, err
		}
		return nil, missing
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return nil, err
	}
	key := it.Key()
	return q.view.cold.keep(q, int64(be.Uint64(key[len(key)-8:])), value), nil
}
