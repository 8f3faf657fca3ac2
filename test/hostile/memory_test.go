package hostile

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/connpool/connpool/test/controlplane/process"
)

const mebi = 1 << 20

// underLimit returns the arguments with which /bin/sh runs a program under a limit of
// its memory. The program is in the control group from the beginning, since the operator
// looks at its limit when it starts.
func underLimit(bytes int64, program string, arguments []string) (script []string, lift func()) {
	group, err := makeGroup(bytes)
	limit := fmt.Sprintf("ulimit -d %d", bytes>>10)
	if err == nil {
		limit = fmt.Sprintf("echo $$ >%s/cgroup.procs", group)
	}
	return append([]string{"-c", limit + ` && exec "$0" "$@"`, program}, arguments...), func() { _ = os.Remove(group) }
}

// makeGroup makes a control group. Only root may, as a rule.
func makeGroup(bytes int64) (group string, err error) {
	root, file := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		root, file = "/sys/fs/cgroup", "memory.max"
	}
	if group, err = os.MkdirTemp(root, "connpool-hostile-"); err != nil {
		return "", err
	}
	err = os.WriteFile(filepath.Join(group, file), []byte(strconv.FormatInt(bytes, 10)), 0)
	if err != nil {
		_ = os.Remove(group)
	}
	return group, err
}

// The budgets follow from the limit of the Deployment, which the kernel enforces. Only root
// may make a control group; without one the operator plans for 2 GiB.
func TestTheOperatorPlansForTheLimitOfItsDeployment(t *testing.T) {
	eventually(t, time.Minute, "the log says what may be held", func(context.Context) (bool, string) {
		groups, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", env.operator.Pid())) // empty when it has died
		want := `"limit":2147483648,"connectionsOfANamespace":22222,"uses":17777,`
		if bytes.Contains(groups, []byte("connpool-hostile-")) {
			want = fmt.Sprintf(`"limit":%d,"connectionsOfANamespace":5000,"uses":4000,`, int64(0.9*float64(env.limit)))
		}
		log := process.Tail(filepath.Join(env.dir, env.operator.Name()+".log"), 1<<20)
		return strings.Contains(log, want), fmt.Sprintf("want %s in\n%s", want, log)
	})
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
