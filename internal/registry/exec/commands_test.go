package exec

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/output"
	"github.com/connpool/connpool/internal/registry/quota"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

// isUnused reports whether nothing of a quota is taken. It takes all of it.
func isUnused(q *quota.Quota, most int64) bool {
	for n := range int64(8) { // Each namespace has an eighth, and each user may take it.
		name := fmt.Sprint("frank ", n)
		if q.Take(quota.Owner{Namespace: name, User: name}, most/8) != quota.Free {
			return false
		}
	}
	return true
}

// small is what requests may hold in a process of 64 MiB: 4 MiB of input and of results,
// 16 MiB of output.
func small(c *use.Config) { c.Limits.Memory = 64 << 20 }

const (
	mib         = 1 << 20
	smallInput  = 4 * mib
	smallOutput = 16 * mib
)

func of(user string) quota.Owner { return quota.Owner{Namespace: registrytest.Namespace, User: user} }

func TestInputIsNotHeldAfterItsCommand(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Post(f.Context(), "web", registrytest.Command("true"))
		f.Post(f.Context(), "web", "no object")
		if !isUnused(f.Gate.Memory.Input, smallInput) {
			t.Error("some bytes are held")
		}
	}, small)
}

// The users of one namespace can send as much as they like: the administrator's command
// in another namespace is read all the same.
func TestBodiesOfOneNamespaceLeaveThoseOfOthers(t *testing.T) {
	inFixture(t, func(f *fixture) {
		c, held := f.commands, 0
		for n := range 100 {
			for _, length := range []int64{-1, 64 << 10, 2 << 10, 60} {
				if _, err := c.holdBody(of(fmt.Sprint("robot ", n)), length); err == nil {
					held++
				}
			}
		}
		if held == 0 || held == 400 {
			t.Errorf("%d of 400 bodies are held", held)
		}
		_, err := c.holdBody(of("another robot"), 64<<10)
		if !apierrors.IsTooManyRequests(err) || !strings.Contains(err.Error(), string(quota.OfNamespace)) {
			t.Errorf("one more is refused with %v", err)
		}
		if _, err := c.holdBody(quota.Owner{Namespace: "kube-system", User: "admin"}, 256<<10); err != nil {
			t.Errorf("the administrator: %v", err)
		}
	}, small)
}

// What is held for an answer counts until the client has it, and that takes bounded time.
func TestAnAnswerThatIsNotReadIsHeldForAMinute(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Fake.OnExec(registrytest.Saying(strings.Repeat("x", live.MaxExecOutputBytes), "", 0))
		listener, stop := registrytest.Serve(f)
		defer stop()
		client, _ := listener.Dial(f.Context(), "", "")
		defer client.Close()
		const body = `{"spec": {"command": ["yes"]}}`
		_, _ = fmt.Fprintf(client, "POST /pools/web/exec HTTP/1.1\r\nHost: pools\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		synctest.Wait()
		if isUnused(f.Gate.Memory.Output, smallOutput) {
			t.Error("an answer that waits to be sent does not count")
		}
		began := time.Now()
		<-f.Gate.Idle()
		if after := time.Since(began); after != sendTimeout {
			t.Errorf("it was held for %v", after)
		}
	}, small)
}

// Each byte of an answer's output takes at most two, whatever it is.
func TestOutputThatJSONWouldBlowUpComesAsBytes(t *testing.T) {
	for name, test := range map[string]struct {
		output  string
		asBytes bool
	}{
		"words":            {strings.Repeat("plain words\n", 1000), false},
		"HTML":             {strings.Repeat("<b>&amp;</b>", 1000), false},
		"quotes":           {strings.Repeat(`"`, 10_000), false},
		"NUL":              {strings.Repeat("\x00", 10_000), true},
		"colors and words": {strings.Repeat("\x1b[32mok\x1b[0m\n", 1000), false},
		"escapes":          {strings.Repeat("\x1b", 10_000), true},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Web()
				f.Fake.OnExec(registrytest.Saying(test.output, "", 0))
				status := f.Post(f.Context(), "web", registrytest.Command("cat")).Exec.Status
				if got := status.Stdout + string(status.StdoutBytes); got != test.output || (status.Stdout == "") != test.asBytes {
					t.Errorf("%d characters, %d bytes", len(status.Stdout), len(status.StdoutBytes))
				}
				if text := f.commands.encode(&live.Exec{Status: status}); len(text) > output.Cost*len(test.output)+500 {
					t.Errorf("%d bytes are sent as %d", len(test.output), len(text))
				}
			})
		})
	}
}

// A client that sends nothing is refused after a while; a command may last.
func TestOnlyTheBodyHasADeadline(t *testing.T) {
	const body = `{"spec": {"command": ["sleep", "infinity"]}}`
	for name, test := range map[string]struct {
		sent   string
		lasts  time.Duration
		status int
	}{
		"no body":              {"", bodyTimeout, http.StatusBadRequest},
		"a command of an hour": {body, time.Hour, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Web()
				release := make(chan struct{})
				f.Fake.OnExec(registrytest.Lasting(release))
				time.AfterFunc(time.Hour, func() { close(release) })
				listener, stop := registrytest.Serve(f)
				defer stop()
				client, _ := listener.Dial(f.Context(), "", "")
				defer client.Close()
				began := time.Now()
				_, _ = fmt.Fprintf(client, "POST /pools/web/exec HTTP/1.1\r\nHost: pools\r\nContent-Length: %d\r\n\r\n%s", len(body), test.sent)
				response, err := http.ReadResponse(bufio.NewReader(client), nil)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				if response.StatusCode != test.status || time.Since(began) != test.lasts {
					t.Errorf("answered %d after %v", response.StatusCode, time.Since(began))
				}
			})
		})
	}
}
