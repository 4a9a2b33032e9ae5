package commitlog

import "github.com/apogeemq/apogee/message"

// Numbering is what a record takes beyond one offset of its queue. Few records have one.
type Numbering struct {
	Span   int64   // offsets that it takes of its own queue, one at least
	Stamps []Stamp // offsets that stand in its properties
}

// Stamp is the next offset of a queue, in a record's properties. The record takes that offset, if it is not one that it takes already.
type Stamp struct {
	Sequence *Sequence
	At       int   // where in Record.Properties its message.StampSize digits stand
	Offset   int64 // set by Append
	// Target is not the log's: it travels with the stamp to whoever applies it.
	Target any
}

// assign takes the offsets. The caller holds the log's mu.
func (n *Numbering) assign(own *Sequence) {
	for i := range n.Stamps {
		n.Stamps[i].Offset = n.Stamps[i].Sequence.next
	}
	own.next += n.Span
	for i := range n.Stamps { // a queue may stand there twice
		s := &n.Stamps[i]
		s.Sequence.next = max(s.Sequence.next, s.Offset+1)
	}
}

// ended tells whether a queue takes no more records. The caller holds the log's mu.
func (n *Numbering) ended() bool {
	if n == nil {
		return false
	}
	for i := range n.Stamps {
		if n.Stamps[i].Sequence.ended {
			return true
		}
	}
	return false
}

// write puts the offsets into the record's properties.
func (n *Numbering) write(properties []byte) {
	for i := range n.Stamps {
		message.PutStamp(properties[n.Stamps[i].At:], n.Stamps[i].Offset)
	}
}
