package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// userHZ is the unit of CPU time in /proc/PID/stat; it is 100 on every Linux that Go runs on.
const userHZ = 100

// cpuSeconds reads user and system time of a process from /proc, which only Linux has.
func cpuSeconds(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("cannot measure process %d (--pid needs Linux and a running process): %w", pid, err)
	}
	return parseStat(string(b))
}

// parseStat returns utime + stime; the process name, in parentheses, may hold spaces.
func parseStat(stat string) (float64, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("unexpected /proc stat line %q", stat)
	}
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	return (user + system) / userHZ, firstError(err1, err2)
}

// parseStatus reads the memory lines of /proc/PID/status, which are in kB.
func parseStatus(status string, u *ServerUse) {
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "VmRSS":
			u.RSSBytes = kb << 10
		case "RssAnon":
			u.RSSAnonBytes = kb << 10
		case "VmHWM":
			u.PeakRSSBytes = kb << 10
		}
	}
}

// meter measures the CPU time of server and client over a workload.
type meter struct {
	pid            int
	server, client float64
}

func startMeter(pid int) (m meter, err error) {
	m.pid = pid
	if pid > 0 {
		if m.server, err = cpuSeconds(pid); err != nil {
			return m, err
		}
	}
	m.client, _ = cpuSeconds(os.Getpid())
	return m, nil
}

// finish fills the report; messages is the number that the CPU time was spent on.
func (m meter) finish(r *Report, messages int64) error {
	if now, err := cpuSeconds(os.Getpid()); err == nil && messages > 0 {
		r.ClientCPU = (now - m.client) * 1e6 / float64(messages)
	}
	if m.pid <= 0 {
		return nil
	}
	now, err := cpuSeconds(m.pid)
	if err != nil {
		return err
	}
	u := &ServerUse{PID: m.pid, CPUSeconds: now - m.server}
	if messages > 0 {
		u.CPUPerMessage = u.CPUSeconds * 1e6 / float64(messages)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.pid))
	if err != nil {
		return fmt.Errorf("cannot read the memory of process %d: %w", m.pid, err)
	}
	parseStatus(string(status), u)
	r.Server = u
	return nil
}
