package broker_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/protocol"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// flip changes a bit of the first place in the log that has this text.
func flip(t *testing.T, fs vfs.FS, dir, text string) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := fs.OpenReadWrite(fs.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(b, []byte(text)); at >= 0 {
			if _, err := f.WriteAt([]byte{b[at] ^ 4}, int64(at)); err != nil {
				t.Fatal(err)
			}
			f.Close()
			return
		}
		f.Close()
	}
	t.Fatalf("%q is not in %s", text, dir)
}

// A node whose log is damaged in its middle serves what there is, and takes nothing until its operator has accepted the loss.
func TestADamagedNodeIsReadOnly(t *testing.T) {
	fs := vfs.NewMem()
	n := startConfig(t, testConfig(fs))
	n.group("G")
	for _, body := range []string{"before", "damage me", "behind"} {
		n.send(sendFields, body)
	}
	n.stop()
	flip(t, fs, "data/store/commitlog", "damage me")
	if err := fs.RemoveAll("data/store/view"); err != nil { // so that the start reads all of it
		t.Fatal(err)
	}
	n = startConfig(t, testConfig(fs))
	answer := n.call(protocol.ReqSendMessage, sendFields, []byte("new"))
	if answer.Code != int32(protocol.RespServiceNotAvailable) || !strings.Contains(string(answer.Remark), "--accept-damage") {
		t.Errorf("a send is answered %d %s", answer.Code, answer.Remark)
	}
	if got := bodies(n.records(n.ok(protocol.ReqPullMessage, pullFields, nil, nil).Body)); got != "before behind" {
		t.Errorf("pulled %q", got)
	}
	n.stop()
	c := testConfig(fs)
	c.AcceptDamage = true
	n = startConfig(t, c)
	defer n.stop()
	n.send(sendFields, "new")
	if got := bodies(n.records(n.ok(protocol.ReqPullMessage, pullFields, nil, nil).Body)); got != "before behind new" {
		t.Errorf("pulled %q", got)
	}
}
