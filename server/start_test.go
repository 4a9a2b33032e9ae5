package server

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/remoting"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"
)

func inMemory() Config {
	c := MemoryConfig()
	c.LogLevel = "error"
	return c
}

func onDisk(dir string) Config {
	c := inMemory()
	c.FS, c.Dir, c.SegmentBytes, c.MessageBytesMax = nil, dir, 1<<20, 64<<10
	return c
}

func start(t testing.TB, c Config) (*Server, error) {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s, s.Start(context.Background())
}

func mustStart(t testing.TB, c Config) *Server {
	t.Helper()
	s, err := start(t, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustClose(t testing.TB, s *Server) {
	t.Helper()
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestNothingIsLeftRunning(t *testing.T) {
	before := goleak.IgnoreCurrent()
	s := mustStart(t, inMemory())
	client := remoting.NewClient(remoting.ClientConfig{})
	c := protocol.NewRequest(protocol.ReqGetMaxOffset, &protocol.QueueHeader{Topic: "T"})
	if _, err := client.Invoke(context.Background(), s.BrokerAddr(), c); err != nil {
		t.Error(err)
	}
	mustClose(t, s)
	mustClose(t, s) // twice is no fault
	client.Close()
	goleak.VerifyNone(t, before)
}

// The best of many: a machine that does something else must not fail the test.
func TestStartInMemoryIsQuick(t *testing.T) {
	const want = 50 * time.Millisecond
	least := time.Hour
	for try := 0; try < 20 && least > want; try++ {
		s := mustStart(t, inMemory())
		least = min(least, s.Took())
		mustClose(t, s)
	}
	if least > want {
		t.Errorf("started in %v, want less than %v", least, want)
	}
}

func TestSecondProcessOnTheDirectoryIsRefused(t *testing.T) {
	before := goleak.IgnoreCurrent()
	dir := t.TempDir()
	first := mustStart(t, onDisk(dir))
	second, err := start(t, onDisk(dir))
	if err == nil {
		mustClose(t, second)
		t.Fatal("two nodes run on one directory")
	}
	if !strings.Contains(err.Error(), dir) {
		t.Errorf("%v does not name %s", err, dir)
	}
	mustClose(t, first)
	mustClose(t, mustStart(t, onDisk(dir)))
	goleak.VerifyNone(t, before)
}

func TestTakenPortsAreNamed(t *testing.T) {
	before := goleak.IgnoreCurrent()
	for name, set := range map[string]func(*Config, int){
		"namesrv": func(c *Config, port int) { c.NamesrvPort = port },
		"broker":  func(c *Config, port int) { c.BrokerPort = port },
		"fast":    func(c *Config, port int) { c.BrokerPort = port + 2 },
		"admin":   func(c *Config, port int) { c.AdminPort = port },
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			port := l.Addr().(*net.TCPAddr).Port
			c := inMemory()
			set(&c, port)
			s, err := start(t, c)
			if err == nil {
				mustClose(t, s)
				t.Fatalf("started on port %d, which is taken", port)
			}
			if !strings.Contains(err.Error(), strconv.Itoa(port)) {
				t.Errorf("%v does not name port %d", err, port)
			}
			if runtime.GOOS != "windows" && !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("%v is not EADDRINUSE", err)
			}
		})
	}
	goleak.VerifyNone(t, before)
}

func TestInfoSaysWhatAnAcknowledgementMeans(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"Acknowledged means: in memory":                        func(c *Config) {},
		"Acknowledged means: on disk; survives a power cut":    func(c *Config) { *c = onDisk(t.TempDir()) },
		"a power cut can lose the last 500 ms":                 func(c *Config) { *c = onDisk(t.TempDir()); c.AsyncFlush = true },
		"Clients are told the address 10.1.2.3 (--advertise).": func(c *Config) { c.Advertise = "10.1.2.3" },
	} {
		c := inMemory()
		change(&c)
		s := mustStart(t, c)
		var b strings.Builder
		s.WriteInfo(&b, "1.2.3")
		for _, want := range []string{want, "Apogee 1.2.3 is ready", s.BrokerAddr(), s.NamesrvAddr(), s.AdminAddr()} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%q is not in\n%s", want, &b)
			}
		}
		mustClose(t, s)
	}
}

func TestNewDirectoriesOutliveACrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	if err := makeDirectory(fs, "a/b/c"); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.CrashClone(vfs.CrashCloneCfg{}).Stat("a/b/c"); err != nil {
		t.Error(err)
	}
	if err := makeDirectory(fs, "a/b/c"); err != nil {
		t.Errorf("of one that is there: %v", err)
	}
}

func BenchmarkStartInMemory(b *testing.B) {
	for b.Loop() {
		mustClose(b, mustStart(b, inMemory()))
	}
}
