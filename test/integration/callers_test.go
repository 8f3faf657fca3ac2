package integration

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
)

// callers is how many commands come at once.
const callers = 200

// forCallers is what a pool sets for so many of them: room in the queue. The rest are the
// defaults.
func forCallers(spec *v1alpha1.ConnectionPoolSpec) {
	spec.Acquire.MaxPending = new(int32(callers))
}

// An sshd with its defaults takes 10 sessions on a connection, and drops new connections
// from the tenth one that has not logged in.
func TestManyCallersShareAServerWithItsDefaults(t *testing.T) {
	makeSSHUser(t)
	server := startPlainSSHD(t, "MaxSessions 10", "MaxStartups 10:30:100")
	f := warm(t, server, forCallers)
	const users = 4
	all := poolFor(t, f, users)
	var running sync.WaitGroup
	begin := make(chan struct{})
	for i := range callers {
		running.Go(func() {
			<-begin
			if _, err := all[i%users].Exec(t.Context(), client.Command{Shell: "sleep 0.1"}); err != nil {
				t.Errorf("a command of user %d failed: %v", i%users, err)
			}
		})
	}
	close(begin)
	running.Wait()
	// As sshd itself has counted them, those that are gone again, too.
	if n := strings.Count(server.Log(), "Accepted publickey"); n < 1 || n > 25 {
		t.Errorf("%d connections, want at most 25", n)
	}
}

// poolFor returns the pool for each of so many users, once it serves.
func poolFor(t *testing.T, f fixture, users int) []*client.Pool {
	t.Helper()
	var all []*client.Pool
	for i := range users {
		config := rest.CopyConfig(env.config)
		config.Impersonate = rest.ImpersonationConfig{UserName: fmt.Sprintf("caller-%d", i), Groups: []string{"system:masters"}}
		c, err := client.New(config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.CloseIdleConnections)
		all = append(all, c.Pool(f.pool.Namespace, f.pool.Name))
	}
	eventually(t, 15*time.Second, "the pool serves", func() (bool, string) {
		_, err := all[0].Exec(t.Context(), client.Command{Shell: "true"})
		return err == nil, errorText(err)
	})
	return all
}

func TestAUserWithManyCommandsDoesNotKeepAnotherWaiting(t *testing.T) {
	makeSSHUser(t)
	server := startPlainSSHD(t)
	f := warm(t, server, forCallers, func(spec *v1alpha1.ConnectionPoolSpec) {
		spec.Size.Max, spec.SessionsPerConnection = new(int32(1)), new(int32(1))
		spec.Acquire.TimeoutSeconds = new(int32(120))
	})
	all := poolFor(t, f, 2)
	const many, few = 60, 10
	var running sync.WaitGroup
	send := func(user, count int, shell string) {
		for range count {
			running.Go(func() {
				if _, err := all[user].Exec(t.Context(), client.Command{Shell: shell}); err != nil {
					t.Errorf("a command of user %d failed: %v", user, err)
				}
			})
		}
	}
	waiting := func(want int) {
		t.Helper()
		eventually(t, 30*time.Second, "so many commands wait", func() (bool, string) {
			pending := observe(f.pool, f.target).Pending
			return pending == want, strconv.Itoa(pending)
		})
	}
	marks := marksOn(t, server)
	gate := marksOn(t, server)
	send(0, 1, fmt.Sprintf("while [ -e %s ]; do sleep 0.05; done", gate))
	leases(t, 15*time.Second, f, 1)
	send(0, many, "echo many >>"+marks)
	waiting(many)
	send(1, few, "echo few >>"+marks)
	waiting(many + few)
	if err := os.Remove(gate); err != nil {
		t.Fatal(err)
	}
	running.Wait()
	text, err := os.ReadFile(marks)
	if err != nil {
		t.Fatal(err)
	}
	ended := strings.Fields(string(text))
	last := len(ended) - 1
	for last > 0 && ended[last] != "few" {
		last--
	}
	if len(ended) != many+few || last >= 2*few {
		t.Errorf("the last of %d commands that came late was number %d of %d: %q", few, last+1, len(ended), ended)
	}
}
