package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apogeemq/apogee/store/view"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A node that meets damage ends, and the next start must not meet it again.
func TestADamagedViewIsMadeAnewAtTheNextStart(t *testing.T) {
	c := memConfig(vfs.Default)
	c.Dir = t.TempDir()
	s, _ := mustOpen(t, c)
	fill(t, s, 0, 1000)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(c.Dir, "view")
	flipMiddle(t, dir)
	v, err := view.Open(vfs.Default, dir)
	if err != nil {
		t.Fatalf("damage where the start does not read: %v", err)
	}
	said := func() (said string) {
		defer func() { said, _ = recover().(string) }()
		_, err := v.Verify()
		t.Errorf("the damage was passed over, or returned: %v", err)
		return ""
	}()
	if !strings.Contains(said, ".sst") || !strings.Contains(said, "checksum mismatch") || !strings.Contains(said, "start again") {
		t.Errorf("the end says %q", said)
	}
	if _, err := view.Open(vfs.Default, dir); !errors.Is(err, view.ErrBroken) {
		t.Errorf("the damaged view opens again: %v", err)
	}
	_ = v.Close() // whose process has ended
	s, rec := mustOpen(t, c)
	defer s.Close()
	if first, end := numbers(t, s); !rec.Rebuilt || first != 0 || end != 1000 {
		t.Errorf("rebuilt: %v, messages %d to %d are there", rec.Rebuilt, first, end)
	}
}

// flipMiddle flips a bit in the middle of the largest table.
func flipMiddle(t *testing.T, dir string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	var name string
	var content []byte
	for _, table := range tables {
		b, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > len(content) {
			name, content = table, b
		}
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
