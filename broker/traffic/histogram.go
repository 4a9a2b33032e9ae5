package traffic

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Histogram counts durations by their length.
type Histogram struct {
	bounds  []time.Duration
	classes []atomic.Int64 // one more than there are bounds
	sum     atomic.Int64   // ns
}

// NewHistogram returns one with these bounds, which ascend.
func NewHistogram(bounds ...time.Duration) *Histogram {
	return &Histogram{bounds: bounds, classes: make([]atomic.Int64, len(bounds)+1)}
}

// Note counts a duration; one below 0 counts as 0.
func (h *Histogram) Note(d time.Duration) {
	d = max(d, 0)
	i, _ := slices.BinarySearch(h.bounds, d)
	h.classes[i].Add(1)
	h.sum.Add(int64(d))
}

// Distribution is what a histogram counted: how many up to each bound, in seconds, all of them, and their sum in seconds.
type Distribution struct {
	Buckets map[float64]uint64
	Count   uint64
	Sum     float64
}

// Read returns what was counted up to now.
func (h *Histogram) Read() Distribution {
	d := Distribution{Buckets: map[float64]uint64{}, Sum: time.Duration(h.sum.Load()).Seconds()}
	for i := range h.classes {
		d.Count += uint64(h.classes[i].Load())
		if i < len(h.bounds) {
			d.Buckets[h.bounds[i].Seconds()] = d.Count
		}
	}
	return d
}

// Histograms has a histogram for each of so many names; what is counted beyond them has the name "".
type Histograms struct {
	namesMax int
	bounds   []time.Duration

	mu    sync.RWMutex // guards items
	items map[string]*Histogram
}

// NewHistograms returns histograms with these bounds.
func NewHistograms(namesMax int, bounds ...time.Duration) *Histograms {
	return &Histograms{namesMax: namesMax, bounds: bounds, items: map[string]*Histogram{}}
}

// Of returns the histogram of a name.
func (h *Histograms) Of(name string) *Histogram {
	h.mu.RLock()
	one := h.items[name]
	h.mu.RUnlock()
	if one != nil {
		return one
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, known := h.items[name]; !known && len(h.items) >= h.namesMax {
		name = ""
	}
	if h.items[name] == nil {
		h.items[name] = NewHistogram(h.bounds...)
	}
	return h.items[name]
}

// Each calls fn for every name.
func (h *Histograms) Each(fn func(name string, d Distribution)) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for name, one := range h.items {
		fn(name, one.Read())
	}
}
