package namesrv

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/apogeemq/apogee/protocol"
)

// The files of the name server, in the node's directory. RocketMQ reads and writes the first in the same form.
const (
	kvFile       = "kvConfig.json"      // {"configTable":{namespace:{key:value}}}
	settingsFile = "namesrv.properties" // the options that UPDATE_NAMESRV_CONFIG changed
	fileBytesMax = 64 << 20
)

// keyValues is the key-value configuration: by namespace, by key. A value of this type is never changed once it is in the table.
type keyValues map[string]map[string]string

// with returns a copy that holds the pair.
func (kv keyValues) with(namespace, key, value string) keyValues {
	next := maps.Clone(kv)
	space := maps.Clone(kv[namespace])
	if space == nil {
		space = map[string]string{}
	}
	space[key] = value
	next[namespace] = space
	return next
}

// without returns a copy that does not hold the key. The namespace stays, empty, as in RocketMQ.
func (kv keyValues) without(namespace, key string) keyValues {
	if _, ok := kv[namespace][key]; !ok {
		return kv
	}
	next := maps.Clone(kv)
	next[namespace] = maps.Clone(kv[namespace])
	delete(next[namespace], key)
	return next
}

type kvFileBody struct {
	Table keyValues `json:"configTable"`
}

func loadKV(fs vfs.FS, dir string) (keyValues, error) {
	path := fs.PathJoin(dir, kvFile)
	b, err := readFile(fs, path)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return keyValues{}, nil
	}
	body := kvFileBody{}
	if err := protocol.UnmarshalTable(b, &body); err != nil {
		return nil, fmt.Errorf("cannot read %q: %w", path, err)
	}
	if body.Table == nil {
		return nil, fmt.Errorf("cannot read %q: it has no configTable", path)
	}
	return body.Table, nil
}

func saveKV(fs vfs.FS, dir string, kv keyValues) error {
	b, err := json.MarshalIndent(kvFileBody{kv}, "", "\t")
	if err == nil && len(b) > fileBytesMax {
		err = fmt.Errorf("the key-value configuration would have %d bytes, the limit is fileBytesMax=%d", len(b), fileBytesMax)
	}
	if err != nil {
		return err
	}
	return writeFile(fs, dir, kvFile, b)
}

func loadSettings(fs vfs.FS, dir string) ([]setting, error) {
	b, err := readFile(fs, fs.PathJoin(dir, settingsFile))
	return parseProperties(string(b)), err
}

// readFile returns the file's content, nil when there is no such file.
func readFile(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open %q: %w", path, err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err == nil && len(b) > fileBytesMax {
		err = fmt.Errorf("more than fileBytesMax=%d", fileBytesMax)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %q: %w", path, err)
	}
	if b == nil {
		b = []byte{}
	}
	return b, nil
}

// writeFile replaces a file as a whole: written aside, synced, renamed, the directory synced.
func writeFile(fs vfs.FS, dir, name string, b []byte) error {
	path := fs.PathJoin(dir, name)
	aside := path + ".tmp"
	f, err := fs.Create(aside, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("cannot create %q: %w", aside, err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot write %q: %w", aside, err)
	}
	if err = fs.Rename(aside, path); err != nil {
		return fmt.Errorf("cannot rename %q: %w", aside, err)
	}
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("cannot open %q: %w", dir, err)
	}
	if err = errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("cannot sync %q: %w", dir, err)
	}
	return nil
}
