package commitlog

import (
	"container/list"
	"fmt"
	"sync"
	"sync/atomic"
)

// arenaBlocks is how many blocks are taken from the system at once.
const arenaBlocks = 16

// block is a piece of the log in memory: blockBytes of it from index*blockBytes on. While the tail is being written into it, it is
// dirty and stays; afterwards it is a cache of the file, shared by all readers.
type block struct {
	index  int64
	data   []byte
	pins   atomic.Int32 // readers that hold slices of data
	dirty  bool         // guarded by blocks.mu: not yet whole and on disk
	read   bool         // some of data was read from the disk, not written by this process
	ahead  bool         // guarded by blocks.mu: read before somebody asked for it
	ready  chan struct{}
	err    error // set before ready is closed
	recent *list.Element
}

// blocks is the memory of the log: the tail's blocks and the cache of older ones, one table under one budget.
type blocks struct {
	blockBytes int
	limit      int // blocks that may be held; readers' pins and the tail may exceed it for a time

	mu     sync.Mutex // guards what follows
	table  map[int64]*block
	lru    list.List // clean blocks, the least recently used first
	spare  [][]byte
	arenas [][]byte
	held   int // buffers handed out of the arenas

	wanted chan int64  // indexes of blocks that will probably be asked for
	lazy   atomic.Bool // none are
}

// aheadQueue bounds the blocks that are to be read ahead; beyond it they are read when they are asked for.
const aheadQueue = 16

func newBlocks(blockBytes int, limitBytes int64) *blocks {
	return &blocks{
		blockBytes: blockBytes,
		limit:      max(8, int(limitBytes/int64(blockBytes))),
		table:      make(map[int64]*block),
		wanted:     make(chan int64, aheadQueue),
	}
}

// buffer returns memory for a block: an unused one, else that of the least recently used clean block, else new memory.
// The caller holds mu.
func (c *blocks) buffer() ([]byte, error) {
	if c.held >= c.limit {
		for e := c.lru.Front(); e != nil; e = e.Next() {
			b := e.Value.(*block)
			if b.pins.Load() == 0 {
				c.drop(b)
				break
			}
		}
	}
	if len(c.spare) == 0 {
		arena, err := allocate(c.blockBytes * arenaBlocks)
		if err != nil {
			return nil, fmt.Errorf("allocate %d bytes of log memory: %w", c.blockBytes*arenaBlocks, err)
		}
		c.arenas = append(c.arenas, arena)
		for i := range arenaBlocks {
			c.spare = append(c.spare, arena[i*c.blockBytes:(i+1)*c.blockBytes:(i+1)*c.blockBytes])
		}
	}
	buffer := c.spare[len(c.spare)-1]
	c.spare = c.spare[:len(c.spare)-1]
	c.held++
	return buffer, nil
}

// drop forgets a clean, unpinned block. The caller holds mu.
func (c *blocks) drop(b *block) {
	c.lru.Remove(b.recent)
	if c.table[b.index] == b {
		delete(c.table, b.index)
	}
	c.spare = append(c.spare, b.data)
	c.held--
	b.data = nil
}

// tail returns the dirty block that holds position pos, made if need be.
func (c *blocks) tail(pos int64) (*block, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	index := pos / int64(c.blockBytes)
	if b := c.table[index]; b != nil {
		return b, nil
	}
	data, err := c.buffer()
	if err != nil {
		return nil, err
	}
	b := &block{index: index, data: data, dirty: true}
	c.table[index] = b
	return b, nil
}

// settle makes all blocks that end at or before flushed ordinary cache: they are whole and on disk.
func (c *blocks) settle(from, flushed int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := from / int64(c.blockBytes); (i+1)*int64(c.blockBytes) <= flushed; i++ {
		if b := c.table[i]; b != nil && b.dirty {
			b.dirty = false
			b.recent = c.lru.PushBack(b)
		}
	}
}

// pin returns the block that holds pos, reading it with load if it is not in memory. The caller unpins it. Who reads one block after the
// other has the next one read ahead.
func (c *blocks) pin(pos int64, load func(data []byte, off int64) error) (*block, error) {
	index := pos / int64(c.blockBytes)
	c.mu.Lock()
	b := c.table[index]
	if b == nil {
		if c.table[index-1] != nil {
			c.want(index + 1)
		}
		b, err := c.insert(index)
		c.mu.Unlock()
		if err == nil {
			err = c.fill(b, load)
		}
		if err != nil {
			return nil, err
		}
		return b, nil
	}
	b.pins.Add(1)
	if b.recent != nil {
		c.lru.MoveToBack(b.recent)
	}
	if b.ahead {
		b.ahead = false
		c.want(index + 1)
	}
	c.mu.Unlock()
	if b.ready != nil {
		<-b.ready
		if b.err != nil {
			c.unpin(b)
			return nil, b.err
		}
	}
	return b, nil
}

// want asks for a block to be read ahead.
func (c *blocks) want(index int64) {
	if c.lazy.Load() {
		return
	}
	select {
	case c.wanted <- index:
	default:
	}
}

// readAhead reads a block that is not in memory.
func (c *blocks) readAhead(index int64, load func(data []byte, off int64) error) {
	c.mu.Lock()
	if c.table[index] != nil {
		c.mu.Unlock()
		return
	}
	b, err := c.insert(index)
	if err == nil {
		b.ahead = true
	}
	c.mu.Unlock()
	if err == nil && c.fill(b, load) == nil {
		c.unpin(b)
	}
}

// insert makes a block that fill is to fill, pinned for the caller, who holds mu.
func (c *blocks) insert(index int64) (*block, error) {
	data, err := c.buffer()
	if err != nil {
		return nil, err
	}
	b := &block{index: index, data: data, read: true, ready: make(chan struct{})}
	b.pins.Add(1)
	b.recent = c.lru.PushBack(b)
	c.table[index] = b
	return b, nil
}

// fill reads a block. After an error it is not pinned any more.
func (c *blocks) fill(b *block, load func(data []byte, off int64) error) error {
	b.err = load(b.data, b.index*int64(c.blockBytes))
	close(b.ready)
	if b.err == nil {
		return nil
	}
	c.mu.Lock()
	if c.table[b.index] == b {
		delete(c.table, b.index) // the next reader tries again; the buffer returns when the last pin goes
	}
	c.mu.Unlock()
	c.unpin(b)
	return b.err
}

// unpin gives a block back.
func (c *blocks) unpin(b *block) {
	if b.pins.Add(-1) > 0 || b.err == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.data != nil && b.pins.Load() == 0 {
		c.lru.Remove(b.recent)
		c.spare = append(c.spare, b.data)
		c.held--
		b.data = nil
	}
}

// close gives all memory back. Nobody may hold pins.
func (c *blocks) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.table)
	for _, a := range c.arenas {
		free(a)
	}
	c.arenas, c.spare = nil, nil
}

// inMemory tells whether pos can be read without the disk.
func (c *blocks) inMemory(pos int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.table[pos/int64(c.blockBytes)] != nil
}
