package integration

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli"
)

// farm adds a warm pool of this many targets, which are one server.
func farm(t *testing.T, f fixture, targets int) {
	t.Helper()
	space := f.pool.Namespace
	for i := range targets {
		one := target(space, fmt.Sprintf("farm-%d", i+1), f.server, f.secret.Name)
		one.Labels = map[string]string{"app": "farm", "odd": strconv.FormatBool(i%2 == 0)}
		create(t, one)
	}
	all := pool(space, "farm", "", func(spec *v1alpha1.ConnectionPoolSpec) {
		spec.TargetRef, spec.TargetSelector = nil, &metav1.LabelSelector{MatchLabels: map[string]string{"app": "farm"}}
	})
	create(t, all)
	condition(t, 60*time.Second, all, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
}

func TestRunOnManyTargetsIsOneRequestToTheOperator(t *testing.T) {
	makeSSHUser(t)
	f := warm(t, startPlainSSHD(t, "MaxStartups 100:30:200"), manySessions)
	const targets = 24
	farm(t, f, targets)
	account := permit(t, f.pool.Namespace, "runner", execRule([]string{"create"}))
	config := kubeconfig(t, account, f.pool.Namespace)
	t.Setenv("CONNPOOL_DIRECT", "never")
	run := func(marks string, words ...string) (code int, stdout, stderr string) {
		var out, err bytes.Buffer
		args := append([]string{"connpool", "--kubeconfig=" + config, "run", "farm", "-v6"}, words...)
		line := "echo ran >>" + marks + "; echo $$; test ! -e " + marks + ".fail"
		code = cli.Main(append(args, "--shell", "--", line), "test", genericiooptions.IOStreams{Out: &out, ErrOut: &err})
		return code, out.String(), err.String()
	}
	eventually(t, 20*time.Second, "the account may use the pool", func() (bool, string) {
		code, _, stderr := run("/dev/null", "--all")
		return code == 0, stderr
	})
	ran := func(marks string) int {
		text, err := os.ReadFile(marks)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "ran\n")
	}
	tests := map[string]struct {
		words []string
		fails bool
		code  int
		ran   int
		sum   string
	}{
		"on all":                           {[]string{"--all"}, false, 0, targets, "24 of 24 targets succeeded"},
		"on those with a label":            {[]string{"-l", "odd=true"}, false, 0, targets / 2, "12 of 12 targets succeeded"},
		"until the first failure":          {[]string{"--all", "--parallel", "1", "--fail-fast"}, true, 1, 1, "0 of 24 targets succeeded, 1 failed, 23 skipped"},
		"on one that the pool lacks, also": {[]string{"--target", "farm-7", "--target", "farm-99", "--live=false"}, false, 1, 1, "1 of 2 targets succeeded, 1 failed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			marks := marksOn(t, f.server)
			if test.fails {
				if err := os.WriteFile(marks+".fail", nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			code, stdout, stderr := run(marks, test.words...)
			if code != test.code || !strings.Contains(stderr, test.sum) || strings.Count(stdout, " | ") != test.ran {
				t.Errorf("exit code %d, want %d, and %q:\n%s%s", code, test.code, test.sum, stdout, stderr)
			}
			if n := ran(marks); n != test.ran {
				t.Errorf("it ran %d times, want %d", n, test.ran)
			}
			if n := strings.Count(stderr, "/connectionpools/farm/exec"); n > 2 {
				t.Errorf("%d requests:\n%s", n, stderr)
			}
		})
	}
}
