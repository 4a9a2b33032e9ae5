package main

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/apogeemq/apogee/message"
)

// ownProperties are those that a message shows under a name of their own.
type ownProperties struct {
	id, tags string
	keys     []string
}

// hidden are properties that say nothing to a reader: the checksum of the record, and how it was sent.
var hidden = []string{"__CRC32#", message.PropWait}

// splitProperties separates id, keys and tags from the rest.
func splitProperties(p []byte) (own ownProperties, rest map[string]string) {
	for k, v := range message.Properties(p) {
		switch name := string(k); {
		case name == message.PropUniqueKey:
			own.id = string(v)
		case name == message.PropTags:
			own.tags = string(v)
		case name == message.PropKeys:
			own.keys = strings.Fields(string(v))
		case slices.Contains(hidden, name):
		default:
			if rest == nil {
				rest = map[string]string{}
			}
			rest[name] = string(v)
		}
	}
	return own, rest
}

func propertyText(p map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(p)) {
		parts = append(parts, k+"="+p[k])
	}
	return cell([]byte(strings.Join(parts, " ")))
}

// cellRunesMax bounds what a table shows of a body.
const cellRunesMax = 80

// cell makes text fit a table: on one line, without control characters, shortened.
func cell(b []byte) string {
	var s strings.Builder
	n := 0
	for _, r := range string(b) {
		if n++; n > cellRunesMax {
			s.WriteString("...")
			break
		}
		if !unicode.IsPrint(r) {
			r = '.'
		}
		s.WriteRune(r)
	}
	return s.String()
}

// lineBytesMax bounds a line of standard input, which becomes a body.
const lineBytesMax = 4 << 20

// eachLine calls f with every line, without its end.
func eachLine(r io.Reader, f func([]byte) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), lineBytesMax+1)
	n := 0
	for s.Scan() {
		n++
		if err := f(s.Bytes()); err != nil {
			return err
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("standard input, line %d: %w (a line may have %d bytes)", n+1, err, lineBytesMax)
	}
	return nil
}
