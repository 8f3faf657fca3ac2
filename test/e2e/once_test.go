//go:build e2e

package e2e

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/test/atmostonce"
)

// fault breaks the connections to a place.
type fault struct {
	name string
	// in has a function for each pool that the fault breaks, by the pool's name.
	in map[string]func(context.Context) error
}

func faults() []fault {
	killSSH := func(context.Context) error { fixture.ssh.KillConnections(); return nil }
	return []fault{
		{"nothing breaks", nil},
		{"connections are reset", map[string]func(context.Context) error{
			"host": killSSH, "engine-ssh": killSSH,
			"engine-tls": func(context.Context) error { fixture.engineLink.Reset(); return nil },
			"cluster":    func(context.Context) error { fixture.clusterLink.Reset(); return nil },
		}},
		{"the engine is killed and comes back", map[string]func(context.Context) error{
			"engine-unix": restartEngine, "engine-tls": restartEngine,
		}},
	}
}

func restartEngine(ctx context.Context) error {
	fixture.engine.Kill()
	return fixture.engine.Restart(ctx)
}

// Commands run at most once in containers, pods and sessions too, by every client.
func TestCommandsRunAtMostOnceWhateverBreaks(t *testing.T) {
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			for _, p := range places() {
				strike := f.in[p.pool]
				if f.in != nil && strike == nil {
					continue
				}
				t.Run(p.name, func(t *testing.T) {
					p.awaitCommand(t) // the place before may share what it broke
					p.load(t, strike)
				})
			}
			for _, p := range places() { // some share what was broken
				p.awaitCommand(t)
			}
		})
	}
}

// load sends commands by every client and, if strike is not nil, strikes three times.
func (p place) load(t *testing.T, strike func(context.Context) error) {
	ledger, err := atmostonce.NewLedger(filepath.Join(ledgers(), "of-"+p.pool))
	if err != nil {
		t.Fatal(err)
	}
	ways := p.ways(t)
	load := atmostonce.Load{Ledger: ledger, Clients: ways, Commands: 6 * len(ways), Parallel: 8, Lines: 30, Pause: 50 * time.Millisecond}
	var broken atmostonce.Fault
	if strike != nil {
		broken = atmostonce.Fault{Strikes: 3, Strike: strike}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	summary, err := load.Run(ctx, broken)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(summary)
	for reason, n := range summary.Reasons {
		t.Logf("%d times %s", n, reason)
	}
	if err := summary.Err(); err != nil {
		t.Error(err)
	}
	if failed := summary.Failed(); strike == nil && failed > 0 {
		t.Errorf("%d commands failed, and nothing was broken", failed)
	}
}

// awaitCommand returns when a command completes there again. A target whose connections
// were lost soon after they were made, again and again, is dialed after up to 60 s, and
// is up when a connection has lasted for 10 s.
func (p place) awaitCommand(t *testing.T) {
	t.Helper()
	spec := p.spec
	spec.Command = []string{"true"}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(90 * time.Second)
	for {
		code, got := post(t, fixture.direct, p.pool, spec)
		if got.Outcome == live.OutcomeCompleted {
			return
		}
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("no command completes on %s any more: %d %+v", p.name, code, got)
		}
	}
}

// ways are all clients, to kube-apiserver and to the operator, and all of them
// with sessions, too; each has run a command.
func (p place) ways(t *testing.T) (ways []atmostonce.Client) {
	t.Helper()
	pool := atmostonce.Pool{Namespace: "default", Name: p.pool, Container: p.spec.Container, Pod: p.spec.Pod}
	pool.Config = fixture.direct
	direct, err := pool.Clients("direct ")
	if err != nil {
		t.Fatal(err)
	}
	inSessions, err := pool.SessionClients("direct ")
	if err != nil {
		t.Fatal(err)
	}
	pool.Config = fixture.worker
	proxied, err := pool.Clients("proxied ")
	if err != nil {
		t.Fatal(err)
	}
	ways = append(append(direct, inSessions...), proxied...)
	for _, way := range ways {
		t.Cleanup(way.Close)
		if report := way.Run(t.Context(), "true"); report.Outcome != live.OutcomeCompleted {
			t.Fatalf("the first command by %s: %+v", way.Name, report)
		}
	}
	return ways
}
