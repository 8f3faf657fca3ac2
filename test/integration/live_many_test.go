package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	goclient "github.com/connpool/connpool/client"
)

// usableFarm is usable, with targets web, web-2 and web-10 on the same server.
func usableFarm(t *testing.T) (fixture, *rest.Config) {
	t.Helper()
	f, config := usable(t, func(spec *v1alpha1.ConnectionPoolSpec) {
		spec.TargetRef = nil
		spec.TargetSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
		spec.Routing = new(v1alpha1.RoutingLeastLoaded)
	})
	for _, name := range []string{"web-10", "web-2"} {
		another := target(f.pool.Namespace, name, f.server, f.secret.Name)
		another.Labels["number"] = strings.TrimPrefix(name, "web-")
		create(t, another)
		t.Cleanup(func() { _ = env.client.Delete(context.Background(), another) })
		condition(t, 20*time.Second, another, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	}
	return f, config
}

// writable returns a directory on the server in which every user may write.
func writable(t *testing.T, f fixture, name string) string {
	t.Helper()
	dir := filepath.Join(f.server.Dir, strings.ReplaceAll(name, " ", "-"))
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// manyEnds notes how each target ended, in the order in which the results came.
func manyEnds(ends *[]string) func(goclient.TargetResult) {
	return func(r goclient.TargetResult) {
		end := fmt.Sprintf("%s: %d %s", r.Target, r.ExitCode, r.Stdout)
		switch {
		case errors.Is(r.Err, goclient.ErrNotStarted):
			end = r.Target + ": not started"
		case errors.Is(r.Err, goclient.ErrUnknown):
			end = r.Target + ": unknown"
		}
		*ends = append(*ends, end)
	}
}

func TestManyTargetsAnswerAsTheyEnd(t *testing.T) {
	makeSSHUser(t)
	f, direct := usableFarm(t)
	for name, config := range map[string]*rest.Config{"directly": direct, "through kube-apiserver": proxied(direct)} {
		t.Run(name, func(t *testing.T) {
			c, err := goclient.New(config)
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseIdleConnections()
			pool := c.Pool(f.pool.Namespace, f.pool.Name)

			// The command on the second target ends once the result of the first is here.
			dir := writable(t, f, name)
			shell := fmt.Sprintf("cd %s; if mkdir one 2>/dev/null; then echo first; else while ! test -e go; do sleep 0.05; done; echo later; fi", dir)
			var ends []string
			take := manyEnds(&ends)
			err = pool.Run(t.Context(), goclient.Command{Shell: shell}, goclient.Targets{Names: []string{"web-10", "web-2", "gone"}},
				func(r goclient.TargetResult) {
					if strings.Contains(string(r.Stdout), "first") {
						if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
							t.Error(err)
						}
					}
					take(r)
				})
			if err != nil || len(ends) != 3 {
				t.Errorf("%v: %q", err, ends)
			}

			ends = nil
			labels := &metav1.LabelSelector{MatchLabels: map[string]string{"number": "2"}}
			err = pool.Run(t.Context(), goclient.Command{Shell: "exit 3"}, goclient.Targets{Selector: labels}, manyEnds(&ends))
			if diff := cmp.Diff([]string{"web-2: 3 "}, ends); diff != "" || err != nil {
				t.Errorf("%v, results (-want +got):\n%s", err, diff)
			}

			ends = nil
			err = pool.Run(t.Context(), goclient.Command{Shell: "echo hi"},
				goclient.Targets{All: true, Parallelism: 1}, manyEnds(&ends))
			if diff := cmp.Diff([]string{"web: 0 hi\n", "web-2: 0 hi\n", "web-10: 0 hi\n"}, ends); diff != "" || err != nil {
				t.Errorf("%v, results (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestAClientThatLeavesManyTargetsEndsWhatRunsThere(t *testing.T) {
	makeSSHUser(t)
	f, direct := usableFarm(t)
	for name, config := range map[string]*rest.Config{"directly": direct, "through kube-apiserver": proxied(direct)} {
		t.Run(name, func(t *testing.T) {
			c, err := goclient.New(config)
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseIdleConnections()
			marks := filepath.Join(writable(t, f, name), "marks")
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			shell := fmt.Sprintf(`trap 'echo signaled >> %s; exit' HUP TERM; echo started >> %s; sleep 60 & wait`, marks, marks)
			go func() {
				defer leave()
				awaitMark(t, 15*time.Second, marks, "started")
			}()
			var ends []string
			command := goclient.Command{Shell: shell, RequestID: "leave " + name}
			err = c.Pool(f.pool.Namespace, f.pool.Name).Run(ctx, command, goclient.Targets{All: true, Parallelism: 1}, manyEnds(&ends))
			if diff := cmp.Diff([]string{"web: unknown", "web-2: not started", "web-10: not started"}, ends); diff != "" || err != nil {
				t.Errorf("%v, results (-want +got):\n%s", err, diff)
			}
			awaitMark(t, 15*time.Second, marks, "signaled")

			// The same request runs the command only where it has not begun.
			repeated, end := context.WithTimeout(t.Context(), 20*time.Second)
			defer end()
			var outcomes []live.Outcome
			command.Shell = shell
			go func() {
				eventually(t, 15*time.Second, "the command runs on the second target", func() (bool, string) {
					text, err := os.ReadFile(marks)
					return err == nil && strings.Count(string(text), "started") == 2, string(text)
				})
				end()
			}()
			_ = c.Pool(f.pool.Namespace, f.pool.Name).Run(repeated, command, goclient.Targets{All: true, Parallelism: 1}, func(r goclient.TargetResult) {
				if failed, ok := errors.AsType[*goclient.Error](r.Err); ok {
					outcomes = append(outcomes, failed.Outcome)
				}
			})
			text, _ := os.ReadFile(marks)
			if strings.Count(string(text), "started") != 2 || len(outcomes) != 3 {
				t.Errorf("the marks are %q, the outcomes %v", text, outcomes)
			}
		})
	}
}
