package registry

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

// counting answers each command with how many there were.
func counting(w *world) {
	n := 0
	w.fake.OnExec(func(_ context.Context, _ *drivertest.FakeConn, _ driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
		n++
		_, _ = streams.Stdout.Write([]byte(strconv.Itoa(n)))
		return driver.ExitStatus{}, nil
	})
}

func TestARepetitionReturnsTheFirstResult(t *testing.T) {
	inWorld(t, func(w *world) {
		w.web()
		counting(w)
		for range 3 {
			got := w.post(w.Context(), "web", identified("one", "date"))
			got.wantOutcome(w, live.OutcomeCompleted)
			if got.exec.Status.Stdout != "1" || got.exec.Status.RequestID != "one" {
				t.Errorf("result is %+v", got.exec.Status)
			}
			time.Sleep(3 * time.Minute)
		}
		if !strings.Contains(w.audit(), "repeated") {
			t.Errorf("audit says %s", w.audit())
		}
	})
}

func TestWhatMakesARequestAnother(t *testing.T) {
	elsewhere := identified("one", "date")
	elsewhere.Spec.Target = "web-1"
	for name, test := range map[string]struct {
		pool   string
		object live.Exec
		change func(*http.Request)
	}{
		"another ID":   {"web", identified("two", "date"), as("alice")},
		"another user": {"web", identified("one", "date"), as("bob")},
		"another pool": {"db", identified("one", "date"), as("alice")},
		"no ID":        {"web", command("date"), as("alice")},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.web()
				w.connect(w.target("db-1", "db"), w.pool("db", leastLoaded))
				counting(w)
				w.post(w.Context(), "web", identified("one", "date")).wantOutcome(w, live.OutcomeCompleted)
				got := w.post(w.Context(), test.pool, test.object, test.change)
				if got.wantOutcome(w, live.OutcomeCompleted); got.exec.Status.Stdout != "2" {
					t.Errorf("it was answered with run %s", got.exec.Status.Stdout)
				}
			})
		})
	}
}

func TestAnotherCommandWithTheSameIDIsAConflict(t *testing.T) {
	for name, change := range map[string]func(*live.ExecSpec){
		"another word":     func(s *live.ExecSpec) { s.Command = []string{"ls", "-l"} },
		"words cut anew":   func(s *live.ExecSpec) { s.Command = []string{"l", "sx"} },
		"a line":           func(s *live.ExecSpec) { s.Command, s.Shell = nil, "lsx" },
		"another target":   func(s *live.ExecSpec) { s.Target = "web-1" },
		"another input":    func(s *live.ExecSpec) { s.Stdin = []byte("x") },
		"another variable": func(s *live.ExecSpec) { s.Env = map[string]string{"A": "B"} },
		"another timeout":  func(s *live.ExecSpec) { s.TimeoutSeconds = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.web()
				object := identified("one", "ls", "x")
				w.post(w.Context(), "web", object).wantOutcome(w, live.OutcomeCompleted)
				change(&object.Spec)
				w.post(w.Context(), "web", object).wantRefusal(w, http.StatusConflict, "spec.requestID", "another command")
				if w.execs() != 1 {
					t.Errorf("%d commands ran", w.execs())
				}
			})
		})
	}
}

func TestARepetitionJoinsWhatRuns(t *testing.T) {
	inWorld(t, func(w *world) {
		w.web()
		release := make(chan struct{})
		w.fake.OnExec(lasting(release))
		first := w.later(w.Context(), "web", identified("one", "sleep"))
		synctest.Wait()
		ctx, cancel := context.WithCancel(w.Context())
		impatient := w.later(ctx, "web", identified("one", "sleep"))
		patient := w.later(w.Context(), "web", identified("one", "sleep"))
		synctest.Wait()
		cancel()
		(<-impatient).wantRefusal(w, http.StatusServiceUnavailable, "withdrawn")
		synctest.Wait()
		close(release)
		(<-first).wantOutcome(w, live.OutcomeCompleted)
		(<-patient).wantOutcome(w, live.OutcomeCompleted)
		if w.execs() != 1 {
			t.Errorf("%d commands ran", w.execs())
		}
	})
}

func TestACommandEndsWhenNobodyWaitsForItAnyMore(t *testing.T) {
	inWorld(t, func(w *world) {
		w.web()
		w.fake.OnExec(lasting(nil))
		ctx, leave := context.WithCancel(w.Context())
		first := w.later(ctx, "web", identified("one", "sleep"))
		synctest.Wait()
		later, leaveToo := context.WithCancel(w.Context())
		second := w.later(later, "web", identified("one", "sleep"))
		synctest.Wait()
		leave()
		synctest.Wait()
		select {
		case got := <-first:
			t.Fatalf("the command ended with the first request, although another waits: %+v", got)
		default:
		}
		leaveToo()
		<-first
		<-second
		again := w.post(w.Context(), "web", identified("one", "sleep"))
		again.wantOutcome(w, live.OutcomeUnknown)
		if w.execs() != 1 {
			t.Errorf("%d commands ran", w.execs())
		}
	})
}

// A panic is the operator's own failure: what it was about may have run.
func TestAPanicIsRemembered(t *testing.T) {
	inWorld(t, func(w *world) {
		w.web()
		w.fake.OnExec(func(context.Context, *drivertest.FakeConn, driver.Command, driver.Streams) (driver.ExitStatus, error) {
			panic("canary")
		})
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			w.post(w.Context(), "web", identified("one", "date"))
		}()
		got := w.post(w.Context(), "web", identified("one", "date"))
		got.wantOutcome(w, live.OutcomeUnknown)
		if message := got.exec.Status.Message; !strings.Contains(message, "request one may have run") || strings.Contains(message, "canary") {
			t.Errorf("message is %q", message)
		}
		if w.execs() != 1 {
			t.Errorf("%d commands ran", w.execs())
		}
		time.Sleep(10 * time.Minute)
		w.fake.OnExec(nil)
		w.post(w.Context(), "web", identified("one", "date")).wantOutcome(w, live.OutcomeCompleted)
	})
}

func TestWhatWasNotStartedMayBeTriedAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		w.web()
		w.fake.OnExec(func(context.Context, *drivertest.FakeConn, driver.Command, driver.Streams) (driver.ExitStatus, error) {
			return driver.ExitStatus{}, &driver.Error{Reason: driver.ProtocolError, Message: "refused"}
		})
		w.post(w.Context(), "web", identified("one", "date")).wantOutcome(w, live.OutcomeNotStarted)
		bad := identified("one", "date")
		bad.Spec.Target = "unknown"
		w.post(w.Context(), "web", bad).wantRefusal(w, http.StatusNotFound)
		w.fake.OnExec(nil)
		w.post(w.Context(), "web", identified("one", "date")).wantOutcome(w, live.OutcomeCompleted)
		if n := len(w.registry.records.byKey); n != 1 {
			t.Errorf("%d requests are remembered", n)
		}
	})
}

func TestAResultIsForgottenAfterTenMinutes(t *testing.T) {
	inWorld(t, func(w *world) {
		w.web()
		counting(w)
		w.post(w.Context(), "web", identified("one", "date"))
		time.Sleep(10*time.Minute - time.Second)
		if got := w.post(w.Context(), "web", identified("one", "date")); got.exec.Status.Stdout != "1" {
			t.Errorf("run %s after less than ten minutes", got.exec.Status.Stdout)
		}
		time.Sleep(time.Second)
		if got := w.post(w.Context(), "web", identified("one", "date")); got.exec.Status.Stdout != "2" {
			t.Errorf("run %s after ten minutes", got.exec.Status.Stdout)
		}
		time.Sleep(10 * time.Minute)
		s := w.registry.records
		s.forget(time.Now())
		if len(s.byKey)+len(s.ended)+len(s.users) != 0 || s.bytes != 0 {
			t.Errorf("left are %d requests, %d bytes, users %v", len(s.byKey), s.bytes, s.users)
		}
	})
}

func TestRequestsAreRefusedRatherThanForgotten(t *testing.T) {
	for name, bounds := range map[string]recordBounds{
		"when all have too many": {memory: 10 * time.Minute, bytes: 2*recordOverhead + 2, userBytes: 1 << 20},
		"when one has too many":  {memory: 10 * time.Minute, bytes: 1 << 20, userBytes: 2*recordOverhead + 2},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.web()
				w.registry.records = newRecords(bounds)
				counting(w)
				w.post(w.Context(), "web", identified("one", "date")).wantOutcome(w, live.OutcomeCompleted)
				time.Sleep(time.Minute)
				w.post(w.Context(), "web", identified("two", "date")).wantOutcome(w, live.OutcomeCompleted)
				w.post(w.Context(), "web", identified("three", "date")).wantRefusal(w, http.StatusTooManyRequests, "request IDs")
				if got := w.post(w.Context(), "web", identified("one", "date")); got.exec.Status.Stdout != "1" {
					t.Errorf("the repetition was run %s", got.exec.Status.Stdout)
				}
				time.Sleep(9 * time.Minute)
				w.post(w.Context(), "web", identified("three", "date")).wantOutcome(w, live.OutcomeCompleted)
			})
		})
	}
}
