package server

import (
	"os"
	"strconv"
	"strings"
)

// memoryLeast is the smallest budget that a node works in.
const memoryLeast = 64 << 20

// logMemoryMost is the most that the log's tail and cache take by themselves: more buys little, and resident memory is what users see.
const logMemoryMost = 96 << 20

// containerMemory returns the bytes that the process may use: the container's limit, else the machine's memory.
func containerMemory() int64 {
	limit := machineMemory()
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if b, err := os.ReadFile(path); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && n > 0 && (limit == 0 || n < limit) {
				limit = n
			}
		}
	}
	return limit
}

// machineMemory reads MemTotal; 0 where the system does not say.
func machineMemory() int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// MemoryLimit is what the whole process should stay below, in bytes. A node that has the process to itself hands it to
// debug.SetMemoryLimit; one that is embedded leaves the program's limit alone.
func (c *Config) MemoryLimit() int64 {
	total, _ := c.budget()
	return total
}

// budget returns the process's memory, and the part of it that the log gets.
func (c *Config) budget() (total, log int64) {
	total = c.MemoryBytesMax
	if total == 0 {
		total = containerMemory() / 8
	}
	total = max(total, memoryLeast)
	return total, min(total/3, logMemoryMost)
}

// connectionMemoryLeast is what connections get however small the process is: a few large messages on their way.
const connectionMemoryLeast = 128 << 20

// connectionMemory returns what the connections of a role may hold.
func (c *Config) connectionMemory() int64 {
	if c.ConnectionBytesMax > 0 {
		return c.ConnectionBytesMax
	}
	total, _ := c.budget()
	return max(total/2, connectionMemoryLeast)
}
