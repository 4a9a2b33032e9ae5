package main

import (
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPlatformFaults checks a module that is right on linux only.
func TestPlatformFaults(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":        "module example.org/m\n\ngo 1.26\n",
		"sync_linux.go": "package m\n\nimport \"syscall\"\n\nfunc datasync(fd int) error { return syscall.Fdatasync(fd) }\n",
		"use.go":        "package m\n\nvar Sync = datasync\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	c := &checker{fset: token.NewFileSet(), files: map[string]*parsedFile{}}
	if faults := c.checkPlatform("linux/amd64"); len(faults) != 0 {
		t.Errorf("linux/amd64: unexpected faults %v", faults)
	}
	faults := c.checkPlatform("windows/arm64")
	if len(faults) != 1 || !strings.Contains(faults[0].Error(), "undefined: datasync") {
		t.Errorf("windows/arm64: got %v, want one: undefined: datasync", faults)
	}
	if faults := c.checkPlatform("windows/z80"); len(faults) != 1 {
		t.Errorf("windows/z80: got %v, want one fault", faults)
	}
}
