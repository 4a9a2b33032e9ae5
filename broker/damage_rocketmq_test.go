package broker

import (
	"log/slog"
	"testing"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store"
	"github.com/apogeemq/apogee/store/commitlog"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A directory of RocketMQ with damage in its log starts as one of ours does: read-only, with the half messages and timers as they are.
func TestADamagedDirectoryOfRocketMQStarts(t *testing.T) {
	const segment = 256 << 10
	fs := configDirectory(t, configFiles)
	if err := fs.MkdirAll("store/commitlog", 0o755); err != nil {
		t.Fatal(err)
	}
	log := []byte{}
	for i, topic := range []string{"Orders", message.TopicHalf, "Orders", "Orders"} {
		r := message.Record{Topic: []byte(topic), Body: []byte("body"), PhysicalOffset: int64(len(log)), QueueOffset: int64(i), StoreTime: 1000}
		r.Properties = message.AppendProperty(nil, message.PropRealTopic, []byte("Orders"))
		r.Properties = message.AppendProperty(r.Properties, message.PropRealQueueID, []byte("0"))
		at := len(log)
		if log = r.Append(log); i == 2 {
			log[at+90] ^= 4
		}
	}
	f, err := fs.Create("store/commitlog/00000000000000000000", vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(append(log, make([]byte, segment-len(log))...))
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	open := func(accept bool) (*store.Store, store.Recovery, error) {
		s, rec, err := store.Open(store.Config{
			FS: fs, Files: commitlog.NewVFSFiles(fs), Dir: "store", SegmentBytes: segment, MemoryBytesMax: 2 << 20, AcceptDamage: accept,
			Now: time.Now, Logger: slog.New(slog.DiscardHandler), Import: ImportRocketMQ(false),
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = New(Config{Cluster: "c", Name: "b", Permission: 6, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}, s)
		return s, rec, err
	}
	s, rec, err := open(false)
	if err != nil || len(rec.Gaps) != 1 {
		t.Fatalf("%v, found %+v", err, rec)
	}
	if _, end := s.Queue("Orders", 0).Bounds(); end != 4 {
		t.Errorf("Orders ends at %d, want 4", end)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _, err = open(true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Settle()
	if value, err := s.StateAt(kindTransactions, takenOver); err != nil || value == nil {
		t.Errorf("half messages are not taken over once the damage is accepted: %v", err)
	}
}
