package namesrv

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/apogeemq/apogee/protocol"
)

func put(ns, k, v string) *protocol.Command {
	return protocol.NewRequest(protocol.ReqPutKVConfig, &protocol.KVHeader{Namespace: ns, Key: k, Value: v})
}

func write(t *testing.T, fs vfs.FS, name, content string) {
	t.Helper()
	if err := writeFile(fs, "", name, []byte(content)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, fs vfs.FS, name string) string {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestKeyValuesSurviveACrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	h := newHarnessOn(t, fs, nil)
	for _, c := range []*protocol.Command{
		put("n", "k", "v1"), put("n", "k", "v2"), put("ORDER_TOPIC_CONFIG", "T", "a:4;b:4"), put("n", "gone", "x"),
		protocol.NewRequest(protocol.ReqDeleteKVConfig, &protocol.KVHeader{Namespace: "n", Key: "gone"}),
	} {
		if _, err := h.serve(t, c, nil); err != nil {
			t.Fatal(err)
		}
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	h = newHarnessOn(t, crashed, nil)
	got := describe(h.serve(t, protocol.NewRequest(protocol.ReqGetKVListByNamespace, &protocol.KVHeader{Namespace: "n"}), nil))
	if want := "code 0\nbody {\"table\":{\"k\":\"v2\"}}\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	const file = "{\n\t\"configTable\": {\n\t\t\"ORDER_TOPIC_CONFIG\": {\n\t\t\t\"T\": \"a:4;b:4\"\n\t\t},\n\t\t\"n\": {\n\t\t\t\"k\": \"v2\"\n\t\t}\n\t}\n}"
	if got := read(t, crashed, kvFile); got != file {
		t.Errorf("file: %s", got)
	}
}

func TestRocketMQsFileIsRead(t *testing.T) {
	fs := vfs.NewMem()
	write(t, fs, kvFile, `{"configTable":{"ORDER_TOPIC_CONFIG":{"T":"a:8"}}}`)
	h := newHarnessOn(t, fs, nil)
	if got := h.keyValues()["ORDER_TOPIC_CONFIG"]["T"]; got != "a:8" {
		t.Errorf("got %q", got)
	}
}

func TestUnreadableFilesAreReported(t *testing.T) {
	for _, c := range []struct{ file, content, want string }{
		{kvFile, `{"configTable":{"n":{"k":`, `cannot read "kvConfig.json"`},
		{kvFile, ``, `cannot read "kvConfig.json"`},
		{kvFile, `{}`, `it has no configTable`},
		{settingsFile, "madeUp=1\n", `cannot use "namesrv.properties"`},
		{settingsFile, "notifyMinBrokerIdChanged=true\n", "cannot push"},
	} {
		fs := vfs.NewMem()
		write(t, fs, c.file, c.content)
		_, err := New(Options{Config: DefaultConfig(), FS: fs, Started: epoch})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q: %v, want %q", c.file, c.content, err, c.want)
		}
		if got := read(t, fs, c.file); got != c.content {
			t.Errorf("%s became %q", c.file, got)
		}
	}
}

func TestFailedWriteChangesNothing(t *testing.T) {
	for _, kind := range []errorfs.OpKind{errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpRename, errorfs.OpOpenDir} {
		failing := false
		broken := errors.New("broken disk")
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if failing && op.Kind == kind {
				return broken
			}
			return nil
		}))
		h := newHarnessOn(t, fs, nil)
		if _, err := h.serve(t, put("n", "k", "v1"), nil); err != nil {
			t.Fatal(err)
		}
		failing = true
		if _, err := h.serve(t, put("n", "k", "v2"), nil); !errors.Is(err, broken) {
			t.Errorf("%v: the put answered %v", kind, err)
		}
		if got := h.keyValues()["n"]["k"]; got != "v1" {
			t.Errorf("%v: a change that is not on disk is visible: %q", kind, got)
		}
	}
}

func TestSettingsStay(t *testing.T) {
	fs := vfs.NewMem()
	h := newHarnessOn(t, fs, nil)
	for _, text := range []string{"enableTopicList=false\nwaitSecondsForService=7\n", "# a comment\nwaitSecondsForService = 8\n"} {
		if _, err := h.serve(t, &protocol.Command{Code: int32(protocol.ReqUpdateNamesrvConfig), Body: []byte(text)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.serve(t, &protocol.Command{Code: int32(protocol.ReqUpdateNamesrvConfig), Body: []byte("enableTopicList=true\nmadeUp=1\n")}, nil); err == nil {
		t.Error("an unknown option was accepted")
	}
	if got, want := read(t, fs, settingsFile), "enableTopicList=false\nwaitSecondsForService=8\n"; got != want {
		t.Errorf("file %q, want %q", got, want)
	}
	c := newHarnessOn(t, fs, nil).config()
	if c.EnableTopicList || c.WaitForService != 8*time.Second {
		t.Errorf("after a restart: %+v", c)
	}
}

func TestPropertiesAreAllTheFieldsOfConfig(t *testing.T) {
	c := DefaultConfig()
	for _, name := range PropertyNames() {
		v, ok := c.Get(name)
		if !ok {
			t.Errorf("no %s", name)
		}
		if err := c.Set(name, v); err != nil {
			t.Errorf("%s=%s: %v", name, v, err)
		}
	}
	if c != DefaultConfig() {
		t.Errorf("setting what was read changed it: %+v", c)
	}
	for _, bad := range []setting{{"scanNotActiveBrokerInterval", "0"}, {"scanNotActiveBrokerInterval", "x"}, {"enableTopicList", "perhaps"}, {"defaultThreadPoolNums", "16"}} {
		if err := c.Set(bad.name, bad.value); err == nil || !strings.Contains(err.Error(), bad.name) {
			t.Errorf("%s=%s: %v", bad.name, bad.value, err)
		}
	}
}
