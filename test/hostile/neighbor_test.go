package hostile

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	live "github.com/connpool/connpool/client"
	"github.com/connpool/connpool/test/openssh"
)

const (
	// pace is how often the neighbor runs a command.
	pace = 20 * time.Millisecond
	// patience is how long the neighbor waits for one. A command takes some
	// milliseconds when the machine is quiet.
	patience = 15 * time.Second
	sshUser  = "connpool-hostile"
)

// neighbor is an innocent tenant with a warm pool.
type neighbor struct {
	tenant
	pool *live.Pool
	ran  atomic.Int64 // commands
}

// newNeighbor returns a neighbor whose pool is warm.
func newNeighbor(t *testing.T) *neighbor {
	t.Helper()
	server := startSSHD(t)
	n := &neighbor{tenant: newTenant(t, "innocent")}
	n.secret(t, "login", login(server.PrivateKey))
	n.create(t, n.sshTarget("web", server.Addr, server.KnownHosts, server.User))
	n.create(t, n.poolOf("web", "web"))
	n.pool = n.client(t).Pool(n.namespace, "web")
	n.ready(t, "web", 30*time.Second)
	return n
}

func startSSHD(t *testing.T) *openssh.Server {
	t.Helper()
	options := openssh.Options{}
	if os.Geteuid() == 0 {
		remove, err := openssh.CreateUser(sshUser)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(remove)
		options.User = sshUser
	}
	server, err := openssh.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

// watch runs commands until stop is called, which returns how long each took and
// the failures.
func (n *neighbor) watch() (stop func() (took []time.Duration, failures []error)) {
	ctx, cancel := context.WithCancel(context.Background())
	var took []time.Duration
	var failures []error
	var done sync.WaitGroup
	done.Go(func() {
		ticker := time.NewTicker(pace)
		defer ticker.Stop()
		for ctx.Err() == nil {
			duration, err := n.command()
			n.ran.Add(1)
			if took = append(took, duration); err != nil {
				failures = append(failures, err)
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
		}
	})
	return func() ([]time.Duration, []error) {
		cancel()
		done.Wait()
		return took, failures
	}
}

// command runs one command to its end.
func (n *neighbor) command() (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	begin := time.Now()
	result, err := n.pool.Exec(ctx, live.Command{Argv: []string{"echo", "well"}})
	if err == nil && string(result.Stdout) != "well\n" {
		err = fmt.Errorf("the neighbor's command printed %q", result.Stdout)
	}
	return time.Since(begin), err
}

// meanwhile returns when the neighbor has run so many further commands that their 99th
// percentile is known.
func meanwhile(t *testing.T) {
	t.Helper()
	enough := env.innocent.ran.Load() + 200
	eventually(t, time.Minute, "the neighbor runs 200 commands", func(context.Context) (bool, string) {
		ran := env.innocent.ran.Load()
		return ran >= enough, fmt.Sprintf("%d to come", enough-ran)
	})
}

// percentile returns the value that so many percent of the durations do not exceed.
func percentile(took []time.Duration, percent int) time.Duration {
	if len(took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(took))
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}
