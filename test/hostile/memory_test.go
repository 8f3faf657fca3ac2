package hostile

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const mebi = 1 << 20

// limitMemory makes the kernel end the process when it holds more bytes.
func limitMemory(pid int, bytes int64) (lift func(), err error) {
	lift, err = limitGroup(pid, bytes)
	if err == nil {
		return lift, nil
	}
	limit := unix.Rlimit{Cur: uint64(bytes), Max: uint64(bytes)}
	if err := unix.Prlimit(pid, unix.RLIMIT_DATA, &limit, nil); err != nil {
		return nil, fmt.Errorf("limit the operator's memory: %w", err)
	}
	return func() {}, nil
}

// limitGroup puts the process into a control group of its own.
func limitGroup(pid int, bytes int64) (lift func(), err error) {
	root, file := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		root, file = "/sys/fs/cgroup", "memory.max"
	}
	group := filepath.Join(root, fmt.Sprintf("connpool-hostile-%d", pid))
	if err := os.Mkdir(group, 0o755); err != nil {
		return nil, err
	}
	lift = func() { _ = os.Remove(group) }
	for name, value := range map[string]int64{file: bytes, "cgroup.procs": int64(pid)} {
		if err := os.WriteFile(filepath.Join(group, name), []byte(strconv.FormatInt(value, 10)), 0); err != nil {
			lift()
			return nil, err
		}
	}
	return lift, nil
}

// resident returns how many bytes of memory the process holds, and the most since
// forgetPeak.
func resident(t *testing.T) (now, peak int64) {
	t.Helper()
	pid := env.operator.Pid()
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // empty when it has died
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kibi, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "VmRSS:":
			now = kibi << 10
		case "VmHWM:":
			peak = kibi << 10
		}
	}
	return now, peak
}

func forgetPeak(t *testing.T) {
	t.Helper()
	pid := env.operator.Pid()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		t.Fatalf("forget the highest use of memory: %v", err)
	}
}

// processorTime returns how long the operator has computed.
func processorTime() time.Duration {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", env.operator.Pid()))
	// After the name, which is in parentheses, user and system time are the 12th and 13th.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * time.Second / 100 // Linux counts hundredths for programs
}
