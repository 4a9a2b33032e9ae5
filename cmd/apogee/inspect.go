package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/apogeemq/apogee/store"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"
)

func newInspectCommand() *cobra.Command {
	return noun("inspect", "Read a node's directory: log, view, base; what is wrong with it, and where",
		"Reads a directory and changes nothing in it. DIR is what `apogee start --dir` was given, or the store's root (RocketMQ's, too, whose log has\n"+
			"the same format), or the folder of the segments.\n\n"+
			"The log can be read while a node runs on it: what is being written at its end counts as its end. View and base cannot: stop the node, or\n"+
			"ask it.",
		newInspectLogCommand(), newInspectViewCommand(), newInspectBaseCommand())
}

// rowStream prints rows as they come: tables of a bounded size, or a line of JSON each.
type rowStream struct {
	w    io.Writer
	json bool
	t    *table
}

func (o *output) rows(c *cobra.Command, titles ...string) *rowStream {
	return &rowStream{c.OutOrStdout(), o.json, newTable(titles...)}
}

// add prints v, or the cells that stand for it.
func (s *rowStream) add(v any, cells ...any) error {
	if s.json {
		return writeJSONLine(s.w, v)
	}
	if s.t.add(cells...); len(s.t.rows) < rowsAtOnce {
		return nil
	}
	return s.end()
}

func (s *rowStream) end() error {
	if len(s.t.rows) == 0 {
		return nil
	}
	full := *s.t
	s.t.rows = nil
	return full.write(s.w)
}

// stateEntry is an entry of the broker's state.
type stateEntry struct {
	Kind  string `json:"kind"`
	Key   string `json:"key"`
	Value string `json:"value"`
}

func stateEntryOf(kind, key string, value []byte) stateEntry {
	return stateEntry{kind, strings.ReplaceAll(key, "\x00", " "), valueText(value)}
}

// valueText writes a value of the state: text as it is, offsets as numbers, all else as hex.
func valueText(v []byte) string {
	if utf8.Valid(v) && strings.IndexFunc(string(v), func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return string(v)
	}
	if len(v) == 8 || len(v) == 9 { // an offset; a ninth byte marks one that was reset
		n, err := strconv.ParseInt(fmt.Sprintf("%x", v[:8]), 16, 64)
		if err == nil {
			return strconv.FormatInt(n, 10)
		}
	}
	return fmt.Sprintf("%x", v)
}

func newInspectViewCommand() *cobra.Command {
	var f inspectView
	c := &cobra.Command{
		Use:   "view DIR",
		Short: "Show the view: its queues, their index, the broker's state, keys",
		Long: "Shows what the view's database holds, which is as of the log position that it was staged up to: the newest messages are in the log only.\n" +
			"With --json the queues, entries, keys and state come one a line.",
		Example: "  apogee inspect view data\n  apogee inspect view data --topic orders --queue 3 --from 100 --count 20\n  apogee inspect view data --topic orders --key 4711\n" +
			"  apogee inspect view data --state topics",
		Args: takes("directory"),
		RunE: func(c *cobra.Command, args []string) error { return f.run(c, args[0]) },
	}
	f.out.flag(c)
	fs := c.Flags()
	fs.StringVar(&f.topic, "topic", "", "this topic only")
	fs.Int32Var(&f.queue, "queue", -1, "the index of this queue of --topic")
	fs.Int64Var(&f.from, "from", 0, "with --queue: from this offset on")
	fs.Int64Var(&f.count, "count", 10, "with --queue: this many entries (0: all)")
	fs.StringVar(&f.key, "key", "", "where the messages of --topic with this key are (key or unique key)")
	fs.StringVar(&f.state, "state", "", "the broker's state of this kind (all: every kind)")
	fs.BoolVar(&f.verify, "verify", false, "read all of it, and check every checksum")
	c.MarkFlagsMutuallyExclusive("queue", "key", "state", "verify")
	c.MarkFlagsMutuallyExclusive("topic", "verify")
	return c
}

// inspectView are the flags of inspect view.
type inspectView struct {
	out               output
	topic, key, state string
	queue             int32
	from, count       int64
	verify            bool
}

func (f *inspectView) check() error {
	switch {
	case (f.queue >= 0 || f.key != "") && f.topic == "":
		return usagef("--queue and --key need --topic: of which topic?")
	case f.from < 0 || f.count < 0:
		return usagef("--from %d --count %d: want 0 or more", f.from, f.count)
	}
	return nil
}

// notRunning refuses a directory that a node runs on.
func notRunning(d *store.Directory, what string) error {
	if d.InUse {
		return fmt.Errorf("a node runs on %s: its %s cannot be read beside it; stop it, or ask it (`apogee topic describe`, `apogee group describe`)", d.Root, what)
	}
	return nil
}

func (f *inspectView) run(c *cobra.Command, dir string) error {
	if err := f.check(); err != nil {
		return err
	}
	d, err := store.Examine(vfs.Default, dir)
	if err != nil {
		return err
	}
	if err := notRunning(d, "view"); err != nil {
		return err
	}
	v, err := d.View()
	if err != nil {
		return err
	}
	defer v.Close()
	switch {
	case f.verify:
		return f.printVerified(c, v)
	case f.state != "":
		return f.printState(c, v)
	case f.key != "":
		return f.printKey(c, d, v)
	case f.queue >= 0:
		return f.printIndex(c, v)
	}
	return f.printQueues(c, v)
}

func (f *inspectView) printVerified(c *cobra.Command, v *store.View) error {
	keys, err := v.Verify()
	if err != nil {
		return fmt.Errorf("the view is damaged; remove it, and the next start makes it anew from base and log: %w", err)
	}
	return f.out.say(c, map[string]int64{"keys": keys}, "no damage: every checksum is right, of %d keys", keys)
}

// viewQueue is a queue of the view or of a base.
type viewQueue struct {
	Topic string `json:"topic"`
	Queue int32  `json:"queue"`
	First int64  `json:"min_offset"`
	Next  int64  `json:"max_offset"`
}

func (f *inspectView) printQueues(c *cobra.Command, v *store.View) error {
	a := v.Applied()
	if !f.out.json {
		fmt.Fprintf(c.OutOrStdout(), "true up to log position %d, stored %s\n\n", a.Position, timeOf(a.StoreTime))
	}
	rows := f.out.rows(c, "TOPIC", "QUEUE", "MIN OFFSET", "MAX OFFSET")
	found := false
	for _, q := range v.Queues() {
		if f.topic != "" && f.topic != q.Topic {
			continue
		}
		found = true
		first, next := q.Bounds()
		if err := rows.add(viewQueue{q.Topic, q.ID, first, next}, q.Topic, q.ID, first, next); err != nil {
			return err
		}
	}
	if f.topic != "" && !found {
		return fmt.Errorf("--topic %q: the view has no queue of it", f.topic)
	}
	return rows.end()
}

// timeOf writes ms since 1970; nothing for no time.
func timeOf(ms int64) string {
	if ms <= 0 {
		return "never"
	}
	return time.UnixMilli(ms).Format(timeLayout)
}

// indexEntry is an entry of a queue's index.
type indexEntry struct {
	Offset   int64 `json:"offset"`
	Position int64 `json:"log_position"`
	Bytes    int32 `json:"bytes"` // 0: a damaged record left a hole, or compaction
	TagsCode int64 `json:"tags_code"`
}

func (f *inspectView) printIndex(c *cobra.Command, v *store.View) error {
	q := v.Find(f.topic, f.queue)
	if q == nil {
		return fmt.Errorf("--topic %q --queue %d: the view has no such queue", f.topic, f.queue)
	}
	first, next := q.Bounds()
	end := next
	if f.count > 0 {
		end = min(next, max(f.from, first)+f.count)
	}
	rows := f.out.rows(c, "OFFSET", "LOG POSITION", "BYTES", "TAGS CODE")
	for offset := max(f.from, first); offset < end; {
		var err error
		if offset, err = q.Skip(offset); err != nil {
			return err
		}
		entries, err := q.Entries(nil, offset, int(min(end-offset, rowsAtOnce)))
		if err != nil || len(entries) == 0 {
			return errors.Join(err, rows.end())
		}
		for _, e := range entries {
			if err := rows.add(indexEntry{offset, e.Position, e.Size, e.TagsCode}, offset, e.Position, e.Size, e.TagsCode); err != nil {
				return err
			}
			offset++
		}
	}
	return rows.end()
}

func (f *inspectView) printState(c *cobra.Command, v *store.View) error {
	rows := f.out.rows(c, "KIND", "KEY", "VALUE")
	kinds := map[string]bool{}
	err := v.EachState(func(kind, key string, value []byte) error {
		if kinds[kind] = true; f.state != "all" && f.state != kind {
			return nil
		}
		e := stateEntryOf(kind, key, value)
		return rows.add(e, e.Kind, e.Key, e.Value)
	})
	if err != nil {
		return err
	}
	if f.state != "all" && !kinds[f.state] {
		return fmt.Errorf("--state %q: there is none of that kind; there are: %s", f.state, sortedKeys(kinds))
	}
	return rows.end()
}

// printKey looks a key up and reads the messages, since the index holds hashes only.
func (f *inspectView) printKey(c *cobra.Command, d *store.Directory, v *store.View) error {
	log, err := d.Log()
	if err != nil {
		return err
	}
	defer log.Close()
	positions, err := v.KeyPositions(f.topic, f.key)
	if err != nil {
		return err
	}
	rows := f.out.rows(c, "LOG POSITION", "QUEUE", "OFFSET", "STORED", "ID", "KEYS", "BODY")
	found := false
	for _, position := range positions {
		m, _, err := log.Record(position)
		if err != nil || !hasKey(&m, f.topic, f.key) {
			continue // not in the log any more, or another key with the same hash
		}
		found = true
		s := shownRecord(&m)
		if err := rows.add(s, s.Position, s.Queue, s.Offset, s.Stored.Format(timeLayout), s.ID, strings.Join(s.Keys, " "), cell([]byte(s.Body))); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("--topic %q --key %q: no message in the view; the newest are in the log only: `apogee inspect log %s --topic %s --key %s`",
			f.topic, f.key, d.Root, f.topic, f.key)
	}
	return rows.end()
}

func newInspectBaseCommand() *cobra.Command {
	var out output
	var content bool
	var position int64
	c := &cobra.Command{
		Use:   "base DIR",
		Short: "List the bases and check them; show the queues and the state that one holds",
		Args:  takes("directory"),
		RunE: func(c *cobra.Command, args []string) error {
			d, err := store.Examine(vfs.Default, args[0])
			if err != nil {
				return err
			}
			if err := notRunning(d, "base"); err != nil {
				return err
			}
			bases, err := d.Bases()
			if err != nil {
				return err
			}
			if content {
				return printBase(c, &out, d, bases, position)
			}
			return listBases(c, &out, d, bases)
		},
	}
	out.flag(c)
	c.Flags().BoolVar(&content, "content", false, "show what the newest base holds; with --json one entry a line")
	c.Flags().Int64Var(&position, "position", -1, "with --content: the base of this log position")
	return c
}

// listedBase is a base and whether it is whole.
type listedBase struct {
	store.Base
	Last    string `json:"last_stored"`
	Queues  int64  `json:"queues"`
	Entries int64  `json:"state_entries"`
	Problem string `json:"problem,omitempty"`
}

// baseReport is what inspect base prints.
type baseReport struct {
	Checkpoint  int64        `json:"checkpoint"`             // -1: none that can be read
	RocketMQEnd *int64       `json:"rocketmq_end,omitempty"` // RocketMQ wrote what stands before
	Bases       []listedBase `json:"bases"`
}

func listBases(c *cobra.Command, out *output, d *store.Directory, bases []store.Base) error {
	r := baseReport{Checkpoint: d.Checkpoint, Bases: []listedBase{}}
	if d.HasForeignEnd() {
		r.RocketMQEnd = &d.ForeignEnd
	}
	broken := 0
	t := newTable("FILE", "LOG POSITION", "LAST STORED", "QUEUES", "STATE ENTRIES", "PROBLEM")
	for _, b := range bases {
		l := listedBase{Base: b}
		a, err := d.ReadBase(b.Path, store.BaseVisitor{
			Queue: func(string, int32, int64, int64) error { l.Queues++; return nil },
			State: func(string, string, []byte) error { l.Entries++; return nil },
		})
		if err != nil {
			l.Problem = err.Error()
			broken++
		}
		l.Last = timeOf(a.StoreTime)
		r.Bases = append(r.Bases, l)
		t.add(l.Path, l.Position, l.Last, l.Queues, l.Entries, l.Problem)
	}
	err := out.print(c, r, func(w io.Writer) error {
		fmt.Fprintf(w, "checkpoint: %s\n", positionText(r.Checkpoint))
		if r.RocketMQEnd != nil && *r.RocketMQEnd > 0 {
			fmt.Fprintf(w, "RocketMQ wrote what stands before log position %d\n", *r.RocketMQEnd)
		}
		if len(bases) == 0 {
			fmt.Fprintln(w, "no base: one is written after some segments of log")
			return nil
		}
		fmt.Fprintln(w)
		return t.write(w)
	})
	if err == nil && broken > 0 {
		err = fmt.Errorf("%d of %d bases are broken; a start uses another, or the whole log", broken, len(bases))
	}
	return err
}

func positionText(position int64) string {
	if position < 0 {
		return "none"
	}
	return fmt.Sprintf("log position %d", position)
}

func printBase(c *cobra.Command, out *output, d *store.Directory, bases []store.Base, position int64) error {
	var chosen *store.Base
	for i, b := range bases {
		if position < 0 || b.Position == position {
			chosen = &bases[i]
		}
	}
	if chosen == nil {
		return fmt.Errorf("there is no such base; `apogee inspect base %s` lists them", d.Root)
	}
	queues := out.rows(c, "TOPIC", "QUEUE", "MIN OFFSET", "MAX OFFSET")
	state := out.rows(c, "KIND", "KEY", "VALUE")
	_, err := d.ReadBase(chosen.Path, store.BaseVisitor{
		Queue: func(topic string, id int32, first, next int64) error {
			return queues.add(viewQueue{topic, id, first, next}, topic, id, first, next)
		},
		State: func(kind, key string, value []byte) error { // behind the queues
			if err := queues.end(); err != nil {
				return err
			}
			e := stateEntryOf(kind, key, value)
			return state.add(e, e.Kind, e.Key, e.Value)
		},
	})
	for _, s := range []*rowStream{queues, state} {
		if endErr := s.end(); err == nil {
			err = endErr
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", chosen.Path, err)
	}
	return nil
}
