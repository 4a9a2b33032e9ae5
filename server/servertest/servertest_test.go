package servertest_test

import (
	"net/http"
	"testing"

	"github.com/apogeemq/apogee/server"
	"github.com/apogeemq/apogee/server/servertest"
	"go.uber.org/goleak"
)

func TestNodeLivesAsLongAsItsTest(t *testing.T) {
	before := goleak.IgnoreCurrent()
	var ready string
	t.Run("alive", func(t *testing.T) {
		node := servertest.Start(t, func(c *server.Config) { c.BrokerName = "mine" })
		if err := node.CreateTopic(t.Context(), "orders", 4); err != nil {
			t.Fatal(err)
		}
		if got := node.Info("").Name; got != "mine" {
			t.Errorf("the broker is %s, want mine", got)
		}
		ready = "http://" + node.AdminAddr() + "/readyz"
		r, err := http.Get(ready)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if r.StatusCode != http.StatusOK {
			t.Errorf("%s answers %s", ready, r.Status)
		}
		t.Logf("started in %v", node.Took())
	})
	http.DefaultClient.CloseIdleConnections()
	if _, err := http.Get(ready); err == nil {
		t.Errorf("%s still answers", ready)
	}
	goleak.VerifyNone(t, before)
}
