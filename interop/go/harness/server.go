package harness

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	host         = "127.0.0.1"
	readyDefault = 10 * time.Second
	readyPoll    = 5 * time.Millisecond
)

// Server is one process of the binary under test, on a directory and ports that stay the same
// when it is started again.
type Server struct {
	bin      string
	dir      string
	ports    ports
	flags    []string // beyond those of the directory and the ports
	readyMax time.Duration
	http     *http.Client

	starts  int
	log     string   // of the last start
	process *Process // nil while it is down
}

// NewServer prepares a server that keeps its data and its logs below dir. Each of its starts is given the flags.
func NewServer(dir string, flags ...string) (*Server, error) {
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
		bin: bin, dir: dir, ports: free, flags: flags, readyMax: readyMax,
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

// Start runs the binary and returns when it answers ready.
func (s *Server) Start() error {
	s.starts++
	args := append([]string{"start", "--dir", filepath.Join(s.dir, "data"), "--listen", host}, append(s.ports.flags(), s.flags...)...)
	s.log = filepath.Join(s.dir, fmt.Sprintf("apogee-%d.log", s.starts))
	process, err := Run(s.log, s.bin, args...)
	if err != nil {
		return err
	}
	s.process = process
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
		case <-s.process.Exited():
			return fmt.Errorf("exited before it was ready (%v)", s.process.cmd.ProcessState)
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
	if s.process != nil {
		s.process.Kill()
		s.process = nil
	}
}

// Stop ends the process with SIGTERM and fails when it does not exit with status 0 in time.
func (s *Server) Stop() error {
	process := s.process
	if process == nil {
		return nil
	}
	s.process = nil
	return process.Stop()
}

// LogTail is the end of what the process printed since its last start.
func (s *Server) LogTail() string { return logTail(s.log) }

// Log is all that the process printed since its last start.
func (s *Server) Log() (string, error) {
	text, err := os.ReadFile(s.log)
	return string(text), err
}

// ResidentPeak is the most memory that the process has had resident, bytes: known on Linux, 0 elsewhere.
func (s *Server) ResidentPeak() (int64, error) { return residentPeak(s.process.cmd.Process.Pid) }

// OpenFiles are the files and sockets of the process: known on Linux, none elsewhere.
func (s *Server) OpenFiles() ([]string, error) { return s.process.OpenFiles() }

// Goroutines are the stacks that the server's goroutines are in, with how many are in each.
func (s *Server) Goroutines() (string, error) {
	response, err := s.http.Get("http://" + address(s.ports.admin) + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

// Metrics reads the server's figures, each under its name with its labels.
func (s *Server) Metrics() (map[string]float64, error) {
	response, err := s.http.Get("http://" + address(s.ports.admin) + "/metrics")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	figures := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if figure, err := strconv.ParseFloat(value, 64); err == nil {
			figures[name] = figure
		}
	}
	return figures, lines.Err()
}
