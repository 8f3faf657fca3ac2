package exec

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/registry/quota"
	"github.com/connpool/connpool/internal/registry/registrytest"
)

// isUnused reports whether nothing of a quota is taken. It takes all of it.
func isUnused(b *quota.Quota, most, mostUser int64) bool {
	return b.Take("frank", mostUser) && b.Take("grace", most-mostUser)
}

func TestInputOfManyCommandsIsBounded(t *testing.T) {
	c := NewCommands()
	var releases []func()
	fill := func(user string) (n int) {
		for {
			release, err := c.holdBody(user, -1)
			if err != nil {
				return n
			}
			releases = append(releases, release)
			n++
		}
	}
	if n := fill("ann"); n != maxUserBytes/maxExecBytes {
		t.Errorf("ann holds %d", n)
	}
	if _, err := c.holdBody("ann", 1); err == nil {
		t.Error("ann holds one more")
	}
	if n := fill("bob"); n != (maxBytes-maxUserBytes)/maxExecBytes {
		t.Errorf("bob holds %d", n)
	}
	if _, err := c.holdBody("cat", 1); err == nil {
		t.Error("all together hold one more")
	}
	for _, release := range releases {
		release()
	}
	if !isUnused(c.input, maxBytes, maxUserBytes) {
		t.Error("some bytes are left")
	}
}

func TestInputIsNotHeldAfterItsCommand(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Post(f.Context(), "web", registrytest.Command("true"))
		f.Post(f.Context(), "web", "no object")
		if !isUnused(f.commands.input, maxBytes, maxUserBytes) {
			t.Error("some bytes are held")
		}
	})
}

// Many outputs together are bounded, too. What is beyond the bound is dropped, and the
// commands go on.
func TestOutputOfManyCommandsIsBounded(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		release := make(chan struct{})
		const each, most = 100, 1000
		f.commands.output = quota.New(most, most/2)
		long := bytes.Repeat([]byte("x"), each)
		f.Fake.OnExec(func(_ context.Context, _ *drivertest.FakeConn, _ driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
			_, _ = streams.Stdout.Write(long)
			_, _ = streams.Stderr.Write(long)
			<-release
			return driver.ExitStatus{}, nil
		})
		answers := make([]<-chan registrytest.Reply, 0, 10)
		for n := range cap(answers) {
			answers = append(answers, f.Later(f.Context(), "web", registrytest.Command("yes"), registrytest.As([]string{"ann", "bob", "cat", "dan"}[n%4])))
		}
		synctest.Wait()
		if f.commands.output.Take("eve", 1) {
			t.Errorf("less than %d bytes are held", most)
		}
		close(release)
		whole := 0
		for _, answer := range answers {
			got := <-answer
			got.WantOutcome(f, live.OutcomeCompleted)
			kept := len(got.Exec.Status.Stdout) + len(got.Exec.Status.Stderr)
			if got.Exec.Status.Truncated != (kept < 2*each) {
				t.Errorf("%d bytes, truncated: %t", kept, got.Exec.Status.Truncated)
			}
			whole += kept
		}
		if unused := isUnused(f.commands.output, most, most/2); whole != most || !unused {
			t.Errorf("%d bytes came back, none is still held: %t", whole, unused)
		}
	})
}

func TestOutputOfOneUserIsBounded(t *testing.T) {
	held := quota.New(maxBytes, maxUserBytes)
	var kept []*capture
	long := make([]byte, live.MaxExecOutputBytes)
	for range maxUserBytes/len(long) + 1 {
		c := &capture{quota: held, user: "ann"}
		_, _ = c.Write(long)
		kept = append(kept, c)
	}
	if last := kept[len(kept)-1]; !last.truncated || last.kept.Len() != 0 {
		t.Error("ann holds one more")
	}
	other := &capture{quota: held, user: "bob"}
	if _, _ = other.Write(long); other.truncated {
		t.Error("bob may hold nothing")
	}
	for _, c := range append(kept, other) {
		c.release()
	}
	if !isUnused(held, maxBytes, maxUserBytes) {
		t.Error("some bytes are left")
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
