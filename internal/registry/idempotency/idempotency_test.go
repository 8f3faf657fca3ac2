package idempotency

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/quota"
)

// counter answers each command with how many there were.
type counter struct {
	results *Results
	ran     int
	// err, when set, is why a command has no result, and outcome is what it has.
	err     error
	outcome live.Outcome
}

var ann = quota.Owner{Namespace: "team", User: "ann"}

func roomy() *quota.Quota { return quota.New(quota.Bounds{All: 1 << 20}) }

// do runs a command of ann under an ID and returns its output.
func (c *counter) do(ctx context.Context, id string) (string, error) {
	lost := func() *live.ExecStatus { return &live.ExecStatus{Outcome: live.OutcomeUnknown, Stdout: "lost"} }
	run := func(context.Context) (*live.ExecStatus, error) {
		c.ran++
		return &live.ExecStatus{Outcome: c.outcome, Stdout: strconv.Itoa(c.ran)}, c.err
	}
	status, _, err := c.results.Do(ctx, Key{Owner: ann, Scope: "web", ID: id}, DigestOf(new(live.ExecSpec)), lost, run)
	if err != nil {
		return "", err
	}
	return status.Stdout, nil
}

func TestOnlyWhatMayHaveRunIsRemembered(t *testing.T) {
	c := &counter{results: New(roomy()), outcome: live.OutcomeNotStarted}
	_, _ = c.do(t.Context(), "one")
	c.outcome, c.err = live.OutcomeCompleted, apierrors.NewBadRequest("canary")
	_, _ = c.do(t.Context(), "one")
	if n := len(c.results.byPlace); n != 0 {
		t.Errorf("%d requests are remembered", n)
	}
	c.err = nil
	if got, err := c.do(t.Context(), "one"); got != "3" || err != nil {
		t.Errorf("run %s, %v", got, err)
	}
	if n := len(c.results.byPlace); n != 1 {
		t.Errorf("%d requests are remembered", n)
	}
}

// Results have a sixteenth of the memory, of which a user has a quarter. 460 MiB is what the
// operator uses with the limit of its Deployment.
func TestHalfOfAUsersRoomHoldsTheResultsOfACommandOn8000Targets(t *testing.T) {
	const targets = 8000
	held := quota.New(quota.Bounds{User: 460 << 20 / 16 / 4 / 2})
	r := New(held)
	digest := DigestOf(&live.ExecSpec{Command: []string{"systemctl", "restart", "nginx"}})
	before := heap()
	for i := range targets {
		target := fmt.Sprintf("farm-%d.example.org", i)
		key := Key{Owner: ann, UID: "9b1c7a52-1f1e-4b7c-8a55-1d9c1c0f8a11", Scope: "2f6c1f0e-7d63-4f6e-9a3e-1b9a5d2b7c33/" + target, ID: "deploy"}
		_, _, err := r.Do(t.Context(), key, digest, func() *live.ExecStatus { return nil }, func(context.Context) (*live.ExecStatus, error) {
			code := int32(0)
			return &live.ExecStatus{
				Outcome: live.OutcomeCompleted, ExitCode: &code, Target: target, Connection: target + "-3f9a1c2b7d", Acquired: live.AcquiredWarm,
				AcquireMicroseconds: 12, DurationMicroseconds: 3456, RequestID: "deploy",
			}, nil
		})
		if err != nil {
			t.Fatalf("target %d: %v", i, err)
		}
	}
	counted := int64(0)
	for _, e := range r.ended {
		counted += e.bytes
	}
	taken := heap() - before
	t.Logf("%d bytes are counted for each, and %d are taken", counted/targets, taken/targets)
	if taken > counted {
		t.Errorf("%d bytes are counted, and %d are taken", counted, taken)
	}
	runtime.KeepAlive(r)
}

func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func TestARepetitionIsAnsweredWithAllThatWasSaid(t *testing.T) {
	code := int32(3)
	want := &live.ExecStatus{
		Outcome: live.OutcomeCompleted, ExitCode: &code, Signal: "TERM", Reason: "Reason", Message: "a message", Stdout: "out",
		StderrBytes: []byte{0xff}, Truncated: true, Target: "web-1", Container: "app", Connection: "web-1-1", Acquired: live.AcquiredQueued,
		AcquireMicroseconds: 1, DurationMicroseconds: 2, RequestID: "one",
	}
	r := New(roomy())
	for _, repeated := range []bool{false, true} {
		got, again, err := r.Do(t.Context(), Key{Owner: ann, ID: "one"}, Digest{}, func() *live.ExecStatus { return nil },
			func(context.Context) (*live.ExecStatus, error) { return want, nil })
		if diff := cmp.Diff(want, got); diff != "" || again != repeated || err != nil {
			t.Errorf("repeated %t, %v (-want +got):\n%s", again, err, diff)
		}
	}
}

func TestNothingIsLeftOfWhatIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counter{results: New(roomy()), outcome: live.OutcomeCompleted}
		_, _ = c.do(t.Context(), "one")
		time.Sleep(10 * time.Minute)
		r := c.results
		r.forget(time.Now())
		if len(r.byPlace)+len(r.ended) != 0 {
			t.Errorf("left are %d requests, %d have ended", len(r.byPlace), len(r.ended))
		}
		if r.held.Take(ann, 1<<20) != quota.Free {
			t.Error("some of their bytes still count")
		}
	})
}

func TestRequestsAreRefusedRatherThanForgotten(t *testing.T) {
	two := 2 * (entryOverhead + keep(&live.ExecStatus{Outcome: live.OutcomeCompleted, Stdout: "1"}).bytes())
	for name, held := range map[string]*quota.Quota{
		"when all have too many": quota.New(quota.Bounds{All: two}),
		"when one has too many":  quota.New(quota.Bounds{User: two}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &counter{results: New(held), outcome: live.OutcomeCompleted}
				wantRun := func(id, want string) {
					t.Helper()
					if got, err := c.do(t.Context(), id); got != want || err != nil {
						t.Errorf("%s was answered with run %s, %v", id, got, err)
					}
				}
				wantRun("one", "1")
				time.Sleep(time.Minute)
				wantRun("two", "2")
				_, err := c.do(t.Context(), "three")
				if !apierrors.IsTooManyRequests(err) || !strings.Contains(err.Error(), "request IDs") {
					t.Errorf("answered %v, want %d", err, http.StatusTooManyRequests)
				}
				wantRun("one", "1")
				time.Sleep(9 * time.Minute)
				wantRun("three", "3")
			})
		})
	}
}
