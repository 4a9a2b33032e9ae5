package broker

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/store"
	"github.com/apogeemq/apogee/store/commitlog"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// configFiles are as RocketMQ 5.5.0 writes them, in fastjson's dialect, shortened.
var configFiles = map[string]string{
	"topics.json": `{"dataVersion":{"counter":3,"stateVersion":0,"timestamp":1763700000000},"topicConfigTable":{
		"Orders":{"attributes":{"+message.type":"NORMAL"},"order":false,"perm":6,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"Orders","topicSysFlag":0,"writeQueueNums":4},
		"TBW102":{"attributes":{},"order":false,"perm":7,"readQueueNums":8,"topicFilterType":"SINGLE_TAG","topicName":"TBW102","topicSysFlag":0,"writeQueueNums":8}}}`,
	"subscriptionGroup.json": `{"dataVersion":{"counter":1,"stateVersion":0,"timestamp":1763700000000},"forbiddenTable":{"Billing":{"Orders":4}},"subscriptionGroupTable":{
		"Billing":{"attributes":{},"brokerId":0,"consumeBroadcastEnable":true,"consumeEnable":true,"consumeFromMinEnable":true,"consumeMessageOrderly":false,"consumeTimeoutMinute":15,"groupName":"Billing",
		"groupRetryPolicy":{"exponentialRetryPolicy":null,"type":"CUSTOMIZED"},"groupSysFlag":0,"notifyConsumerIdsChangedEnable":true,"retryMaxTimes":5,"retryQueueNums":1,"subscriptionDataSet":null,"whichBrokerWhenConsumeSlowly":1}}}`,
	"consumerOffset.json": `{"dataVersion":{"counter":9},"offsetTable":{"Orders@Billing":{0:17,1:3},"%RETRY%Billing@Billing":{0:2}}}`,
	"delayOffset.json":    `{"dataVersion":{"counter":2},"offsetTable":{1:0,3:12,16:1}}`,
	"consumerFilter.json": `{"filterDataByTopic":{"Orders":{"groupFilterData":{"Billing":{"bloomFilterData":{"bitNum":112,"bitPos":[1,2,3]},"bornTime":1763700000000,
		"clientVersion":1763700000001,"consumerGroup":"Billing","dead":false,"deadTime":0,"expression":"a > 5","expressionType":"SQL92","topic":"Orders"}},"topic":"Orders"}}}`,
}

func configDirectory(t testing.TB, files map[string]string) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll("store/config", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		f, err := fs.Create("store/config/"+name, vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = f.Write([]byte(content))
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return fs
}

func TestTheStateOfRocketMQIsTakenOverAndGivenBack(t *testing.T) {
	fs := configDirectory(t, configFiles)
	s, rec, err := store.Open(store.Config{
		FS: fs, Files: commitlog.NewVFSFiles(fs), Dir: "store", SegmentBytes: 256 << 10, MemoryBytesMax: 2 << 20,
		Now: time.Now, Logger: slog.New(slog.DiscardHandler), Import: ImportRocketMQ(false),
	})
	if err != nil {
		t.Fatal(err)
	}
	if !rec.Imported {
		t.Fatal("not taken over")
	}
	b, err := New(Config{Cluster: "c", Name: "b", Permission: 6, AutoCreateTopic: true, DefaultTopicQueues: 8, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}, s)
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := b.Topic("Orders"); !ok || c.ReadQueues != 4 || c.Attributes["+message.type"] == "" && c.Attributes["message.type"] == "" {
		t.Errorf("topic %+v", c)
	}
	if g := b.groups.find("Billing"); g == nil || g.RetryMaxTimes != 5 {
		t.Errorf("group %+v", g)
	}
	if b.groups.mayRead("Billing", "Orders") {
		t.Error("the group may read what it is forbidden to")
	}
	if f, ok := b.filters.Find("Billing", "Orders"); !ok || f.Expression != "a > 5" || f.Version != 1763700000001 {
		t.Errorf("filter %+v", f)
	}
	for k, want := range map[offsetKey]int64{{"Billing", "Orders", 0}: 17, {"Billing", "Orders", 1}: 3, {"Billing", "%RETRY%Billing", 0}: 2} {
		if got, ok := b.offsets.find(k); !ok || got != want {
			t.Errorf("offset of %v: %d, want %d", k, got, want)
		}
	}
	if next, err := b.delays.LevelProgress(); err != nil || next[2] != 12 || next[15] != 1 {
		t.Errorf("progress of the delay levels %v, %v", next, err)
	}
	files, _, err := ExportRocketMQ(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	back := map[string]string{}
	for name, content := range files {
		if !json.Valid(content) && name != delay.FileTimers {
			t.Errorf("%s is not JSON: %s", name, content)
		}
		back[name] = string(content)
	}
	first, err := ImportRocketMQ(false)(configDirectory(t, configFiles), "store")
	if err != nil {
		t.Fatal(err)
	}
	second, err := ImportRocketMQ(false)(configDirectory(t, back), "store")
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range []map[string][]store.Mutation{first, second} {
		for _, changes := range state {
			slices.SortFunc(changes, func(a, b store.Mutation) int { return strings.Compare(a.Key, b.Key) })
		}
	}
	delete(first, delay.KindImport) // TestTimedMessagesGoToRocketMQAndBack
	delete(second, delay.KindImport)
	delete(first, kindFilters) // they come with heartbeats
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("given back otherwise: %s", diff)
	}
}

func TestBrokenConfigurationOfRocketMQ(t *testing.T) {
	backup := map[string]string{"topics.json": `{"topicConfigTable":`, "topics.json.bak": configFiles["topics.json"]}
	if state, err := ImportRocketMQ(false)(configDirectory(t, backup), "store"); err != nil || len(state[kindTopics]) != 3 {
		t.Errorf("from the backup: %v, %v", state, err)
	}
	_, err := ImportRocketMQ(false)(configDirectory(t, map[string]string{"consumerOffset.json": "{"}), "store")
	if err == nil || !strings.Contains(err.Error(), "consumerOffset.json") {
		t.Errorf("error %v does not name the file", err)
	}
	fs := configDirectory(t, nil)
	if err := fs.MkdirAll("store/config/metadata", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := ImportRocketMQ(false)(fs, "store"); err == nil || !strings.Contains(err.Error(), "rocksDBConfigToJson") {
		t.Errorf("configuration in RocksDB: %v", err)
	}
	fs = configDirectory(t, nil)
	if err := fs.MkdirAll("store/kvStore", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := ImportRocketMQ(false)(fs, "store"); err == nil || !strings.Contains(err.Error(), "exportPopRecord") {
		t.Errorf("deliveries in RocksDB: %v", err)
	}
	if state, err := ImportRocketMQ(false)(vfs.NewMem(), "store"); state != nil || err != nil {
		t.Errorf("no configuration: %v, %v", state, err)
	}
}

// What waits for a moment waits once on each side, what was recalled or delivered on neither.
func TestTimedMessagesGoToRocketMQAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		n := startDelayNode(t, fs, delay.DefaultLevels())
		n.mustSendTimed("T", message.PropTimerDelaySec, 10, "soon")
		n.mustSendTimed("T", message.PropTimerDelaySec, 7200, "late")
		recalled := n.mustSendTimed("T", message.PropTimerDelaySec, 3600, "recalled")
		rolled := n.mustSendTimed("T", message.PropTimerDelaySec, 5000, "rolled")
		time.Sleep(20 * time.Second)
		if err := n.recallNow("T", n.delays.RecallHandle(&recalled)); err != nil {
			t.Fatal(err)
		}
		// as RocketMQ rolls
		roll, _, err := n.store.RecordAt(rolled.PhysicalOffset)
		if err != nil {
			t.Fatal(err)
		}
		roll.Properties = message.AppendProperty(message.AppendWithout(nil, roll.Properties, message.PropCRC), message.PropTimerRolls, []byte("1"))
		appended := make(chan error, 1)
		err = n.store.Append(&store.Batch{Entries: []store.Entry{n.store.EntryFor(roll, n.store.Queue(message.TopicTimerWheel, 0))}, Done: func(_ *store.Batch, err error) { appended <- err }})
		if err = errors.Join(err, <-appended); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		n.Broker.Stop()
		_, before := n.store.Queue(message.TopicTimerWheel, 0).Bounds()
		files, _, err := ExportRocketMQ(n.store)
		if err != nil {
			t.Fatal(err)
		}
		check := files[delay.FileTimers]
		if len(check) != 56 || int64(binary.BigEndian.Uint64(check[16:])) != before || int64(binary.BigEndian.Uint64(check[24:])) != before {
			t.Errorf("timercheck is %x, the queue ended at %d", check, before)
		}
		var home []string
		for at, r := range n.read(message.TopicTimerWheel) {
			if int64(at) >= before {
				home = append(home, string(r.Body))
			}
		}
		if diff := cmp.Diff([]string{"rolled", "rolled", "late"}, home); diff != "" {
			t.Errorf("RocketMQ finds: %s", diff)
		}
		if err := n.store.Leave(files); err != nil {
			t.Fatal(err)
		}

		n = startDelayNode(t, fs, delay.DefaultLevels())
		synctest.Wait()
		time.Sleep(time.Second)
		n.wantCount(2)
		n.stop()
		n = startDelayNode(t, fs, delay.DefaultLevels()) // it is taken over once
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if diff := cmp.Diff([]string{"soon", "rolled", "late"}, bodies(n.read("T"))); diff != "" {
			t.Error(diff)
		}
		n.wantCount(0)
		n.stop()
	})
}

func TestOffsetsOfLightGroupsAreTakenOverAndGivenBack(t *testing.T) {
	const light = `{"lmqOffsetTable":{"%LMQ%a@%LMQ%G":7},"offsetTable":{"%LMQ%a@Billing":{0:3},"Orders@Billing":{0:18}}}`
	fs := configDirectory(t, map[string]string{fileLight: light, fileOffsets: configFiles[fileOffsets]})
	s, _, err := store.Open(store.Config{
		FS: fs, Files: commitlog.NewVFSFiles(fs), Dir: "store", SegmentBytes: 256 << 10, MemoryBytesMax: 2 << 20,
		Now: time.Now, Logger: slog.New(slog.DiscardHandler), Import: ImportRocketMQ(true),
	})
	if err != nil {
		t.Fatal(err)
	}
	files, _, err := ExportRocketMQ(s)
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	var got [2]foreignOffsets
	for i, name := range []string{fileLight, fileOffsets} {
		if err := json.Unmarshal(files[name], &got[i]); err != nil {
			t.Fatal(err)
		}
	}
	want := [2]foreignOffsets{
		{Offsets: map[string]map[int32]int64{"%LMQ%a@Billing": {0: 3}, "Orders@Billing": {0: 18}}, Light: map[string]int64{"%LMQ%a@%LMQ%G": 7}},
		{Offsets: map[string]map[int32]int64{"%LMQ%a@Billing": {0: 3}, "Orders@Billing": {0: 18}, "%LMQ%a@%LMQ%G": {0: 7}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
