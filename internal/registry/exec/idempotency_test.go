package exec

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
	"github.com/connpool/connpool/internal/registry/registrytest"
)

// counting answers each command with how many there were.
func counting(f *fixture) {
	n := 0
	f.Fake.OnExec(func(_ context.Context, _ *drivertest.FakeConn, _ driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
		n++
		_, _ = streams.Stdout.Write([]byte(strconv.Itoa(n)))
		return driver.ExitStatus{}, nil
	})
}

func TestARepetitionReturnsTheFirstResult(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		counting(f)
		for range 3 {
			got := f.Post(f.Context(), "web", registrytest.Identified("one", "date"))
			got.WantOutcome(f, live.OutcomeCompleted)
			if got.Exec.Status.Stdout != "1" || got.Exec.Status.RequestID != "one" {
				t.Errorf("result is %+v", got.Exec.Status)
			}
			time.Sleep(3 * time.Minute)
		}
		if !strings.Contains(f.Audit(), "repeated") {
			t.Errorf("audit says %s", f.Audit())
		}
	})
}

func TestWhatMakesARequestAnother(t *testing.T) {
	elsewhere := registrytest.Identified("one", "date")
	elsewhere.Spec.Target = "web-1"
	for name, test := range map[string]struct {
		pool   string
		object live.Exec
		change func(*http.Request)
	}{
		"another ID":   {"web", registrytest.Identified("two", "date"), registrytest.As("alice")},
		"another user": {"web", registrytest.Identified("one", "date"), registrytest.As("bob")},
		"a namesake":   {"web", registrytest.Identified("one", "date"), registrytest.AsOneOf("alice", "2")},
		"another pool": {"db", registrytest.Identified("one", "date"), registrytest.As("alice")},
		"no ID":        {"web", registrytest.Command("date"), registrytest.As("alice")},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Web()
				f.Connect(f.Target("db-1", "db"), f.Pool("db", registrytest.LeastLoaded))
				counting(f)
				f.Post(f.Context(), "web", registrytest.Identified("one", "date")).WantOutcome(f, live.OutcomeCompleted)
				got := f.Post(f.Context(), test.pool, test.object, test.change)
				if got.WantOutcome(f, live.OutcomeCompleted); got.Exec.Status.Stdout != "2" {
					t.Errorf("it was answered with run %s", got.Exec.Status.Stdout)
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
			inFixture(t, func(f *fixture) {
				f.Web()
				object := registrytest.Identified("one", "ls", "x")
				f.Post(f.Context(), "web", object).WantOutcome(f, live.OutcomeCompleted)
				change(&object.Spec)
				f.Post(f.Context(), "web", object).WantRefusal(f, http.StatusConflict, "spec.requestID", "another command")
				if f.Execs() != 1 {
					t.Errorf("%d commands ran", f.Execs())
				}
			})
		})
	}
}

func TestARepetitionJoinsWhatRuns(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		release := make(chan struct{})
		f.Fake.OnExec(registrytest.Lasting(release))
		first := f.Later(f.Context(), "web", registrytest.Identified("one", "sleep"))
		synctest.Wait()
		ctx, cancel := context.WithCancel(f.Context())
		impatient := f.Later(ctx, "web", registrytest.Identified("one", "sleep"))
		patient := f.Later(f.Context(), "web", registrytest.Identified("one", "sleep"))
		synctest.Wait()
		cancel()
		(<-impatient).WantRefusal(f, http.StatusServiceUnavailable, "withdrawn")
		synctest.Wait()
		close(release)
		(<-first).WantOutcome(f, live.OutcomeCompleted)
		(<-patient).WantOutcome(f, live.OutcomeCompleted)
		if f.Execs() != 1 {
			t.Errorf("%d commands ran", f.Execs())
		}
	})
}

func TestACommandEndsWhenNoRequestWaitsForIt(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Fake.OnExec(registrytest.Lasting(nil))
		ctx, leave := context.WithCancel(f.Context())
		first := f.Later(ctx, "web", registrytest.Identified("one", "sleep"))
		synctest.Wait()
		later, leaveToo := context.WithCancel(f.Context())
		second := f.Later(later, "web", registrytest.Identified("one", "sleep"))
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
		again := f.Post(f.Context(), "web", registrytest.Identified("one", "sleep"))
		again.WantOutcome(f, live.OutcomeUnknown)
		if f.Execs() != 1 {
			t.Errorf("%d commands ran", f.Execs())
		}
	})
}

// A panic is the operator's own failure: the command may have run.
func TestAPanicIsRemembered(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Fake.OnExec(func(context.Context, *drivertest.FakeConn, driver.Command, driver.Streams) (driver.ExitStatus, error) {
			panic("canary")
		})
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			f.Post(f.Context(), "web", registrytest.Identified("one", "date"))
		}()
		got := f.Post(f.Context(), "web", registrytest.Identified("one", "date"))
		got.WantOutcome(f, live.OutcomeUnknown)
		if message := got.Exec.Status.Message; !strings.Contains(message, "request one may have run") || strings.Contains(message, "canary") {
			t.Errorf("message is %q", message)
		}
		if f.Execs() != 1 {
			t.Errorf("%d commands ran", f.Execs())
		}
		time.Sleep(10 * time.Minute)
		f.Fake.OnExec(nil)
		f.Post(f.Context(), "web", registrytest.Identified("one", "date")).WantOutcome(f, live.OutcomeCompleted)
	})
}

func TestWhatWasNotStartedMayBeTriedAgain(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Fake.OnExec(func(context.Context, *drivertest.FakeConn, driver.Command, driver.Streams) (driver.ExitStatus, error) {
			return driver.ExitStatus{}, &driver.Error{Reason: driver.ProtocolError, Message: "refused"}
		})
		f.Post(f.Context(), "web", registrytest.Identified("one", "date")).WantOutcome(f, live.OutcomeNotStarted)
		bad := registrytest.Identified("one", "date")
		bad.Spec.Target = "unknown"
		f.Post(f.Context(), "web", bad).WantRefusal(f, http.StatusNotFound)
		f.Fake.OnExec(nil)
		f.Post(f.Context(), "web", registrytest.Identified("one", "date")).WantOutcome(f, live.OutcomeCompleted)
	})
}

func TestAResultIsForgottenAfterTenMinutes(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		counting(f)
		f.Post(f.Context(), "web", registrytest.Identified("one", "date"))
		time.Sleep(10*time.Minute - time.Second)
		if got := f.Post(f.Context(), "web", registrytest.Identified("one", "date")); got.Exec.Status.Stdout != "1" {
			t.Errorf("run %s after less than ten minutes", got.Exec.Status.Stdout)
		}
		time.Sleep(time.Second)
		if got := f.Post(f.Context(), "web", registrytest.Identified("one", "date")); got.Exec.Status.Stdout != "2" {
			t.Errorf("run %s after ten minutes", got.Exec.Status.Stdout)
		}
	})
}

// Each repetition holds a copy of its result until it is sent, so it counts as well.
func TestARepetitionWaitsForRoomForItsResult(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		counting(f)
		object := registrytest.Identified("one", "date")
		f.Post(f.Context(), "web", object).WantOutcome(f, live.OutcomeCompleted)
		held := f.Gate.Memory.Output
		held.Add(of("robot"), smallOutput)
		f.Post(f.Context(), "web", object).WantRefusal(f, http.StatusTooManyRequests, "has run", "again later")
		held.Add(of("robot"), -smallOutput)
		f.Post(f.Context(), "web", object).WantOutcome(f, live.OutcomeCompleted)
		if f.Execs() != 1 || !isUnused(held, smallOutput) {
			t.Errorf("it ran %d times, or some bytes are left", f.Execs())
		}
	}, small)
}
