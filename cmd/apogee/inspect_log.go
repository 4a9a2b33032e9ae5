package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store"
	"github.com/apogeemq/apogee/store/commitlog"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"
)

// inspectLog are the flags of inspect log.
type inspectLog struct {
	out         output
	from, count int64
	topic, key  string
	verify      bool
}

func newInspectLogCommand() *cobra.Command {
	var f inspectLog
	c := &cobra.Command{
		Use:   "log DIR",
		Short: "Show the log's segments, verify it, or print records",
		Long: "Shows the log's segments, and where it ends. --verify checks every record's checksum too, and the command fails when the log is damaged.\n" +
			"--from, --count, --topic or --key print records instead, with --json one a line.",
		Example: "  apogee inspect log data\n  apogee inspect log data --verify\n  apogee inspect log ~/store --from 1073741824 --count 5\n" +
			"  apogee inspect log data --topic orders --key 4711 --json",
		Args: takes("directory"),
		RunE: func(c *cobra.Command, args []string) error { return f.run(c, args[0]) },
	}
	f.out.flag(c)
	fs := c.Flags()
	fs.BoolVar(&f.verify, "verify", false, "check every record's checksum")
	fs.Int64Var(&f.from, "from", 0, "print records from this log position on, or from the next one that is whole")
	fs.Int64Var(&f.count, "count", 10, "print this many records (0: all)")
	fs.StringVar(&f.topic, "topic", "", "print records of this topic")
	fs.StringVar(&f.key, "key", "", "print records of --topic with this key or unique key")
	for _, records := range []string{"from", "count", "topic", "key"} {
		c.MarkFlagsMutuallyExclusive("verify", records)
	}
	return c
}

func (f *inspectLog) run(c *cobra.Command, dir string) error {
	if f.from < 0 || f.count < 0 {
		return usagef("--from %d --count %d: want 0 or more", f.from, f.count)
	}
	if f.key != "" && f.topic == "" {
		return usagef("--key needs --topic: of which topic?")
	}
	d, err := store.Examine(vfs.Default, dir)
	if err != nil {
		return err
	}
	log, err := d.Log()
	if err != nil {
		return err
	}
	defer log.Close()
	if slices.ContainsFunc([]string{"from", "count", "topic", "key"}, c.Flags().Changed) {
		return f.printRecords(c, log)
	}
	r, err := f.survey(c, d, log)
	if err != nil {
		return err
	}
	if err := f.out.print(c, r, r.write); err != nil {
		return err
	}
	if n := len(r.Damage); n > 0 {
		return fmt.Errorf("the log is damaged in %d places", n)
	}
	return nil
}

// logWatch shows how far a walk is, and ends it with the context.
func logWatch(ctx context.Context, w io.Writer, log *commitlog.Reader) (step func(position int64) error, done func()) {
	bar := newProgress(w)
	first, end := log.Bounds()
	return func(position int64) error {
		bar.show("reading", float64(position-first)/float64(end-first), fmt.Sprintf("%d of %d MiB", (position-first)>>20, (end-first)>>20))
		return ctx.Err()
	}, bar.done
}

// segmentReport is one segment.
type segmentReport struct {
	commitlog.LogFile
	End     int64      `json:"end"`
	Records int64      `json:"records"`
	First   *time.Time `json:"first_stored,omitempty"`
	Last    *time.Time `json:"last_stored,omitempty"`
	Problem string     `json:"problem,omitempty"`
}

// damage is a stretch that holds no valid record.
type damage struct {
	From   int64  `json:"from"`
	To     int64  `json:"to"`
	Reason string `json:"reason"`
}

// logReport is what inspect log prints.
type logReport struct {
	Root         string          `json:"root"`
	InUse        bool            `json:"in_use"`
	Verified     bool            `json:"checksums_verified"`
	SegmentBytes int64           `json:"segment_bytes"`
	Segments     []segmentReport `json:"segments"`
	Records      int64           `json:"records"`
	Bytes        int64           `json:"record_bytes"`
	End          int64           `json:"end"`
	EndReason    string          `json:"end_reason"`
	Checkpoint   int64           `json:"checkpoint"` // -1: none
	Damage       []damage        `json:"damage"`
}

// survey reads the whole log.
func (f *inspectLog) survey(c *cobra.Command, d *store.Directory, log *commitlog.Reader) (*logReport, error) {
	r := &logReport{
		Root: d.Root, InUse: d.InUse, Verified: f.verify, SegmentBytes: log.SegmentBytes(), Checkpoint: d.Checkpoint, Damage: []damage{},
	}
	for _, file := range log.Files() {
		s := segmentReport{LogFile: file, End: file.Start + r.SegmentBytes}
		if n := len(r.Segments); n > 0 && r.Segments[n-1].End != file.Start {
			s.Problem = fmt.Sprintf("the segment before it is missing: the last one ends at %d", r.Segments[n-1].End)
		} else if file.Bytes != r.SegmentBytes {
			s.Problem = fmt.Sprintf("%d bytes are missing", r.SegmentBytes-file.Bytes)
		}
		r.Segments = append(r.Segments, s)
	}
	step, done := logWatch(c.Context(), c.ErrOrStderr(), log)
	defer done()
	at := 0
	end, reason, err := log.Walk(0, commitlog.Visitor{
		Trust: !f.verify, Progress: step,
		Record: func(m *message.Record, raw []byte) error {
			for m.PhysicalOffset >= r.Segments[at].End {
				at++
			}
			r.count(&r.Segments[at], m, len(raw))
			return nil
		},
		Gap: func(g commitlog.Gap) error {
			r.Damage = append(r.Damage, damage{g.From, g.To, g.Reason.Error()})
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	r.End = end
	if r.EndReason = "the last segment is full"; reason != nil {
		r.EndReason = reason.Error()
	}
	if end < d.Checkpoint {
		r.Damage = append(r.Damage, damage{end, d.Checkpoint, fmt.Sprintf("all before the checkpoint was on disk: %s", r.EndReason)})
	}
	return r, nil
}

func (r *logReport) count(s *segmentReport, m *message.Record, bytes int) {
	stored := time.UnixMilli(m.StoreTime)
	if s.Records == 0 {
		s.First = &stored
	}
	s.Last = &stored
	s.Records++
	r.Records++
	r.Bytes += int64(bytes)
}

func (r *logReport) write(w io.Writer) error {
	t := newTable("SEGMENT", "FROM", "TO", "BYTES", "RECORDS", "FIRST STORED", "LAST STORED", "PROBLEM")
	for _, s := range r.Segments {
		t.add(fmt.Sprintf("%020d", s.Start), s.Start, s.End, s.Bytes, s.Records, timeText(s.First), timeText(s.Last), s.Problem)
	}
	if err := t.write(w); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%d records, %d bytes; the log ends at %d (%s)\n", r.Records, r.Bytes, r.End, r.EndReason)
	if r.InUse {
		fmt.Fprintln(w, "a node runs on it: its end may be in the middle of a write")
	}
	if r.Checkpoint >= 0 {
		fmt.Fprintf(w, "checkpoint: all before %d was on disk\n", r.Checkpoint)
	}
	how := "sizes and positions are right (--verify checks the checksums)"
	if r.Verified {
		how = "every checksum is right"
	}
	if len(r.Damage) == 0 {
		_, err := fmt.Fprintf(w, "no damage: %s\n", how)
		return err
	}
	fmt.Fprintln(w)
	t = newTable("DAMAGE FROM", "TO", "BYTES", "REASON")
	for _, d := range r.Damage {
		t.add(d.From, d.To, d.To-d.From, d.Reason)
	}
	return t.write(w)
}

// record is a record as it is printed.
type record struct {
	messageView
	State []stateEntry `json:"state,omitempty"` // a state record's changes; a value that is missing is a deletion
}

// shownRecord makes the best of a record: a body that cannot be unpacked is shown as it is stored.
func shownRecord(m *message.Record) record {
	body, err := bodyOf(m)
	if err != nil {
		body = m.Body
	}
	r := record{messageView: viewOf(string(m.Topic), "", m, body)}
	if message.IsStateTopic(r.Topic) {
		if changes, err := store.DecodeState(m.Body, m.PhysicalOffset+int64(m.BodyOffset())); err == nil {
			kind := r.Topic[len(message.StatePrefix):]
			for _, c := range changes {
				r.State = append(r.State, stateEntryOf(kind, c.Key, c.Value))
			}
			r.Body, r.Binary = "", false
		}
	}
	return r
}

// hasKey tells whether a message of the topic has a key or unique key.
func hasKey(m *message.Record, topic, key string) bool {
	own, _ := splitProperties(m.Properties)
	return string(m.Topic) == topic && (own.id == key || slices.Contains(own.keys, key))
}

func (f *inspectLog) printRecords(c *cobra.Command, log *commitlog.Reader) error {
	step, done := logWatch(c.Context(), c.ErrOrStderr(), log)
	defer done()
	w := c.OutOrStdout()
	n := int64(0)
	_, reason, err := log.Walk(f.from, commitlog.Visitor{
		Progress: step,
		Record: func(m *message.Record, raw []byte) error {
			if f.topic != "" && string(m.Topic) != f.topic || f.key != "" && !hasKey(m, f.topic, f.key) {
				return nil
			}
			if err := f.printRecord(w, m, len(raw), n == 0); err != nil {
				return err
			}
			if n++; n == f.count {
				return commitlog.ErrEnough
			}
			return nil
		},
	})
	if err == nil && n == 0 {
		err = fmt.Errorf("no such record from log position %d on: the log ends there (%v)", f.from, reason)
	}
	return err
}

func (f *inspectLog) printRecord(w io.Writer, m *message.Record, bytes int, first bool) error {
	r := shownRecord(m)
	if f.out.json {
		return writeJSONLine(w, struct {
			record
			Bytes int `json:"record_bytes"`
		}{r, bytes})
	}
	if !first {
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%-14s %d, %d bytes\n", "log position", m.PhysicalOffset, bytes)
	if err := r.write(w); err != nil {
		return err
	}
	for _, s := range r.State {
		fmt.Fprintf(w, "  %s %q = %s\n", s.Kind, s.Key, s.Value)
	}
	return nil
}
