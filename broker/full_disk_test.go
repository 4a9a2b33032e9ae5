package broker_test

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/server"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// fullDisk refuses the log's next segment, or says that nearly all of it is in use.
type fullDisk struct {
	vfs.FS
	noSegment, used atomic.Bool
}

func (d *fullDisk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if d.noSegment.Load() && strings.Contains(name, "spare-") {
		return nil, &os.PathError{Op: "create", Path: name, Err: syscall.ENOSPC}
	}
	return d.FS.Create(name, category)
}

func (d *fullDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	u := vfs.DiskUsage{TotalBytes: 100 << 30, UsedBytes: 50 << 30}
	if d.used.Load() {
		u.UsedBytes = 95 << 30
	}
	u.AvailBytes = u.TotalBytes - u.UsedBytes
	return u, nil
}

// A disk that is full refuses messages, with the code and the reason; everything else goes on, and messages are taken again once there is
// space, without anybody's doing.
func TestAFullDiskAnswersSendsWithServiceNotAvailable(t *testing.T) {
	for _, row := range []struct {
		name, remark string
		of           func(*fullDisk) *atomic.Bool
	}{
		{"no space for a segment", "allocate 262144 bytes for data/store/spare/spare-", func(d *fullDisk) *atomic.Bool { return &d.noSegment }},
		{"the watermark", fmt.Sprintf("the disk of data/store has %d of %d bytes in use, the limit is diskSpaceWarningLevelRatio=90%%; make room, or raise it", 95<<30, 100<<30), func(d *fullDisk) *atomic.Bool { return &d.used }},
	} {
		t.Run(row.name, func(t *testing.T) {
			disk := &fullDisk{FS: vfs.NewMem()}
			full := row.of(disk)
			n := startNode(t, func(c *server.Config) { c.FS, c.Retention.CleanRatio = disk, 0 })
			n.group("G")
			n.send(sendFields, "first")
			popped, _, _ := n.pop(popFields)
			full.Store(true)
			body := strings.Repeat("x", 60_000)
			var answer *protocol.Command
			waitFor(t, "a refusal", func() bool { // the end of a segment has the disk looked at
				answer = n.call(protocol.ReqSendMessage, sendFields, []byte(body))
				return answer.Check() != nil
			})
			if answer.Code != int32(protocol.RespServiceNotAvailable) || !strings.Contains(string(answer.Remark), row.remark) {
				t.Errorf("a send: %v, want SERVICE_NOT_AVAILABLE with %q", answer.Check(), row.remark)
			}
			batch := message.AppendBatchItem(nil, message.BatchItem{Body: []byte(body)})
			for what, answer := range map[string]*protocol.Command{
				"a batch":        n.call(protocol.ReqSendBatchMessage, sendFields.with("batch", "true"), batch),
				"a half message": n.call(protocol.ReqSendMessage, sendFields.with("sysFlag", "4", "properties", "TRAN_MSG\x01true\x02PGROUP\x01P\x02UNIQ_KEY\x01u\x02"), []byte(body)),
			} {
				if answer.Code != int32(protocol.RespServiceNotAvailable) {
					t.Errorf("%s: %v, want SERVICE_NOT_AVAILABLE", what, answer.Check())
				}
			}
			pulled := n.ok(protocol.ReqPullMessage, pullFields, nil, nil)
			if list := n.records(pulled.Body); len(list) == 0 || string(list[0].Body) != "first" {
				t.Error("the pull brought nothing")
			}
			n.ok(protocol.ReqUpdateConsumerOffset, offsetFields, nil, nil)
			n.ack(popped[0])
			full.Store(false)
			waitFor(t, "messages to be taken again", func() bool { return n.call(protocol.ReqSendMessage, sendFields, []byte("again")).Check() == nil })
		})
	}
}
