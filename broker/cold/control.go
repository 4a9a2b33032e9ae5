package cold

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Options are the settings; names of RocketMQ's keys in brackets.
type Options struct {
	Enabled     bool  // coldDataFlowControlEnable
	Adaptive    bool  // coldCtrStrategyEnable: limits of groups follow what all read together
	PID         bool  // usePIDColdCtrStrategy: by a PID formula
	GroupBytes  int64 // cgColdReadThreshold: of a group in a window
	GlobalBytes int64 // globalColdReadThreshold: of all groups in a window
}

// DefaultOptions are RocketMQ's.
func DefaultOptions() Options { return Options{PID: true, GroupBytes: 3 << 20, GlobalBytes: 100 << 20} }

const (
	// Window is how long reads are added up.
	Window = 5 * time.Second
	// forgetAfter is how long a group is remembered after its last read of cold data.
	forgetAfter = time.Minute
	// adaptiveSuffix marks a limit that the strategy set, where it is shown.
	adaptiveSuffix = "||adaptive"
	// slowedMax is how many groups one window slows down, those with the highest limits.
	slowedMax = 3
)

// reader is a group that reads cold data.
type reader struct {
	bytes         int64 // in this window
	created, last time.Time
}

// Control adds up what groups read.
type Control struct {
	mu      sync.Mutex // guards what follows
	readers map[string]*reader
	limits  map[string]int64 // of groups, as administrators set them
	adapted map[string]int64 // of groups, as the strategy set them
	total   int64            // bytes of all groups in this window
	ends    time.Time        // of this window
	pid     pid
}

// New returns a control that has seen nothing.
func New() *Control {
	return &Control{readers: map[string]*reader{}, limits: map[string]int64{}, adapted: map[string]int64{}}
}

// Read notes that a group has read bytes of cold data.
func (c *Control) Read(group string, bytes int64, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.readers[group]
	if r == nil {
		r = &reader{created: now}
		c.readers[group] = r
	}
	r.bytes += bytes
	r.last = now
	c.total += bytes
}

// Exhausted tells whether a group has read as much cold data in this window as it may.
func (c *Control) Exhausted(group string, o Options) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.readers[group]
	return r != nil && (r.bytes >= c.limit(group, o) || c.total >= o.GlobalBytes)
}

// SetLimit gives a group a limit of its own, in bytes of a window; Remove takes it back.
func (c *Control) SetLimit(group string, bytes int64) {
	c.mu.Lock()
	c.limits[group] = bytes
	c.mu.Unlock()
}

// Remove is described at SetLimit.
func (c *Control) Remove(group string) {
	c.mu.Lock()
	delete(c.limits, group)
	c.mu.Unlock()
}

// limit returns what a group may read in a window. The caller holds mu.
func (c *Control) limit(group string, o Options) int64 {
	if n, ok := c.limits[group]; ok {
		return n
	}
	if n, ok := c.adapted[group]; ok && o.Adaptive {
		return n
	}
	return o.GroupBytes
}

// Tick ends the window if its time is over.
func (c *Control) Tick(now time.Time, o Options) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Before(c.ends) {
		return
	}
	c.ends = now.Add(Window)
	if !o.Adaptive {
		clear(c.adapted)
	} else {
		c.pid.collect(o.GlobalBytes*8/10 - c.total)
	}
	for group, r := range c.readers {
		if !now.Before(r.last.Add(forgetAfter)) {
			delete(c.readers, group)
			delete(c.adapted, group)
			continue
		}
		if o.Adaptive && r.bytes >= c.limit(group, o) && c.total <= o.GlobalBytes {
			c.speedUp(group, o)
		}
		r.bytes = 0
	}
	if o.Adaptive {
		c.slowDown(o)
	}
	c.total = 0
}

// speedUp raises the limit of a group that has come to it, unless an administrator set it. The caller holds mu.
func (c *Control) speedUp(group string, o Options) {
	if _, fixed := c.limits[group]; !fixed && (!o.PID || c.pid.factor() > 0) {
		c.adapted[group] = c.limit(group, o) * 3 / 2
	}
}

// slowDown lowers the highest limits that the strategy raised, if all together read too much. The caller holds mu.
func (c *Control) slowDown(o Options) {
	if o.PID && c.pid.factor() >= 0 || !o.PID && c.total <= o.GlobalBytes {
		return
	}
	groups := make([]string, 0, len(c.adapted))
	for group := range c.adapted {
		if _, fixed := c.limits[group]; !fixed {
			groups = append(groups, group)
		}
	}
	slices.SortFunc(groups, func(a, b string) int {
		if c.adapted[a] != c.adapted[b] {
			return int(max(-1, min(1, c.adapted[b]-c.adapted[a])))
		}
		return strings.Compare(a, b)
	})
	for _, group := range groups[:min(slowedMax, len(groups))] {
		c.adapted[group] = max(c.adapted[group]*8/10, o.GroupBytes)
	}
}

// Info is what GET_COLD_DATA_FLOW_CTR_INFO answers, under RocketMQ's names.
type Info struct {
	Readers map[string]ReaderInfo `json:"runtimeTable"`
	Limits  map[string]int64      `json:"configTable"`
	Group   int64                 `json:"cgColdReadThreshold"`
	Global  int64                 `json:"globalColdReadThreshold"`
	Total   int64                 `json:"globalAcc"`
}

// ReaderInfo is a group that has read cold data in the last minute.
type ReaderInfo struct {
	Bytes   int64 `json:"coldAcc"` // in this window
	Created int64 `json:"createTimeMills"`
	Last    int64 `json:"lastColdReadTimeMills"`
}

// Info returns what is known now.
func (c *Control) Info(o Options) Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := Info{Readers: map[string]ReaderInfo{}, Limits: map[string]int64{}, Group: o.GroupBytes, Global: o.GlobalBytes, Total: c.total}
	for group, r := range c.readers {
		info.Readers[group] = ReaderInfo{r.bytes, r.created.UnixMilli(), r.last.UnixMilli()}
	}
	for group, n := range c.limits {
		info.Limits[group] = n
	}
	for group, n := range c.adapted {
		info.Limits[group+adaptiveSuffix] = n
	}
	return info
}

// pidWindows is how many windows the formula looks at.
const pidWindows = 10

// pid decides by how far all groups together stayed below what is wanted, in the last windows (PIDAdaptiveColdCtrStrategy).
type pid struct{ left []int64 }

func (p *pid) collect(left int64) {
	if p.left = append(p.left, left); len(p.left) > pidWindows {
		p.left = slices.Delete(p.left, 0, 1)
	}
}

// factor is above 0 when there is room, below when there is too little, 0 until enough is known.
func (p *pid) factor() float64 {
	if len(p.left) < pidWindows {
		return 0
	}
	now, before, sum := p.left[pidWindows-1], p.left[pidWindows-2], int64(0)
	for _, n := range p.left {
		sum += n
	}
	return 0.5*float64(now) + 0.3*float64(sum) + 0.2*float64(now-before)
}
