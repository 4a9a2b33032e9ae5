package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	stopMax         = 20 * time.Second
	logTailBytesMax = 4 << 10
)

// Process is a child of the tests, on Linux one that dies with them.
type Process struct {
	cmd    *exec.Cmd
	log    string
	exited chan struct{} // closed when cmd has been waited for
}

// Run starts a program whose output goes to the file log.
func Run(log, program string, args ...string) (*Process, error) {
	output, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer output.Close() // the process has its own descriptor
	p := &Process{cmd: exec.Command(program, args...), log: log, exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = output, output
	p.cmd.SysProcAttr = processAttributes
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", program, err)
	}
	go func() {
		p.cmd.Wait() // how it ended is in cmd.ProcessState
		close(p.exited)
	}()
	return p, nil
}

// Exited is closed once the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// OpenFiles are the files and sockets that the process has open: known on Linux, none elsewhere.
func (p *Process) OpenFiles() ([]string, error) { return openFiles(p.cmd.Process.Pid) }

// Kill ends the process with SIGKILL and returns when it is gone.
func (p *Process) Kill() {
	p.cmd.Process.Kill() // fails only when it has ended by itself
	<-p.exited
}

// Stop ends the process with SIGTERM and fails when it does not exit with status 0 in time.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("cannot stop %s, it has ended: %w; its output ends in:\n%s", p.cmd.Path, err, p.LogTail())
	}
	select {
	case <-p.exited:
	case <-time.After(stopMax):
		p.Kill()
		return fmt.Errorf("%s still running %v after SIGTERM; its output ends in:\n%s", p.cmd.Path, stopMax, p.LogTail())
	}
	if status := p.cmd.ProcessState.ExitCode(); status != 0 && status != exitBySIGTERM {
		return fmt.Errorf("%s after SIGTERM: %v; its output ends in:\n%s", p.cmd.Path, p.cmd.ProcessState, p.LogTail())
	}
	return nil
}

// exitBySIGTERM is how a JVM reports an orderly end.
const exitBySIGTERM = 128 + int(syscall.SIGTERM)

// LogTail is the end of what the process printed.
func (p *Process) LogTail() string { return logTail(p.log) }

func logTail(path string) string {
	log, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(log) > logTailBytesMax {
		log = log[len(log)-logTailBytesMax:]
	}
	return string(bytes.ToValidUTF8(log, []byte("?")))
}
