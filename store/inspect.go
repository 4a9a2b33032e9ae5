package store

import (
	"errors"
	"fmt"
	"io/fs"
	"math"

	"github.com/apogeemq/apogee/store/commitlog"
	"github.com/apogeemq/apogee/store/view"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Directory is a store as it stands on disk, read without changing it. Nobody need run on it; RocketMQ may have written it.
type Directory struct {
	fs  vfs.FS
	log string // of the segments

	Root       string // that holds commitlog, state and view
	InUse      bool   // a node or a broker of RocketMQ runs on it
	Checkpoint int64  // all before was on stable storage; -1: not known
	ForeignEnd int64  // RocketMQ wrote what stands before; MaxInt64: no node of Apogee has run on it
}

// Examine finds the store in dir: a node's directory, a store's root (also RocketMQ's), or the folder of the segments itself.
func Examine(files vfs.FS, dir string) (*Directory, error) {
	d := &Directory{fs: files}
	if _, err := files.Stat(dir); err != nil {
		return nil, err
	}
	names, err := files.List(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if _, ok := commitlog.SegmentStart(name); ok {
			d.Root, d.log = files.PathDir(dir), dir
		}
	}
	for _, root := range []string{dir, files.PathJoin(dir, "store")} {
		if _, err := files.Stat(files.PathJoin(root, "commitlog")); err == nil && d.Root == "" {
			d.Root, d.log = root, files.PathJoin(root, "commitlog")
		}
	}
	if d.Root == "" {
		return nil, fmt.Errorf("%s: no store is here: want a folder with commitlog or store/commitlog in it", dir)
	}
	if d.InUse, err = inUse(files, files.PathJoin(d.Root, "lock")); err != nil {
		return nil, err
	}
	var known bool
	if d.Checkpoint, known, err = readMark(files, d.path("state", "checkpoint")); err != nil {
		return nil, err
	} else if !known {
		d.Checkpoint = -1
	}
	if d.ForeignEnd, known, err = readMark(files, d.path("state", "rocketmq-end")); err == nil && !known {
		d.ForeignEnd = math.MaxInt64
	}
	return d, err
}

// HasForeignEnd tells whether a node of Apogee has run on the directory, and has noted how far RocketMQ wrote.
func (d *Directory) HasForeignEnd() bool { return d.ForeignEnd != math.MaxInt64 }

func (d *Directory) path(elements ...string) string {
	return d.fs.PathJoin(append([]string{d.Root}, elements...)...)
}

// Log opens the log.
func (d *Directory) Log() (*commitlog.Reader, error) {
	return commitlog.OpenReader(d.fs, d.log, d.ForeignEnd)
}

// View opens the view's database as it was staged last. It must not be in use.
func (d *Directory) View() (*view.View, error) {
	path := d.path("view")
	if _, err := d.fs.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: there is no view, which only Apogee makes; the log can be looked at", path)
	}
	v, err := view.OpenReadOnly(d.fs, path)
	if err != nil {
		return nil, err
	}
	if l, err := d.Log(); err == nil {
		first, _ := l.Bounds()
		v.SetFirst(first)
		_ = l.Close()
	}
	return v, nil
}

// View is the view's database.
type View = view.View

// Base is one base's file.
type Base struct {
	Path     string `json:"path"`
	Position int64  `json:"log_position"`
}

// Bases lists the bases, oldest first.
func (d *Directory) Bases() ([]Base, error) {
	positions, err := listBases(d.fs, d.path("state"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	list := make([]Base, len(positions))
	for i, p := range positions {
		list[i] = Base{d.path("state", baseName(p)), p}
	}
	return list, err
}

// BaseVisitor is told what a base holds, in its order. Entries are good only if ReadBase returns no error.
type BaseVisitor struct {
	Queue func(topic string, id int32, first, next int64) error
	State func(kind, key string, value []byte) error
}

// ReadBase reads a base, and checks its checksum at the end.
func (d *Directory) ReadBase(path string, v BaseVisitor) (view.Applied, error) {
	return readBase(d.fs, path, func(e view.BaseEntry) error {
		if topic, id, first, next, ok := e.Queue(); ok {
			return v.Queue(topic, id, first, next)
		}
		if kind, key, ok := e.State(); ok {
			return v.State(kind, key, e.Value)
		}
		return fmt.Errorf("entry %q is of no known kind", e.Key)
	})
}

// DecodeState reads the body of a state record, which stands at a log position.
func DecodeState(body []byte, position int64) ([]Mutation, error) { return decodeState(body, position) }
