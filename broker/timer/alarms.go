package timer

import "container/heap"

// Alarms are things by the time, in ms, at which something is to be done with them: each at most once.
type Alarms[K comparable] struct {
	order alarmHeap[K]
}

type alarm[K comparable] struct {
	what K
	at   int64
}

// Set gives a thing its time, or another one.
func (a *Alarms[K]) Set(what K, at int64) {
	if a.order.index == nil {
		a.order.index = map[K]int{}
	}
	if i, ok := a.order.index[what]; ok {
		a.order.list[i].at = at
		heap.Fix(&a.order, i)
		return
	}
	heap.Push(&a.order, alarm[K]{what, at})
}

// Remove takes a thing out; false when it was not in.
func (a *Alarms[K]) Remove(what K) bool {
	i, ok := a.order.index[what]
	if ok {
		heap.Remove(&a.order, i)
	}
	return ok
}

// Len counts them.
func (a *Alarms[K]) Len() int { return len(a.order.list) }

// First returns the earliest time; ok is false when there is nothing.
func (a *Alarms[K]) First() (at int64, ok bool) {
	if len(a.order.list) == 0 {
		return 0, false
	}
	return a.order.list[0].at, true
}

// Due takes out what is due, at most so much.
func (a *Alarms[K]) Due(now int64, most int) (list []K) {
	for at, ok := a.First(); ok && at <= now && len(list) < most; at, ok = a.First() {
		list = append(list, heap.Pop(&a.order).(alarm[K]).what)
	}
	return list
}

type alarmHeap[K comparable] struct {
	list  []alarm[K]
	index map[K]int
}

func (h *alarmHeap[K]) Len() int           { return len(h.list) }
func (h *alarmHeap[K]) Less(i, j int) bool { return h.list[i].at < h.list[j].at }
func (h *alarmHeap[K]) Swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	h.index[h.list[i].what], h.index[h.list[j].what] = i, j
}
func (h *alarmHeap[K]) Push(x any) {
	e := x.(alarm[K])
	h.index[e.what] = len(h.list)
	h.list = append(h.list, e)
}
func (h *alarmHeap[K]) Pop() any {
	e := h.list[len(h.list)-1]
	h.list = h.list[:len(h.list)-1]
	delete(h.index, e.what)
	return e
}
