package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the scripts run this binary as apogee.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"apogee": func() { os.Exit(run()) }})
}

// TestScripts runs testdata/*.txtar against a server of their own, on free ports. In a script:
//
//	up            waits until `apogee start $START &server&` is ready
//	member G T    is a member of group G, subscribed to topic T, until the script ends; it answers what a group's members are asked
//	producer G    is a producer of group G
//	half ID       sends a half message with this id, of producer group P to topic orders, as if an hour ago
//	pop G T MS    pops a message of topic T as group G, invisible for so long; waitingpop G T waits for one
//	await RE CMD  runs a command again until its output matches
//	exits N CMD   runs a command that ends with status N
//	flip FILE N   flips a bit of the byte at N; FILE may be a pattern
//	base          sets BASE and BASE_POSITION to the newest base
//	cut FILE N    leaves the first N bytes
//	bytes FILE X  writes a file from hex digits
//	ids FILE      sets UNIQUE_KEY and OFFSET_ID from a message as JSON
//	$START        the flags of apogee start; the directory is $WORK/data
//	NAMESRV_ADDR  is set, so that every command finds the server
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: setupScript,
		Cmds:  map[string]func(*testscript.TestScript, bool, []string){"up": awaitReady, "member": joinGroup, "producer": joinProducers, "ids": readIDs, "bytes": writeBytes, "half": sendHalf, "pop": popOnce, "waitingpop": waitToPop, "await": awaitOutput, "exits": exits, "flip": flipBit, "base": findBase, "cut": cutFile},
	})
}

func setupScript(e *testscript.Env) error {
	p, err := freePorts()
	if err != nil {
		return err
	}
	e.Setenv("NAMESRV_ADDR", "127.0.0.1:"+strconv.Itoa(p.namesrv))
	e.Setenv("READY", fmt.Sprintf("http://127.0.0.1:%d/readyz", p.admin))
	e.Setenv("NAMESRV_PORT", strconv.Itoa(p.namesrv))
	e.Setenv("BROKER_PORT", strconv.Itoa(p.broker))
	e.Setenv("ADMIN_PORT", strconv.Itoa(p.admin))
	e.Setenv("HA_PORT", strconv.Itoa(p.ha))
	return nil
}

type ports struct{ namesrv, broker, admin, ha int }

// Ports of the scripts' servers lie below the range that systems take outgoing connections' ports from: one of those could take a
// port between the search and the server's start.
const (
	portsFirst, portsLast = 10_000, 28_000
	portsPerServer        = 8
)

// nextPorts makes the scripts of one run, which run beside one another, search in different places.
var nextPorts = func() *atomic.Int64 {
	var n atomic.Int64
	n.Store(rand.Int64N(portsLast - portsFirst))
	return &n
}()

// freePorts finds ports that nobody listens on; the one two below the broker's is free too.
func freePorts() (p ports, err error) {
	for range 100 {
		base := portsFirst + int(nextPorts.Add(portsPerServer))%(portsLast-portsFirst)
		err = nil
		for port := base; port < base+portsPerServer && err == nil; port++ {
			var l net.Listener
			if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
				err = l.Close()
			}
		}
		if err == nil {
			return ports{namesrv: base, broker: base + 3, admin: base + 4, ha: base + 5}, nil
		}
	}
	return p, fmt.Errorf("no free ports: %w", err)
}

const readyTimeout = 20 * time.Second

func awaitReady(ts *testscript.TestScript, _ bool, _ []string) {
	var last error
	for deadline := time.Now().Add(readyTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var r *http.Response
		if r, last = http.Get(ts.Getenv("READY")); last == nil {
			_ = r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return
			}
			last = fmt.Errorf("status %s", r.Status)
		}
	}
	ts.Fatalf("the server is not ready after %s: %v", readyTimeout, last)
}

func readIDs(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	names := map[string]string{"UNIQUE_KEY": "id", "OFFSET_ID": "offset_id"}
	if len(args) > 1 {
		names = map[string]string{args[1]: args[2]}
	}
	for name, field := range names {
		found := regexp.MustCompile(`"` + field + `": ?"([^"]+)"`).FindStringSubmatch(text)
		if found == nil {
			ts.Fatalf("no %s in %s", field, text)
		}
		ts.Setenv(name, found[1])
	}
}

func awaitOutput(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile("(?m)" + args[0])
	for deadline := time.Now().Add(readyTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ts.Check(ts.Exec(args[1], args[2:]...)); want.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("%q does not come", args[0])
}

func writeBytes(ts *testscript.TestScript, _ bool, args []string) {
	b, err := hex.DecodeString(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	status := 0
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		status = ended.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(status) != args[0] {
		ts.Fatalf("status %d, want %s", status, args[0])
	}
}

func flipBit(ts *testscript.TestScript, _ bool, args []string) {
	at, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(files) == 0 {
		ts.Fatalf("no file %s", args[0])
	}
	for _, name := range files {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		ts.Check(err)
		b := make([]byte, 1)
		_, err = f.ReadAt(b, at)
		ts.Check(err)
		b[0] ^= 1
		_, err = f.WriteAt(b, at)
		ts.Check(err)
		ts.Check(f.Close())
	}
}

func findBase(ts *testscript.TestScript, _ bool, _ []string) {
	files, err := filepath.Glob(ts.MkAbs("data/store/state/*.snap"))
	ts.Check(err)
	if len(files) == 0 {
		ts.Fatalf("there is no base")
	}
	base := filepath.Base(files[len(files)-1])
	ts.Setenv("BASE", "data/store/state/"+base)
	ts.Setenv("BASE_POSITION", strings.TrimLeft(strings.TrimSuffix(base, ".snap"), "0"))
}

func cutFile(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), n))
}
