package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"time"
)

// wire is a connection that speaks NATS' text protocol. Frames are read in place: at these rates the official client would take more
// of the two processors than the server, as would RocketMQ's, which `apogee bench` does without too.
type wire struct {
	nc         net.Conn
	buf        []byte
	start, end int
}

// delivery is a message, valid until the next fill.
type delivery struct {
	subject []byte
	sid     int
	body    []byte // with its headers, where it has them
	headers bool
}

const (
	answerTimeout = 10 * time.Second
	readBytes     = 256 << 10
)

func dialNATS(ctx context.Context, addr string) (*wire, error) {
	d := net.Dialer{Timeout: answerTimeout}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	w := &wire{nc: nc, buf: make([]byte, readBytes)}
	return w, w.write([]byte(`CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"protocol":1}` + "\r\n"))
}

func (w *wire) close() { _ = w.nc.Close() }

func (w *wire) write(b []byte) error {
	_, err := w.nc.Write(b)
	return err
}

// fill reads more. It moves what has not been taken to the front of the buffer.
func (w *wire) fill() error {
	w.end = copy(w.buf, w.buf[w.start:w.end])
	w.start = 0
	if w.end == len(w.buf) {
		w.buf = append(w.buf, make([]byte, len(w.buf))...)
	}
	n, err := w.nc.Read(w.buf[w.end:])
	w.end += n
	return err
}

var crlf = []byte("\r\n")

// next returns the next message that was read whole; false when more must be read.
func (w *wire) next() (m delivery, ok bool, err error) {
	for {
		have := w.buf[w.start:w.end]
		n := bytes.Index(have, crlf)
		if n < 0 {
			return m, false, nil
		}
		line, rest := have[:n], have[n+2:]
		switch {
		case bytes.HasPrefix(line, []byte("MSG ")), bytes.HasPrefix(line, []byte("HMSG ")):
			m, size, err := parseLine(line)
			if err != nil {
				return m, false, err
			}
			if len(rest) < size+2 {
				return m, false, nil
			}
			m.body = rest[:size]
			w.start += n + 2 + size + 2
			return m, true, nil
		case bytes.HasPrefix(line, []byte("-ERR")):
			return m, false, fmt.Errorf("the server says %s", line)
		case bytes.Equal(line, []byte("PING")):
			if err := w.write([]byte("PONG\r\n")); err != nil {
				return m, false, err
			}
		}
		w.start += n + 2
	}
}

// parseLine reads MSG subject sid [reply] size, or HMSG with the size of the headers before the last.
func parseLine(line []byte) (m delivery, size int, err error) {
	m.headers = line[0] == 'H'
	_, line, _ = bytes.Cut(line, []byte(" "))
	m.subject, line, _ = bytes.Cut(line, []byte(" "))
	sid, line, _ := bytes.Cut(line, []byte(" "))
	if m.sid, err = strconv.Atoi(string(sid)); err == nil {
		size, err = strconv.Atoi(string(line[bytes.LastIndexByte(line, ' ')+1:]))
	}
	return m, size, err
}

// ask sends a request to JetStream's API and decodes the answer.
func (w *wire) ask(subject string, request, answer any) error {
	b, err := json.Marshal(request)
	if err != nil {
		return err
	}
	inbox := fmt.Sprintf("_INBOX.ask.%d", time.Now().UnixNano())
	if err := w.write(fmt.Appendf(nil, "SUB %s 99\r\nUNSUB 99 1\r\nPUB $JS.API.%s %s %d\r\n%s\r\n", inbox, subject, inbox, len(b), b)); err != nil {
		return err
	}
	_ = w.nc.SetReadDeadline(time.Now().Add(answerTimeout))
	defer func() { _ = w.nc.SetReadDeadline(time.Time{}) }()
	for {
		m, ok, err := w.next()
		if err == nil && !ok {
			err = w.fill()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", subject, err)
		}
		if !ok {
			continue
		}
		var refusal struct {
			Error *struct {
				Description string `json:"description"`
			} `json:"error"`
		}
		if err := json.Unmarshal(m.body, &refusal); err != nil {
			return fmt.Errorf("%s: %q: %w", subject, m.body, err)
		}
		if refusal.Error != nil {
			return fmt.Errorf("%s: %s", subject, refusal.Error.Description)
		}
		return json.Unmarshal(m.body, answer)
	}
}
