package servertest

import (
	"context"
	"log/slog"
	"testing"

	"github.com/apogeemq/apogee/server"
)

// Start starts a node of server.MemoryConfig, with changes applied to it first, and closes it when the test ends. What the node warns of
// stands in the test's output. A node that cannot start, or does not close cleanly, fails the test.
func Start(t testing.TB, changes ...func(*server.Config)) *server.Server {
	t.Helper()
	c := server.MemoryConfig()
	c.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	for _, change := range changes {
		change(&c)
	}
	node, err := server.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return node
}
