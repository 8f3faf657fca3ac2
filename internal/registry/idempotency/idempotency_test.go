package idempotency

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
	if n := len(c.results.byKey); n != 0 {
		t.Errorf("%d requests are remembered", n)
	}
	c.err = nil
	if got, err := c.do(t.Context(), "one"); got != "3" || err != nil {
		t.Errorf("run %s, %v", got, err)
	}
	if n := len(c.results.byKey); n != 1 {
		t.Errorf("%d requests are remembered", n)
	}
}

func TestNothingIsLeftOfWhatIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counter{results: New(roomy()), outcome: live.OutcomeCompleted}
		_, _ = c.do(t.Context(), "one")
		time.Sleep(10 * time.Minute)
		r := c.results
		r.forget(time.Now())
		if len(r.byKey)+len(r.ended) != 0 {
			t.Errorf("left are %d requests, %d have ended", len(r.byKey), len(r.ended))
		}
		if r.held.Take(ann, 1<<20) != quota.Free {
			t.Error("some of their bytes still count")
		}
	})
}

func TestRequestsAreRefusedRatherThanForgotten(t *testing.T) {
	for name, held := range map[string]*quota.Quota{
		"when all have too many": quota.New(quota.Bounds{All: 2*entryOverhead + 2}),
		"when one has too many":  quota.New(quota.Bounds{User: 2*entryOverhead + 2}),
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
