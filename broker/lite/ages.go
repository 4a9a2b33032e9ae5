package lite

// Ages says which lite topics are too old: those that nothing was sent to for as long as their parent says.
type Ages struct{ stored map[string]int64 }

// Next begins a look at all lite topics: what is not asked for in it is forgotten.
func (a *Ages) Next() *Look { return &Look{a.stored, map[string]int64{}} }

// Look is one look at all lite topics.
type Look struct{ before, stored map[string]int64 }

// Over tells whether a lite topic that is kept for so long without new messages, for ever if that is not above 0, is too old. LastStored,
// the time of its last message, is asked for only when it may be: a topic costs one read of the log in that time.
func (l *Look) Over(topic string, keptMS, now int64, lastStored func() int64) bool {
	if keptMS <= 0 {
		return false
	}
	at, known := l.before[topic]
	if !known || at+keptMS < now {
		if at = lastStored(); at+keptMS < now {
			return true
		}
	}
	l.stored[topic] = at
	return false
}

// End ends a look.
func (a *Ages) End(l *Look) { a.stored = l.stored }
