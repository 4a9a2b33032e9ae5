package pop

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/apogeemq/apogee/message"
)

// OrderedNumber is the number of ordered deliveries (KeyBuilder.POP_ORDER_REVIVE_QUEUE).
const OrderedNumber = 999

// Receipt is what a client shows of a delivery (ExtraInfoUtil): start, time, invisible time, number (the revive queue's id), mark of the
// topic, broker, queue and offset, separated by spaces.
type Receipt struct {
	Start, Time, Invisible int64
	Number                 int32
}

// ID returns the delivery.
func (r *Receipt) ID() RunID { return RunID{r.Time + r.Invisible, r.Start, r.Time, r.Number} }

// ParseReceipt reads what of a receipt names the delivery. Queue and offset stand beside it in a request.
func ParseReceipt(text string) (r Receipt, err error) {
	words := strings.Split(text, " ")
	if len(words) < 4 {
		return r, fmt.Errorf("receipt %.200q: %d words, want 8", text, len(words))
	}
	number := func(word string, size int) int64 {
		n, parseErr := strconv.ParseInt(word, 10, size)
		if parseErr != nil && err == nil {
			err = fmt.Errorf("receipt %.200q: %.40q is not a number", text, word)
		}
		return n
	}
	r = Receipt{number(words[0], 64), number(words[1], 64), number(words[2], 64), int32(number(words[3], 32))}
	return r, err
}

// AppendReceipt appends the whole receipt of a message.
func (r *Receipt) AppendReceipt(dst []byte, topic, broker string, queue int32, offset int64) []byte {
	return fmt.Appendf(dst, "%d %d %d %d %s %s %d %d", r.Start, r.Time, r.Invisible, r.Number, Mark(topic), broker, queue, offset)
}

// Mark tells topics apart in receipts and answers: 0, or 1 or 2 for a retry topic by the form of its name.
func Mark(topic string) string {
	switch {
	case !strings.HasPrefix(topic, message.RetryPrefix):
		return "0"
	case strings.Contains(topic, message.PopRetrySeparatorV2):
		return "2"
	default:
		return "1"
	}
}

// Infos are the fields of an answer that say where its messages come from: parts for each queue, separated by semicolons.
type Infos struct{ Starts, Offsets, Counts string }

// Add notes the messages of a queue.
func (f *Infos) Add(topic string, queue int32, start int64, offsets []int64) {
	part := Mark(topic) + " " + strconv.Itoa(int(queue)) + " "
	var list []byte
	for i, offset := range offsets {
		if i > 0 {
			list = append(list, ',')
		}
		list = strconv.AppendInt(list, offset, 10)
	}
	join(&f.Starts, part+strconv.FormatInt(start, 10))
	join(&f.Offsets, part+string(list))
}

// AddCounts notes how often the messages of an ordered queue were handed out before; the last part, for old clients, is the least count.
func (f *Infos) AddCounts(topic string, queue int32, messages int, counts []Attempts) {
	least := int32(0)
	for i, c := range counts {
		join(&f.Counts, fmt.Sprintf("%s qo%d%%%d %d", Mark(topic), queue, c.Offset, c.Count))
		if i == 0 || c.Count < least {
			least = c.Count
		}
	}
	if len(counts) < messages {
		least = 0
	}
	join(&f.Counts, fmt.Sprintf("%s %d %d", Mark(topic), queue, least))
}

// AddLiteCounts notes the same of a lite topic: a count for each message.
func (f *Infos) AddLiteCounts(offsets []int64, counts []Attempts) {
	for _, offset := range offsets {
		count := int32(0)
		if len(counts) > 0 && counts[0].Offset == offset {
			count, counts = counts[0].Count, counts[1:]
		}
		join(&f.Counts, strconv.Itoa(int(count)))
	}
}

func join(to *string, part string) {
	if *to != "" {
		*to += ";"
	}
	*to += part
}
