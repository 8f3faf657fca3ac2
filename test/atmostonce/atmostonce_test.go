package atmostonce

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"k8s.io/client-go/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shell runs a command on this machine and reports what happened.
func shell(ctx context.Context, line string) Report {
	output, err := exec.CommandContext(ctx, "/bin/sh", "-c", line).Output()
	report := Report{Outcome: live.OutcomeCompleted, Output: output}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		report.ExitCode = exit.ExitCode()
	}
	return report
}

func run(t *testing.T, fault Fault, client func(context.Context, string) Report) Summary {
	t.Helper()
	ledger, err := NewLedger(filepath.Join(t.TempDir(), "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	load := Load{Ledger: ledger, Clients: []Client{{Name: "test", Run: client}}, Commands: 6, Parallel: 2, Lines: 3}
	summary, err := load.Run(t.Context(), fault)
	if err != nil {
		t.Fatal(err)
	}
	return summary
}

func TestHonestClientsPass(t *testing.T) {
	tests := map[string]func(context.Context, string) Report{
		"all complete": shell,
		"a cut output whose outcome is unknown": func(ctx context.Context, line string) Report {
			report := shell(ctx, line)
			return Report{Outcome: live.OutcomeUnknown, Output: report.Output[:5]}
		},
		"an unknown outcome of what never ran": func(context.Context, string) Report {
			return Report{Outcome: live.OutcomeUnknown}
		},
	}
	for name, client := range tests {
		t.Run(name, func(t *testing.T) {
			if err := run(t, Fault{}, client).Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEveryClientKnowsThatAServerItCannotReachHasStartedNothing(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	gone := listener.Addr().String()
	for name, config := range map[string]*rest.Config{
		"the server is gone":        {Host: "https://" + gone},
		"a proxy before it is gone": {Host: "https://127.0.0.2:1", Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: gone})},
	} {
		config.BearerToken, config.Insecure = "token", true
		clients, err := (Pool{Config: config, Namespace: "shop", Name: "web"}).Clients("")
		if err != nil {
			t.Fatal(err)
		}
		for _, client := range clients {
			t.Run(name+"/"+client.Name, func(t *testing.T) {
				defer client.Close()
				if report := client.Run(t.Context(), "true"); report.Outcome != live.OutcomeNotStarted {
					t.Errorf("outcome %s: %v (%T)", report.Outcome, report.Err, report.Err)
				}
			})
		}
	}
}

func TestEachBreachIsFound(t *testing.T) {
	tests := map[string]struct {
		client func(context.Context, string) Report
		found  func(Summary) int
	}{
		"a command that runs twice": {func(ctx context.Context, line string) Report {
			shell(ctx, line)
			return shell(ctx, line)
		}, func(s Summary) int { return s.Duplicates }},
		"a command that does not run": {func(context.Context, string) Report {
			return Report{Outcome: live.OutcomeCompleted}
		}, func(s Summary) int { return s.Missing }},
		"a byte that is lost": {func(ctx context.Context, line string) Report {
			report := shell(ctx, line)
			report.Output = report.Output[:len(report.Output)-1]
			return report
		}, func(s Summary) int { return s.LostBytes }},
		"a byte that comes twice": {func(ctx context.Context, line string) Report {
			report := shell(ctx, line)
			report.Output = append(report.Output[:1:1], report.Output...)
			return report
		}, func(s Summary) int { return s.Garbled }},
		"another exit code": {func(ctx context.Context, line string) Report {
			report := shell(ctx, line)
			report.ExitCode += 3
			return report
		}, func(s Summary) int { return s.WrongExits }},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			summary := run(t, Fault{}, tc.client)
			if tc.found(summary) != 6 || summary.Err() == nil {
				t.Errorf("not found six times: %s", summary)
			}
		})
	}
}

func TestWhatWasNotStartedIsSentAgain(t *testing.T) {
	for name, ran := range map[string]bool{"and did not run": false, "but ran": true} {
		t.Run(name, func(t *testing.T) {
			failures := make(chan struct{}, 3)
			summary := run(t, Fault{}, func(ctx context.Context, line string) Report {
				select {
				case failures <- struct{}{}:
				default:
					return shell(ctx, line)
				}
				if ran {
					shell(ctx, line)
				}
				return Report{Outcome: live.OutcomeNotStarted}
			})
			if summary.Completed != 6 || summary.NotStarted != 3 || (summary.Phantoms == 3) != ran || (summary.Err() != nil) != ran {
				t.Errorf("unexpected: %s", summary)
			}
		})
	}
}

func TestAFaultStrikesAndIsHealed(t *testing.T) {
	broken := make(chan bool, 1)
	var strikes, heals atomic.Int32
	fault := Fault{
		Strikes: 2, Patience: 0,
		Strike: func(context.Context) error { strikes.Add(1); broken <- true; return nil },
		Heal:   func(context.Context) error { heals.Add(1); <-broken; return nil },
	}
	if summary := run(t, fault, shell); summary.Strikes != 2 || strikes.Load() != 2 || heals.Load() != 2 {
		t.Errorf("%d strikes and %d heals, want 2: %s", strikes.Load(), heals.Load(), summary)
	}
}
