package broker

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/broker/expression"
	"github.com/apogeemq/apogee/broker/popserve"
	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/store"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// In from RocketMQ, and back: the state in config/*.json of a RocketMQ store directory (ConfigManager, BrokerPathConfigHelper), as
// the broker's own state and the other way round. Topics, groups, what groups are forbidden to read, consumer offsets, the progress of
// the delay levels and what waits for a moment have a place in both.

// The files, and the tables in them.
const (
	fileTopics  = "topics.json"
	fileGroups  = "subscriptionGroup.json"
	fileOffsets = "consumerOffset.json"
	fileLight   = "lmqConsumerOffset.json" // in its place, with enableLmq
	fileDelays  = "delayOffset.json"
	fileFilters = "consumerFilter.json"
	fileModes   = "messageRequestMode.json"
)

// foreignTopics is TopicConfigSerializeWrapper, foreignGroups SubscriptionGroupManager; foreignOffsets is what ConsumerOffsetManager keeps by
// topic@group and queue, foreignDelays ScheduleMessageService by level, foreignFilters ConsumerFilterManager. The last are not given
// back: RocketMQ takes them only with its own Bloom filter, and gets them again from the next heartbeats.
type (
	foreignTopics struct {
		Topics      map[string]json.RawMessage `json:"topicConfigTable"`
		DataVersion *protocol.DataVersion      `json:"dataVersion,omitempty"`
	}
	foreignGroups struct {
		Groups      map[string]json.RawMessage  `json:"subscriptionGroupTable"`
		Forbidden   map[string]map[string]int32 `json:"forbiddenTable"`
		DataVersion *protocol.DataVersion       `json:"dataVersion,omitempty"`
	}
	foreignOffsets struct {
		Offsets map[string]map[int32]int64 `json:"offsetTable"`
		Light   map[string]int64           `json:"lmqOffsetTable,omitempty"` // of light groups, in fileLight
	}
	foreignDelays struct {
		Offsets map[int32]int64 `json:"offsetTable"`
	}
	foreignFilters struct {
		Topics map[string]struct {
			Groups map[string]json.RawMessage `json:"groupFilterData"`
		} `json:"filterDataByTopic"`
	}
)

// ImportRocketMQ returns the store's Import: it reads the state that a RocketMQ broker left in dir/config; none when there is no such folder. A
// file that cannot be read is replaced by the one that RocketMQ keeps beside it (.bak), as RocketMQ does. light: that broker had enableLmq.
func ImportRocketMQ(light bool) func(files vfs.FS, dir string) (map[string][]store.Mutation, error) {
	return func(files vfs.FS, dir string) (map[string][]store.Mutation, error) {
		return importFrom(files, dir, light)
	}
}

func importFrom(files vfs.FS, dir string, light bool) (map[string][]store.Mutation, error) {
	config := files.PathJoin(dir, "config")
	if _, err := files.Stat(config); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, name := range []string{"metadata", "topics"} { // configStoreType=rocksdb
		if st, err := files.Stat(files.PathJoin(config, name)); err == nil && st.IsDir() {
			return nil, fmt.Errorf("%s: the configuration is in RocksDB, not in JSON files; write it as JSON with mqadmin rocksDBConfigToJson first", files.PathJoin(config, name))
		}
	}
	if st, err := files.Stat(files.PathJoin(dir, "kvStore")); err == nil && st.IsDir() { // popConsumerKVServiceEnable
		return nil, fmt.Errorf("%s: what groups have popped is in RocksDB, not in the log; start RocketMQ with popConsumerKVServiceEnable=false, have it written there with mqadmin exportPopRecord, stop it and remove the folder", files.PathJoin(dir, "kvStore"))
	}
	offsets, other := fileOffsets, fileLight
	if light {
		offsets, other = other, offsets
	}
	if _, err := files.Stat(files.PathJoin(config, offsets)); errors.Is(err, fs.ErrNotExist) {
		offsets = other
	}
	f := &foreign{state: map[string][]store.Mutation{}}
	for name, into := range map[string]any{
		fileTopics: &f.topics, fileGroups: &f.groups, offsets: &f.offsets, fileDelays: &f.delays, fileFilters: &f.filters, fileModes: &f.modes,
	} {
		if err := readForeign(files, files.PathJoin(config, name), into); err != nil {
			return nil, err
		}
	}
	f.putConfigs()
	if err := f.putProgress(); err != nil {
		return nil, err
	}
	check, err := readFile(files, files.PathJoin(config, delay.FileTimers))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	timers, err := delay.Imported(check)
	if err != nil {
		return nil, err
	}
	f.put(delay.KindImport, timers.Key, timers.Value)
	return f.state, nil
}

// foreign is what the files hold, on the way in with the state that it becomes, on the way back with what has no place there.
type foreign struct {
	topics  foreignTopics
	groups  foreignGroups
	offsets foreignOffsets
	delays  foreignDelays
	filters foreignFilters
	modes   protocol.RequestModes
	state   map[string][]store.Mutation
	lost    []string
}

func (f *foreign) put(kind, key string, value []byte) {
	f.state[kind] = append(f.state[kind], store.Mutation{Key: key, Value: value})
}

// putConfigs puts what administrators and clients have set.
func (f *foreign) putConfigs() {
	for name, c := range f.topics.Topics {
		f.put(kindTopics, name, c)
	}
	for name, c := range f.groups.Groups {
		f.put(kindGroups, name, c)
	}
	for group, table := range f.groups.Forbidden {
		for topic, bits := range table {
			f.put(kindForbidden, forbiddenKey(group, topic), protocol.MarshalBody(bits))
		}
	}
	for topic, table := range f.filters.Topics {
		for group, of := range table.Groups {
			f.put(kindFilters, expression.Key(group, topic), of)
		}
	}
	for topic, groups := range f.modes.Modes {
		for group, m := range groups {
			f.put(popserve.KindModes, popserve.ModeKey(topic, group), protocol.MarshalBody(m))
		}
	}
	if f.topics.DataVersion != nil {
		f.put(kindTopics, "", protocol.MarshalBody(f.topics.DataVersion))
	}
	if f.groups.DataVersion != nil {
		f.put(kindGroups, "", protocol.MarshalBody(f.groups.DataVersion))
	}
}

// putProgress puts how far groups and delay levels have come.
func (f *foreign) putProgress() error {
	for name, offset := range f.offsets.Light {
		f.addOffset(name, 0, offset)
	}
	for name, table := range f.offsets.Offsets {
		topic, group, ok := strings.Cut(name, "@")
		if !ok {
			return fmt.Errorf("%s: %q is not topic@group", fileOffsets, name)
		}
		for queue, offset := range table {
			f.put(kindOffsets, offsetKey{group, topic, queue}.String(), binary.BigEndian.AppendUint64(nil, uint64(offset)))
		}
	}
	for level, offset := range f.delays.Offsets {
		m := delay.Progress(level-1, offset)
		f.put(delay.KindLevels, m.Key, m.Value)
	}
	return nil
}

// readForeign reads a file in RocketMQ's JSON into a table, which stays empty where there is no file.
func readForeign(files vfs.FS, path string, into any) error {
	var failed error
	for _, path := range []string{path, path + ".bak"} {
		b, err := readFile(files, path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 {
			continue
		}
		if err == nil {
			b, err = protocol.StandardJSON(b)
		}
		if err == nil {
			err = json.Unmarshal(b, into)
		}
		if err == nil {
			return nil
		}
		failed = errors.Join(failed, fmt.Errorf("%s: %w", path, err))
	}
	return failed
}

func readFile(files vfs.FS, path string) ([]byte, error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// ExportRocketMQ returns the files of config/, by name, for a RocketMQ broker to go on with, and what of the state has no place there. What
// waits for a moment is appended to the log again.
func ExportRocketMQ(s *store.Store) (files map[string][]byte, lost []string, err error) {
	f := &foreign{
		topics:  foreignTopics{Topics: map[string]json.RawMessage{}, DataVersion: &protocol.DataVersion{}},
		groups:  foreignGroups{Groups: map[string]json.RawMessage{}, Forbidden: map[string]map[string]int32{}, DataVersion: &protocol.DataVersion{}},
		offsets: foreignOffsets{Offsets: map[string]map[int32]int64{}},
		delays:  foreignDelays{map[int32]int64{}},
		modes:   protocol.RequestModes{Modes: map[string]map[string]protocol.RequestMode{}},
	}
	take := map[string]func(key string, value []byte) error{
		kindTopics: func(key string, value []byte) error {
			return takeConfig(f.topics.Topics, f.topics.DataVersion, key, value)
		},
		kindGroups: func(key string, value []byte) error {
			return takeConfig(f.groups.Groups, f.groups.DataVersion, key, value)
		},
		kindForbidden:      f.takeForbidden,
		kindOffsets:        f.takeOffset,
		delay.KindLevels:   f.takeDelay,
		popserve.KindModes: f.takeMode,
	}
	for kind, fn := range take {
		if err := s.State(kind, fn); err != nil {
			return nil, nil, fmt.Errorf("state %s: %w", kind, err)
		}
	}
	if err := f.listLost(s); err != nil {
		return nil, nil, err
	}
	for topic := range f.topics.Topics {
		err = errors.Join(err, popserve.Leave(s, topic, func(topic, group string, queue int32, handled int64) {
			f.addOffset(topic+"@"+group, queue, handled)
		}))
	}
	if err = errors.Join(err, leaveTransactions(s, f.offsets.Offsets)); err != nil {
		return nil, nil, err
	}
	timers, fromLevels, err := delay.ExportTimers(s)
	if err != nil {
		return nil, nil, fmt.Errorf("timed messages: %w", err)
	}
	if fromLevels > 0 {
		f.lost = append(f.lost, fmt.Sprintf("that %d messages waited in a delay level until retention took its segment: RocketMQ delivers them as timed messages, "+
			"with properties that begin with APOGEE_LEVEL_", fromLevels))
	}
	return map[string][]byte{
		delay.FileTimers: timers, fileTopics: protocol.MarshalBody(f.topics), fileGroups: protocol.MarshalBody(f.groups),
		fileOffsets: protocol.MarshalBody(f.offsets), fileLight: protocol.MarshalBody(f.offsets.light()), fileDelays: protocol.MarshalBody(f.delays),
		fileModes: protocol.MarshalBody(f.modes),
	}, f.lost, nil
}

// listLost tells what has no place in RocketMQ's files, and what becomes of it. Nothing is there for kinds that the log itself makes again.
func (f *foreign) listLost(s *store.Store) error {
	lines := []struct {
		kind string
		line func(key, value string) string
	}{
		{kindConfig, func(key, value string) string {
			return fmt.Sprintf("the setting %s=%s, made while the broker ran: put it into broker.conf", key, value)
		}},
		{kindCold, func(group, value string) string {
			return fmt.Sprintf("the limit of cold data of group %s, %s bytes: set it again with mqadmin updateColdDataFlowCtrGroupConfig", group, value)
		}},
		{kindFilters, func(key, _ string) string {
			group, topic, _ := strings.Cut(key, "\x00")
			return fmt.Sprintf("the SQL92 expression of group %s for topic %s, which comes again with its consumers' next heartbeats", group, topic)
		}},
		{kindLocks, func(key, _ string) string {
			return "a queue lock, which its consumer asks for again: " + strings.ReplaceAll(key, "\x00", " ")
		}},
	}
	for _, l := range lines {
		err := s.State(l.kind, func(key string, value []byte) error {
			f.lost = append(f.lost, l.line(key, string(value)))
			return nil
		})
		if err != nil {
			return fmt.Errorf("state %s: %w", l.kind, err)
		}
	}
	flying, err := popserve.InFlight(s)
	if err != nil {
		return fmt.Errorf("state of POP: %w", err)
	}
	for _, k := range flying {
		f.lost = append(f.lost, fmt.Sprintf("what group %s has popped of topic %s, queue %d, and which of it is acknowledged: it is delivered again from the group's offset on", k.Group, k.Topic, k.Queue))
	}
	copies, err := s.CompactedCopies()
	if err != nil {
		return fmt.Errorf("compaction topics: %w", err)
	}
	if copies > 0 {
		f.lost = append(f.lost, fmt.Sprintf("%d messages of compaction topics, the last of their keys, whose segments are gone: send them again", copies))
	}
	return nil
}

func (f *foreign) takeForbidden(key string, value []byte) error {
	group, topic, _ := strings.Cut(key, "\x00")
	if f.groups.Forbidden[group] == nil {
		f.groups.Forbidden[group] = map[string]int32{}
	}
	var bits int32
	err := json.Unmarshal(value, &bits)
	f.groups.Forbidden[group][topic] = bits
	return err
}

func (f *foreign) takeOffset(key string, value []byte) error {
	k, err := parseOffsetKey(key)
	if err != nil || len(value) < 8 {
		return fmt.Errorf("offset %q has %d bytes: %w", key, len(value), err)
	}
	f.addOffset(k.topic+"@"+k.group, k.queue, int64(binary.BigEndian.Uint64(value)))
	return nil
}

func (f *foreign) addOffset(name string, queue int32, offset int64) {
	if f.offsets.Offsets == nil {
		f.offsets.Offsets = map[string]map[int32]int64{}
	}
	if f.offsets.Offsets[name] == nil {
		f.offsets.Offsets[name] = map[int32]int64{}
	}
	f.offsets.Offsets[name][queue] = offset
}

// light returns the offsets as a broker with enableLmq keeps them: those of light groups by themselves.
func (o *foreignOffsets) light() foreignOffsets {
	split := foreignOffsets{Offsets: map[string]map[int32]int64{}, Light: map[string]int64{}}
	for name, table := range o.Offsets {
		if _, group, _ := strings.Cut(name, "@"); message.IsLMQ(group) {
			split.Light[name] = table[0]
		} else {
			split.Offsets[name] = table
		}
	}
	return split
}

func (f *foreign) takeDelay(key string, value []byte) error {
	level, err := strconv.ParseInt(key, 10, 32)
	if err != nil || len(value) != 8 {
		return fmt.Errorf("delay level %q has progress %x: %w", key, value, err)
	}
	f.delays.Offsets[int32(level)] = int64(binary.BigEndian.Uint64(value))
	return nil
}

func (f *foreign) takeMode(_ string, value []byte) error {
	var m protocol.RequestMode
	err := json.Unmarshal(value, &m)
	if f.modes.Modes[m.Topic] == nil {
		f.modes.Modes[m.Topic] = map[string]protocol.RequestMode{}
	}
	f.modes.Modes[m.Topic][m.Group] = m
	return err
}

// takeConfig adds one entry of a table whose empty key is its version.
func takeConfig(table map[string]json.RawMessage, version *protocol.DataVersion, key string, value []byte) error {
	if key == "" {
		return json.Unmarshal(value, version)
	}
	table[key] = append(json.RawMessage(nil), value...)
	return nil
}
