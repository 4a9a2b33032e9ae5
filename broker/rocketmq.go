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
	"github.com/apogeemq/apogee/broker/popserve"
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

// ImportRocketMQ reads the state that a RocketMQ broker left in dir/config; none when there is no such folder. A file that cannot be read
// is replaced by the one that RocketMQ keeps beside it (.bak), as RocketMQ does.
func ImportRocketMQ(files vfs.FS, dir string) (map[string][]store.Mutation, error) {
	config := files.PathJoin(dir, "config")
	if _, err := files.Stat(config); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, name := range []string{"metadata", "topics"} { // configStoreType=rocksdb
		if st, err := files.Stat(files.PathJoin(config, name)); err == nil && st.IsDir() {
			return nil, fmt.Errorf("%s: the configuration is in RocksDB, not in JSON files; write it as JSON with mqadmin rocksDBConfigToJson first", files.PathJoin(config, name))
		}
	}
	var topics foreignTopics
	var groups foreignGroups
	var offsets foreignOffsets
	var delays foreignDelays
	var filters foreignFilters
	var modes protocol.RequestModes
	for name, into := range map[string]any{
		fileTopics: &topics, fileGroups: &groups, fileOffsets: &offsets, fileDelays: &delays, fileFilters: &filters, fileModes: &modes,
	} {
		if err := readForeign(files, files.PathJoin(config, name), into); err != nil {
			return nil, err
		}
	}
	state := map[string][]store.Mutation{}
	put := func(kind, key string, value []byte) {
		state[kind] = append(state[kind], store.Mutation{Key: key, Value: value})
	}
	for name, c := range topics.Topics {
		put(kindTopics, name, c)
	}
	for name, c := range groups.Groups {
		put(kindGroups, name, c)
	}
	for group, table := range groups.Forbidden {
		for topic, bits := range table {
			put(kindForbidden, forbiddenKey(group, topic), protocol.MarshalBody(bits))
		}
	}
	for name, table := range offsets.Offsets {
		topic, group, ok := strings.Cut(name, "@")
		if !ok {
			return nil, fmt.Errorf("%s: %q is not topic@group", fileOffsets, name)
		}
		for queue, offset := range table {
			put(kindOffsets, offsetKey{group, topic, queue}.String(), binary.BigEndian.AppendUint64(nil, uint64(offset)))
		}
	}
	for level, offset := range delays.Offsets {
		m := delay.Progress(level-1, offset)
		put(delay.KindLevels, m.Key, m.Value)
	}
	for topic, table := range filters.Topics {
		for group, f := range table.Groups {
			put(kindFilters, filterKey(group, topic), f)
		}
	}
	check, err := readFile(files, files.PathJoin(config, delay.FileTimers))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	timers, err := delay.Imported(check)
	if err != nil {
		return nil, err
	}
	put(delay.KindImport, timers.Key, timers.Value)
	for topic, groups := range modes.Modes {
		for group, m := range groups {
			put(popserve.KindModes, popserve.ModeKey(topic, group), protocol.MarshalBody(m))
		}
	}
	if topics.DataVersion != nil {
		put(kindTopics, "", protocol.MarshalBody(topics.DataVersion))
	}
	if groups.DataVersion != nil {
		put(kindGroups, "", protocol.MarshalBody(groups.DataVersion))
	}
	return state, nil
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
	topics := foreignTopics{Topics: map[string]json.RawMessage{}, DataVersion: &protocol.DataVersion{}}
	groups := foreignGroups{Groups: map[string]json.RawMessage{}, Forbidden: map[string]map[string]int32{}, DataVersion: &protocol.DataVersion{}}
	offsets := foreignOffsets{map[string]map[int32]int64{}}
	delays := foreignDelays{map[int32]int64{}}
	modes := protocol.RequestModes{Modes: map[string]map[string]protocol.RequestMode{}}
	take := map[string]func(key string, value []byte) error{
		kindTopics: func(key string, value []byte) error { return takeConfig(topics.Topics, topics.DataVersion, key, value) },
		kindGroups: func(key string, value []byte) error { return takeConfig(groups.Groups, groups.DataVersion, key, value) },
		kindForbidden: func(key string, value []byte) error {
			group, topic, _ := strings.Cut(key, "\x00")
			if groups.Forbidden[group] == nil {
				groups.Forbidden[group] = map[string]int32{}
			}
			var bits int32
			err := json.Unmarshal(value, &bits)
			groups.Forbidden[group][topic] = bits
			return err
		},
		kindOffsets: func(key string, value []byte) error {
			k, err := parseOffsetKey(key)
			if err != nil || len(value) < 8 {
				return fmt.Errorf("offset %q has %d bytes: %w", key, len(value), err)
			}
			name := k.topic + "@" + k.group
			if offsets.Offsets[name] == nil {
				offsets.Offsets[name] = map[int32]int64{}
			}
			offsets.Offsets[name][k.queue] = int64(binary.BigEndian.Uint64(value))
			return nil
		},
		delay.KindLevels: func(key string, value []byte) error {
			level, err := strconv.ParseInt(key, 10, 32)
			if err != nil || len(value) != 8 {
				return fmt.Errorf("delay level %q has progress %x: %w", key, value, err)
			}
			delays.Offsets[int32(level)] = int64(binary.BigEndian.Uint64(value))
			return nil
		},
		popserve.KindModes: func(_ string, value []byte) error {
			var m protocol.RequestMode
			err := json.Unmarshal(value, &m)
			if modes.Modes[m.Topic] == nil {
				modes.Modes[m.Topic] = map[string]protocol.RequestMode{}
			}
			modes.Modes[m.Topic][m.Group] = m
			return err
		},
		kindConfig: func(key string, value []byte) error {
			lost = append(lost, fmt.Sprintf("the setting %s=%s, made while the broker ran: put it into broker.conf", key, value))
			return nil
		},
		kindLocks: func(key string, _ []byte) error {
			lost = append(lost, "a queue lock, which its consumer asks for again: "+strings.ReplaceAll(key, "\x00", " "))
			return nil
		},
	}
	for kind, fn := range take {
		if err := s.State(kind, fn); err != nil {
			return nil, nil, fmt.Errorf("state %s: %w", kind, err)
		}
	}
	if err := leaveTransactions(s, offsets.Offsets); err != nil {
		return nil, nil, err
	}
	timers, err := delay.ExportTimers(s)
	if err != nil {
		return nil, nil, fmt.Errorf("timed messages: %w", err)
	}
	return map[string][]byte{
		delay.FileTimers: timers, fileTopics: protocol.MarshalBody(topics), fileGroups: protocol.MarshalBody(groups),
		fileOffsets: protocol.MarshalBody(offsets), fileDelays: protocol.MarshalBody(delays),
		fileModes: protocol.MarshalBody(modes),
	}, lost, nil
}

// takeConfig adds one entry of a table whose empty key is its version.
func takeConfig(table map[string]json.RawMessage, version *protocol.DataVersion, key string, value []byte) error {
	if key == "" {
		return json.Unmarshal(value, version)
	}
	table[key] = append(json.RawMessage(nil), value...)
	return nil
}
