package interop

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A worker (worker_test.go, Worker.java) writes what it does to a journal, each line with one
// write before it tells its client that it is done, so that a SIGKILL loses no line:
//
//	ready TIME                    the client has started
//	owns TIME QUEUE,QUEUE         the queues that the client's rebalance gave it, at each change
//	got TIME QUEUE OFFSET ID      a message was consumed
//	acked TIME QUEUE OFFSET ID    a message was acknowledged
//
// TIME is in microseconds since 1970, ID is SENDER-NUMBER.

// messageID is the sender in the upper 16 bits, and its message's number.
type messageID uint64

func (id messageID) String() string { return fmt.Sprintf("%d-%d", id>>48, uint64(id)&(1<<48-1)) }

func parseID(text string) (messageID, error) {
	sender, number, _ := strings.Cut(text, "-")
	s, err := strconv.ParseUint(sender, 10, 16)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(number, 10, 48)
	return messageID(s<<48 | n), err
}

// journalMessage is a got or an acked line.
type journalMessage struct {
	at     int64
	id     messageID
	offset int64
	queue  int
}

// ownership is one queue in the hands of one process, from the moment its rebalance gave it the
// queue until another one took it or the process ended.
type ownership struct {
	member       *worker
	queue        int
	gained, lost int64 // lost is 0 until it is
	got          []journalMessage
}

// journal is what a worker has written so far.
type journal struct {
	path   string
	member *worker

	read       int64 // bytes that have been parsed
	ready      bool
	acked      []journalMessage
	ownerships []*ownership
	current    map[int]*ownership // by queue; the last one also after it was lost
	gotCount   int
}

// follow parses what is new in the file.
func (j *journal) follow(t *testing.T) {
	t.Helper()
	file, err := os.Open(j.path)
	if os.IsNotExist(err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.NewSectionReader(file, j.read, 1<<62))
	if err != nil {
		t.Fatal(err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	j.read += int64(len(text))
	for line := range strings.Lines(string(text)) {
		if err := j.parse(strings.Fields(line)); err != nil {
			t.Fatalf("%s: line %q: %v", j.path, line, err)
		}
	}
}

func (j *journal) parse(fields []string) error {
	if len(fields) < 2 {
		return fmt.Errorf("%d fields", len(fields))
	}
	at, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return err
	}
	switch fields[0] {
	case "ready":
		j.ready = true
		return nil
	case "owns":
		return j.owns(at, strings.Join(fields[2:], ""))
	}
	if len(fields) != 5 {
		return fmt.Errorf("%d fields", len(fields))
	}
	m := journalMessage{at: at}
	if m.queue, err = strconv.Atoi(fields[2]); err != nil {
		return err
	}
	if m.offset, err = strconv.ParseInt(fields[3], 10, 64); err != nil {
		return err
	}
	if m.id, err = parseID(fields[4]); err != nil {
		return err
	}
	switch fields[0] {
	case "acked":
		j.acked = append(j.acked, m)
	case "got":
		own := j.current[m.queue]
		if own == nil {
			return fmt.Errorf("consumed from queue %d, which it never had", m.queue)
		}
		own.got = append(own.got, m)
		j.gotCount++
	default:
		return fmt.Errorf("unknown kind %q", fields[0])
	}
	return nil
}

func (j *journal) owns(at int64, list string) error {
	now := map[int]bool{}
	if list != "" {
		for text := range strings.SplitSeq(list, ",") {
			queue, err := strconv.Atoi(text)
			if err != nil {
				return err
			}
			now[queue] = true
			if own := j.current[queue]; own == nil || own.lost != 0 {
				own = &ownership{member: j.member, queue: queue, gained: at}
				j.current[queue] = own
				j.ownerships = append(j.ownerships, own)
			}
		}
	}
	for queue, own := range j.current {
		if !now[queue] && own.lost == 0 {
			own.lost = at
		}
	}
	return nil
}

// journalWriter is a worker's end of a journal.
type journalWriter struct {
	mu   sync.Mutex // guards what follows
	file *os.File
	last string // what was said to be owned
}

func newJournalWriter(path string) (*journalWriter, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return &journalWriter{file: file, last: "unknown"}, err
}

// write panics when the disk is full: a worker whose journal has a hole proves nothing.
func (w *journalWriter) write(kind, rest string) {
	if _, err := fmt.Fprintf(w.file, "%s %d %s\n", kind, time.Now().UnixMicro(), rest); err != nil {
		panic(err)
	}
}

func (w *journalWriter) message(kind string, queue int, offset int64, id []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write(kind, fmt.Sprintf("%d %d %s", queue, offset, id))
}

func (w *journalWriter) owns(queues string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if queues != w.last {
		w.write("owns", queues)
		w.last = queues
	}
}
