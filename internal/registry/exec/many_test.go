package exec

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

// lines is the answer to a command with targets.
type lines struct {
	code    int
	plan    *live.ExecPlan
	results []live.ExecResult
	summary *live.ExecSummary
}

// by returns the results by their targets.
func (l *lines) by() map[string]live.ExecStatus {
	all := map[string]live.ExecStatus{}
	for _, result := range l.results {
		all[result.Target] = result.Status
	}
	return all
}

// reasons returns outcome and reason, or the exit code, of each target.
func (l *lines) reasons() map[string]string {
	all := map[string]string{}
	for target, status := range l.by() {
		all[target] = string(status.Outcome) + " " + status.Reason
		if status.ExitCode != nil {
			all[target] = fmt.Sprint("exit ", *status.ExitCode)
		}
	}
	return all
}

func readLines(tb testing.TB, code int, body []byte) *lines {
	tb.Helper()
	answer := &lines{code: code}
	for line := range bytes.Lines(body) {
		var kind struct{ Kind string }
		if err := json.Unmarshal(line, &kind); err != nil {
			tb.Fatalf("%q: %v", line, err)
		}
		var into any
		switch kind.Kind {
		case "ExecPlan":
			answer.plan = new(live.ExecPlan)
			into = answer.plan
		case "ExecSummary":
			answer.summary = new(live.ExecSummary)
			into = answer.summary
		case "ExecResult":
			answer.results = append(answer.results, live.ExecResult{})
			into = &answer.results[len(answer.results)-1]
		default:
			tb.Fatalf("unexpected line %q", line)
		}
		if err := json.Unmarshal(line, into); err != nil {
			tb.Fatal(err)
		}
	}
	return answer
}

// postMany sends a command with targets.
func (f *fixture) postMany(ctx context.Context, object live.Exec) *lines {
	f.Helper()
	body, err := json.Marshal(object)
	if err != nil {
		f.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	f.ServeHTTP(recorder, httptest.NewRequestWithContext(ctx, http.MethodPost, "/pools/web/exec", bytes.NewReader(body)))
	return readLines(f, recorder.Code, recorder.Body.Bytes())
}

// farm declares and connects pool web with targets web-1 to web-n.
func (f *fixture) farm(n int) {
	f.Helper()
	pool := f.Pool("web")
	for i := range n {
		f.Connect(f.Target(fmt.Sprint("web-", i+1), "web"), pool)
	}
}

func onAll(words ...string) live.Exec {
	object := registrytest.Command(words...)
	object.Spec.Targets = &live.ExecTargets{All: true}
	return object
}

// ranOn takes the addresses at which commands ran.
type ranOn struct {
	mu  sync.Mutex
	all []string
}

func (r *ranOn) note(conn *drivertest.FakeConn) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	target := strings.TrimSuffix(conn.Endpoint.Address, ":22")
	r.all = append(r.all, target)
	return target
}

func TestACommandOnAllTargetsIsAnsweredWithALineForEach(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.farm(12)
		f.Fake.OnExec(func(_ context.Context, conn *drivertest.FakeConn, _ driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
			_, _ = streams.Stdout.Write([]byte("from " + conn.Endpoint.Address))
			if conn.Endpoint.Address == "web-7:22" {
				return driver.ExitStatus{Code: 3}, nil
			}
			return driver.ExitStatus{}, nil
		})
		got := f.postMany(f.Context(), onAll("hostname"))
		want := []string{"web-1", "web-2", "web-3", "web-4", "web-5", "web-6", "web-7", "web-8", "web-9", "web-10", "web-11", "web-12"}
		if diff := cmp.Diff(want, got.plan.Targets); diff != "" {
			t.Errorf("plan (-want +got):\n%s", diff)
		}
		for target, status := range got.by() {
			if status.Outcome != live.OutcomeCompleted || status.Stdout != "from "+target+":22" || status.Target != target ||
				status.Acquired != live.AcquiredWarm || status.RequestID != got.plan.RequestID {
				t.Errorf("%s: %+v", target, status)
			}
		}
		if len(got.by()) != 12 || len(got.results) != 12 {
			t.Errorf("%d lines for %d targets", len(got.results), len(got.by()))
		}
		if diff := cmp.Diff(map[string]int32{"0": 11, "3": 1}, got.summary.ExitCodes); diff != "" {
			t.Errorf("exit codes (-want +got):\n%s", diff)
		}
		if got.summary.Targets != 12 || got.summary.Completed != 12 || !f.Idle() || f.Leases() != 0 {
			t.Errorf("summary %+v; used %t, leases %d", got.summary, !f.Idle(), f.Leases())
		}
		audit := f.Audit()
		for words, times := range map[string]int{`"fan-out started"`: 1, `"fan-out ended"`: 1, `"use started"`: 12, `"use ended"`: 12} {
			if strings.Count(audit, words) != times {
				t.Errorf("the audit has %s %d times, want %d", words, strings.Count(audit, words), times)
			}
		}
		if used := f.Gate.History.List(""); len(used) != 12 {
			t.Errorf("the history has %d uses", len(used))
		}
	})
}

func TestATargetThatThePoolLacksIsNotStarted(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.farm(2)
		object := registrytest.Command("true")
		object.Spec.Targets = &live.ExecTargets{Names: []string{"web-2", "gone"}}
		got := f.postMany(f.Context(), object)
		if diff := cmp.Diff(map[string]string{"gone": "NotStarted NotFound", "web-2": "exit 0"}, got.reasons()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if got.summary.NotStarted != 1 || got.summary.Completed != 1 {
			t.Errorf("summary %+v", got.summary)
		}
	})
}

func TestNoMoreTargetsThanTheParallelismRunAtTheSameTime(t *testing.T) {
	for name, test := range map[string]struct {
		parallelism int32
		limit       int
		want        int
	}{
		"as many as asked for":              {parallelism: 3, want: 3},
		"one":                               {parallelism: 1, want: 1},
		"half of what the user may use":     {parallelism: 8, limit: 8, want: 4},
		"one, whatever the user's limit is": {parallelism: 8, limit: 1, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.farm(10)
				var mu sync.Mutex
				running, most := 0, 0
				var ran ranOn
				f.Fake.OnExec(func(_ context.Context, conn *drivertest.FakeConn, _ driver.Command, _ driver.Streams) (driver.ExitStatus, error) {
					ran.note(conn)
					mu.Lock()
					running++
					most = max(most, running)
					mu.Unlock()
					time.Sleep(time.Second)
					mu.Lock()
					defer mu.Unlock()
					running--
					return driver.ExitStatus{}, nil
				})
				object := onAll("true")
				object.Spec.Targets.Parallelism = test.parallelism
				got := f.postMany(f.Context(), object)
				if most != test.want || got.summary.Completed != 10 {
					t.Errorf("%d at the same time, want %d; %+v", most, test.want, got.summary)
				}
				if test.want == 1 && !slices.Equal(ran.all, got.plan.Targets) {
					t.Errorf("they ran in the order %v", ran.all)
				}
			}, func(c *use.Config) { c.Limits.StreamsPerUser = test.limit })
		})
	}
}

func TestAFanOutLeavesRoomForOtherUses(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.farm(10)
		release := make(chan struct{})
		f.Fake.OnExec(registrytest.Lasting(release))
		done := make(chan *lines)
		go func() { done <- f.postMany(f.Context(), onAll("sleep")) }()
		synctest.Wait()
		for n := range 2 {
			end, err := f.Gate.Begin(of(fmt.Sprint("other ", n)), "web")
			if err != nil {
				t.Errorf("use %d beside it: %v", n, err)
				continue
			}
			defer end()
		}
		close(release)
		if got := <-done; got.summary.Completed != 10 {
			t.Errorf("summary %+v", got.summary)
		}
	}, func(c *use.Config) { c.Limits.StreamsPerPool = 4 })
}

func TestASelectorWithoutMatchesIsAnsweredWithAnEmptyPlan(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.farm(2)
		object := registrytest.Command("true")
		object.Spec.Targets = &live.ExecTargets{Selector: metav1.SetAsLabelSelector(map[string]string{"name": "gone"})}
		got := f.postMany(f.Context(), object)
		if got.plan.Targets == nil || len(got.plan.Targets) > 0 || got.summary.Targets != 0 || len(got.results) > 0 {
			t.Errorf("plan %+v, summary %+v", got.plan, got.summary)
		}
	})
}

func TestFailFastStartsNothingAfterAFailure(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.farm(6)
		f.Fake.OnExec(func(_ context.Context, conn *drivertest.FakeConn, _ driver.Command, _ driver.Streams) (driver.ExitStatus, error) {
			if conn.Endpoint.Address == "web-2:22" {
				return driver.ExitStatus{Code: 1}, nil
			}
			time.Sleep(time.Second)
			return driver.ExitStatus{}, nil
		})
		object := onAll("true")
		object.Spec.Targets.FailFast, object.Spec.Targets.Parallelism = true, 3
		got := f.postMany(f.Context(), object)
		want := map[string]string{
			"web-1": "exit 0", "web-2": "exit 1", "web-3": "exit 0",
			"web-4": "NotStarted FailFast", "web-5": "NotStarted FailFast", "web-6": "NotStarted FailFast",
		}
		if diff := cmp.Diff(want, got.reasons()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestTheTimeoutBoundsEachTargetOfMany(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.farm(4)
		f.Fake.OnExec(registrytest.Lasting(nil))
		object := onAll("sleep", "1d")
		object.Spec.TimeoutSeconds, object.Spec.Targets.Parallelism = 5, 2
		began := time.Now()
		got := f.postMany(f.Context(), object)
		if got.summary.Unknown != 4 || time.Since(began) != 10*time.Second {
			t.Errorf("after %v: %+v", time.Since(began), got.summary)
		}
	})
}

func TestAClientThatLeavesEndsWhatRunsOnManyTargets(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.farm(4)
		f.Fake.OnExec(registrytest.Lasting(nil))
		ctx, leave := context.WithCancel(f.Context())
		object := onAll("sleep", "1d")
		object.Spec.Targets.Parallelism = 2
		time.AfterFunc(time.Minute, leave)
		got := f.postMany(ctx, object)
		synctest.Wait()
		if f.Execs() != 2 || !f.Idle() || f.Leases() != 0 {
			t.Errorf("%d commands ran, used %t, %d leases", f.Execs(), !f.Idle(), f.Leases())
		}
		if got.summary.Unknown != 2 || got.summary.NotStarted != 2 {
			t.Errorf("summary %+v", got.summary)
		}
	})
}

func TestACommandOnManyTargetsThatIsStoppedSaysWhereItDidNotBegin(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.farm(4)
		f.Fake.OnExec(registrytest.Lasting(nil))
		object := onAll("sleep", "1d")
		object.Spec.RequestID, object.Spec.Targets.Parallelism = "one", 2
		stop := registrytest.Command()
		stop.Spec = live.ExecSpec{RequestID: "one", Targets: &live.ExecTargets{Stop: true}}
		done := make(chan *lines)
		go func() { done <- f.postMany(f.Context(), object) }()
		synctest.Wait()
		f.Post(f.Context(), "web", stop, registrytest.As("another")).WantRefusal(f, http.StatusNotFound, "no command of yours")
		got := f.Post(f.Context(), "web", stop)
		got.WantOutcome(f, live.OutcomeNotStarted)
		want := map[string]string{
			"web-1": "Unknown Stopped", "web-2": "Unknown Stopped", "web-3": "NotStarted Stopped", "web-4": "NotStarted Stopped",
		}
		if diff := cmp.Diff(want, (<-done).reasons()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		synctest.Wait()
		f.Post(f.Context(), "web", stop).WantRefusal(f, http.StatusNotFound, "no command of yours")
		stop.Spec.Command = []string{"true"}
		f.Post(f.Context(), "web", stop).WantRefusal(f, http.StatusBadRequest, "spec.targets.stop", "nothing else")
		if f.Execs() != 2 || !f.Idle() || f.Leases() != 0 {
			t.Errorf("%d commands ran, used %t, %d leases", f.Execs(), !f.Idle(), f.Leases())
		}
	})
}

func TestARevokedPermissionEndsACommandOnManyTargets(t *testing.T) {
	for name, id := range map[string]string{"without an ID": "", "with an ID": "one"} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.farm(4)
				f.Fake.OnExec(registrytest.Lasting(nil))
				object := onAll("sleep", "1d")
				object.Spec.RequestID, object.Spec.Targets.Parallelism = id, 2
				time.AfterFunc(time.Minute, func() { f.Authorizer.Decide(authorizer.DecisionDeny, nil) })
				got := f.postMany(f.Context(), object)
				want := map[string]string{
					"web-1": "Unknown PermissionRevoked", "web-2": "Unknown PermissionRevoked",
					"web-3": "NotStarted PermissionRevoked", "web-4": "NotStarted PermissionRevoked",
				}
				if diff := cmp.Diff(want, got.reasons()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestShutdownEndsACommandOnManyTargets(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.farm(3)
		f.Fake.OnExec(registrytest.Lasting(nil))
		object := onAll("sleep", "1d")
		object.Spec.Targets.Parallelism = 2
		done := make(chan *lines)
		go func() { done <- f.postMany(f.Context(), object) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(f.Context(), time.Minute)
		defer cancel()
		if err := f.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the shutdown did not wait: %v", err)
		}
		want := map[string]string{
			"web-1": "Unknown ShuttingDown", "web-2": "Unknown ShuttingDown", "web-3": "NotStarted ShuttingDown",
		}
		if diff := cmp.Diff(want, (<-done).reasons()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestARepeatedFanOutRunsOnlyWhereNothingHasBegun(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.farm(4)
		var ran ranOn
		ctx, leave := context.WithCancel(f.Context())
		f.Fake.OnExec(func(ctx context.Context, conn *drivertest.FakeConn, _ driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
			target := ran.note(conn)
			_, _ = streams.Stdout.Write([]byte("first"))
			if len(ran.all) == 3 { // the client leaves while it runs on the third one
				leave()
				<-ctx.Done()
				return driver.ExitStatus{}, &driver.Error{Reason: driver.Timeout, Stage: driver.StageRun, Started: true, Message: target}
			}
			return driver.ExitStatus{}, nil
		})
		object := onAll("deploy")
		object.Spec.RequestID, object.Spec.Targets.Parallelism = "one", 1
		f.postMany(ctx, object)
		object.Spec.Targets.Parallelism = 0 // which is none of the command
		got := f.postMany(f.Context(), object)
		want := map[string]string{"web-1": "exit 0", "web-2": "exit 0", "web-3": "Unknown Timeout", "web-4": "exit 0"}
		if diff := cmp.Diff(want, got.reasons()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"web-1", "web-2", "web-3", "web-4"}, ran.all); diff != "" {
			t.Errorf("it ran on (-want +got):\n%s", diff)
		}
		if got.by()["web-1"].Stdout != "first" {
			t.Errorf("the result that was remembered is %+v", got.by()["web-1"])
		}
	})
}

func TestAnotherCommandOnManyTargetsWithTheSameIDIsAConflict(t *testing.T) {
	for name, change := range map[string]func(*live.ExecSpec){
		"another word": func(s *live.ExecSpec) { s.Command = []string{"ls"} },
		"one target":   func(s *live.ExecSpec) { s.Targets, s.Target = nil, "web-1" },
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.farm(2)
				object := onAll("deploy")
				object.Spec.RequestID = "one"
				object.Spec.Targets = &live.ExecTargets{Names: []string{"web-1"}}
				f.postMany(f.Context(), object)
				object.Spec.Targets = &live.ExecTargets{All: true}
				change(&object.Spec)
				f.Post(f.Context(), "web", object).WantRefusal(f, http.StatusConflict, "spec.requestID", "another command")
				if f.Execs() != 1 {
					t.Errorf("%d commands ran", f.Execs())
				}
			})
		})
	}
}

func TestAnIDUnderWhichNothingHasBegunIsFree(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.farm(1)
		object := onAll("deploy")
		object.Spec.RequestID = "one"
		object.Spec.Targets = &live.ExecTargets{Names: []string{"gone"}}
		f.postMany(f.Context(), object)
		object.Spec.Command = []string{"ls"}
		if got := f.postMany(f.Context(), object); got.code != http.StatusOK {
			t.Errorf("another command is answered %d", got.code)
		}
	})
}

func TestTheOutputOfEachTargetIsBounded(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.farm(2)
		f.Fake.OnExec(registrytest.Saying(strings.Repeat("x", live.DefaultTargetOutputBytes+1), "errors", 0))
		for most, want := range map[int32]int{0: live.DefaultTargetOutputBytes, 3: 3, live.MaxExecOutputBytes: live.DefaultTargetOutputBytes + 1} {
			object := onAll("cat")
			object.Spec.Targets.OutputBytes = most
			for target, status := range f.postMany(f.Context(), object).by() {
				if len(status.Stdout) != want || status.Truncated != (want <= live.DefaultTargetOutputBytes) {
					t.Errorf("with %d, %s has %d bytes, truncated: %t", most, target, len(status.Stdout), status.Truncated)
				}
			}
		}
		if !isUnused(f.Gate.Memory.Output, smallOutput) {
			t.Error("some bytes are held")
		}
	}, small)
}

// A client that does not read holds back what has not begun.
func TestAClientThatDoesNotReadKeepsTargetsFromStarting(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.farm(40)
		f.Fake.OnExec(registrytest.Saying(strings.Repeat("x", 64<<10), "", 0))
		listener, stop := registrytest.Serve(f)
		defer stop()
		client, _ := listener.Dial(f.Context(), "", "")
		defer client.Close()
		const body = `{"spec": {"command": ["cat"], "targets": {"all": true, "parallelism": 4}}}`
		_, _ = fmt.Fprintf(client, "POST /pools/web/exec HTTP/1.1\r\nHost: pools\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		response, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		var all bytes.Buffer
		_, _ = io.CopyN(&all, response.Body, 100<<10)
		synctest.Wait()
		stalled := f.Execs()
		time.Sleep(time.Hour)
		if stalled < 2 || stalled > 10 || f.Execs() != stalled {
			t.Errorf("%d commands have run, and %d an hour later", stalled, f.Execs())
		}
		if _, err := all.ReadFrom(response.Body); err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if got := readLines(t, response.StatusCode, all.Bytes()); got.summary == nil || got.summary.Completed != 40 {
			t.Errorf("the summary is %+v", got.summary)
		}
		if response.Header.Get("Connpool-Targets") != "40" || response.Header.Get("Content-Type") != live.ExecLines {
			t.Errorf("the headers are %v", response.Header)
		}
	})
}

// What a client does not read is cut when the memory is needed, and what runs ends.
func TestAnAnswerOfManyLinesThatIsNotReadIsCutWhenMemoryIsShort(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.farm(40)
		f.Fake.OnExec(registrytest.Saying(strings.Repeat("x", 64<<10), "", 0))
		listener, stop := registrytest.Serve(f)
		defer stop()
		client, _ := listener.Dial(f.Context(), "", "")
		defer client.Close()
		const body = `{"spec": {"command": ["cat"], "targets": {"all": true, "parallelism": 4}}}`
		_, _ = fmt.Fprintf(client, "POST /pools/web/exec HTTP/1.1\r\nHost: pools\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		synctest.Wait()
		began := time.Now()
		if cut := f.Gate.Deliveries.Relieve(1); cut != 1 {
			t.Errorf("%d answers were cut", cut)
		}
		<-f.Gate.Idle()
		if after := time.Since(began); after > patience {
			t.Errorf("it took %v", after)
		}
		if f.Execs() == 40 || !isUnused(f.Gate.Memory.Output, smallOutput) {
			t.Errorf("%d commands have run, or bytes are held", f.Execs())
		}
	}, small)
}

func TestAPanicOnOneOfManyTargetsGivesBackWhatAllHold(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.farm(4)
		f.Fake.OnExec(func(ctx context.Context, conn *drivertest.FakeConn, _ driver.Command, _ driver.Streams) (driver.ExitStatus, error) {
			if conn.Endpoint.Address == "web-2:22" {
				time.Sleep(time.Second)
				panic("web-2")
			}
			<-ctx.Done()
			return driver.ExitStatus{}, ctx.Err()
		})
		func() {
			defer func() {
				if panicked := fmt.Sprint(recover()); !strings.Contains(panicked, "web-2") {
					t.Errorf("it panicked with %s", panicked)
				}
			}()
			f.postMany(f.Context(), onAll("true"))
		}()
		if !f.Idle() || !isUnused(f.Gate.Memory.Output, smallOutput) {
			t.Errorf("something is held; nothing is used: %t", f.Idle())
		}
		for _, used := range f.Gate.History.List("") {
			if used.State == live.UseRunning {
				t.Errorf("the history says that it runs: %+v", used)
			}
		}
	}, small)
}
