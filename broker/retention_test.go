package broker

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apogeemq/apogee/broker/delay"
	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/apogeemq/apogee/store"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// What has expired goes when DELETE_EXPIRED_COMMITLOG asks for it: at once, not with the next look at the log's age.
func TestExpiredLogGoesWhenItIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startRetainingNode(t, vfs.NewMem(), delay.DefaultLevels(), store.Retention{Age: time.Hour})
		defer n.stop()
		routes := n.Routes()
		row := slices.IndexFunc(routes, func(r remoting.Route) bool { return r.Code == protocol.ReqDeleteExpiredCommitLog })
		time.Sleep(500 * time.Millisecond) // between two looks, so that expiry is
		n.fill()
		for range 2 { // the bases that a new view can be made from
			n.fill()
			if err := errors.Join(n.store.Stage(), n.store.WriteBase()); err != nil {
				t.Fatal(err)
			}
		}
		ask := func() int64 {
			if _, err := routes[row].Handle(&remoting.Request{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return n.store.Log().First()
		}
		time.Sleep(time.Hour - time.Millisecond)
		if first := ask(); first != 0 {
			t.Errorf("the log begins at %d before anything has expired", first)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if first := n.store.Log().First(); first != 0 {
			t.Fatalf("the log begins at %d before it was asked for", first)
		}
		if first := ask(); first == 0 {
			t.Error("nothing of what has expired is gone")
		}
	})
}
