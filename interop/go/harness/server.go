package harness

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	host            = "127.0.0.1"
	readyDefault    = 10 * time.Second
	readyPoll       = 5 * time.Millisecond
	stopMax         = 20 * time.Second
	logTailBytesMax = 4 << 10
)

// Server is one process of the binary under test, on a directory and ports that stay the same
// when it is started again.
type Server struct {
	bin      string
	dir      string
	ports    ports
	readyMax time.Duration
	http     *http.Client

	starts int
	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd has been waited for
}

// NewServer prepares a server that keeps its data and its logs below dir.
func NewServer(dir string) (*Server, error) {
	bin, err := binary()
	if err != nil {
		return nil, err
	}
	readyMax, err := readyTimeout()
	if err != nil {
		return nil, err
	}
	free, err := freePorts(host)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o755); err != nil {
		return nil, err
	}
	return &Server{
		bin: bin, dir: dir, ports: free, readyMax: readyMax,
		http: &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}},
	}, nil
}

func binary() (string, error) {
	bin := os.Getenv("APOGEE_BIN")
	if bin == "" {
		bin = filepath.Join("..", "..", "bin", "apogee")
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(bin); err != nil {
		return "", fmt.Errorf("no binary to test: run `make build`, or name one with APOGEE_BIN: %w", err)
	}
	return bin, nil
}

func readyTimeout() (time.Duration, error) {
	seconds := os.Getenv("APOGEE_READY_SECONDS")
	if seconds == "" {
		return readyDefault, nil
	}
	n, err := strconv.Atoi(seconds)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("APOGEE_READY_SECONDS=%q is not a number of seconds", seconds)
	}
	return time.Duration(n) * time.Second, nil
}

// NameServer is where clients ask for routes.
func (s *Server) NameServer() string { return address(s.ports.namesrv) }

// Broker is where clients send to and read from.
func (s *Server) Broker() string { return address(s.ports.broker) }

func address(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

func (s *Server) logPath() string {
	return filepath.Join(s.dir, fmt.Sprintf("apogee-%d.log", s.starts))
}

// Start runs the binary and returns when it answers ready.
func (s *Server) Start() error {
	s.starts++
	log, err := os.Create(s.logPath())
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own descriptor
	args := append([]string{"start", "--dir", filepath.Join(s.dir, "data"), "--listen", host}, s.ports.flags()...)
	s.cmd = exec.Command(s.bin, args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = processAttributes
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return fmt.Errorf("cannot start %s: %w", s.bin, err)
	}
	s.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		cmd.Wait() // how it ended is in cmd.ProcessState
		close(exited)
	}(s.cmd, s.exited)
	if err := s.waitReady(); err != nil {
		err = fmt.Errorf("%s %v: %w; its output ends in:\n%s", s.bin, args, err, s.LogTail())
		s.Kill()
		return err
	}
	return nil
}

func (s *Server) waitReady() error {
	url := "http://" + address(s.ports.admin) + "/readyz"
	deadline := time.NewTimer(s.readyMax)
	defer deadline.Stop()
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	last := "no answer"
	for {
		select {
		case <-s.exited:
			return fmt.Errorf("exited before it was ready (%v)", s.cmd.ProcessState)
		case <-deadline.C:
			return fmt.Errorf("%s did not answer 200 within %v (%s)", url, s.readyMax, last)
		case <-poll.C:
		}
		response, err := s.http.Get(url)
		if err != nil {
			last = err.Error()
			continue
		}
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return nil
		}
		last = response.Status
	}
}

// Kill ends the process with SIGKILL and returns when it is gone.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill() // fails only when it has ended by itself
	<-s.exited
	s.cmd = nil
}

// Stop ends the process with SIGTERM and fails when it does not exit with status 0 in time.
func (s *Server) Stop() error {
	if s.cmd == nil {
		return nil
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("cannot stop the server, it has ended: %w; its output ends in:\n%s", err, s.LogTail())
	}
	select {
	case <-s.exited:
	case <-time.After(stopMax):
		s.Kill()
		return fmt.Errorf("still running %v after SIGTERM; its output ends in:\n%s", stopMax, s.LogTail())
	}
	state := s.cmd.ProcessState
	s.cmd = nil
	if status := state.ExitCode(); status != 0 && status != exitBySIGTERM {
		return fmt.Errorf("after SIGTERM: %v; its output ends in:\n%s", state, s.LogTail())
	}
	return nil
}

// exitBySIGTERM is how a JVM reports an orderly end.
const exitBySIGTERM = 128 + int(syscall.SIGTERM)

// LogTail is the end of what the process printed since its last start.
func (s *Server) LogTail() string {
	log, err := os.ReadFile(s.logPath())
	if err != nil {
		return err.Error()
	}
	if len(log) > logTailBytesMax {
		log = log[len(log)-logTailBytesMax:]
	}
	return string(bytes.ToValidUTF8(log, []byte("?")))
}
