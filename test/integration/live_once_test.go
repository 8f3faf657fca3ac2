package integration

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/test/atmostonce"
	"github.com/connpool/connpool/test/netfault"
)

// scene is a pool behind a proxy, whose parts a fault can break.
type scene struct {
	fixture

	proxy *netfault.Proxy
}

func newScene(t *testing.T, config ...string) scene {
	t.Helper()
	server := startPlainSSHD(t, config...)
	proxy, err := netfault.Start(server.Addr, netfault.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	s := scene{warm(t, through(server, proxy), manySessions), proxy}
	s.server = server
	return s
}

// onceTest is a fault under load, and how the commands may end.
type onceTest struct {
	name   string
	config []string // of sshd
	fault  func(*testing.T, scene) atmostonce.Fault
	// bound is how long after a strike commands may be reported as Unknown; 0 when no
	// command may fail.
	bound time.Duration
	pause time.Duration
}

// The quick faults keep the processor busy and have short bounds, so they run one
// after the other. The slow ones wait most of the time, so they run together.
var (
	quickFaults = []onceTest{
		{name: "F02 connections are killed", bound: time.Second, pause: 100 * time.Millisecond, fault: killed},
		{name: "F08 connections are reset", bound: time.Second, pause: 100 * time.Millisecond, fault: reset},
		{name: "F14 the Secret is rotated", pause: 200 * time.Millisecond, fault: rotated},
		{name: "F19 the server refuses sessions", config: []string{"MaxSessions 3"}, pause: 20 * time.Millisecond, fault: recycled},
		{name: "the pool is drained", pause: 50 * time.Millisecond, fault: recycled},
	}
	slowFaults = []onceTest{
		{name: "F04 the server freezes", bound: 15 * time.Second, pause: 50 * time.Millisecond, fault: frozen},
		{name: "F06 only the reply path is cut", bound: 15 * time.Second, pause: 50 * time.Millisecond, fault: deaf},
	}
)

func killed(_ *testing.T, s scene) atmostonce.Fault {
	return atmostonce.Fault{Strikes: 3, Strike: func(context.Context) error { s.server.KillConnections(); return nil }}
}

func reset(_ *testing.T, s scene) atmostonce.Fault {
	return atmostonce.Fault{Strikes: 3, Strike: func(context.Context) error { s.proxy.Reset(); return nil }}
}

func frozen(_ *testing.T, s scene) atmostonce.Fault {
	return atmostonce.Fault{
		Strikes: 1, Patience: 20 * time.Second,
		Strike: func(context.Context) error { s.server.Freeze(); return nil },
		Heal:   func(context.Context) error { s.server.Thaw(); return nil },
	}
}

func deaf(_ *testing.T, s scene) atmostonce.Fault {
	return atmostonce.Fault{
		Strikes: 1, Patience: 20 * time.Second,
		Strike: func(context.Context) error { s.proxy.Set(netfault.DropReplies); return nil },
		Heal: func(context.Context) error { // no connection is usable without the lost bytes
			s.proxy.Set(netfault.None)
			s.proxy.Reset()
			return nil
		},
	}
}

// recycled drains the pool over HTTP, as `kubectl connpool drain` does.
func recycled(_ *testing.T, s scene) atmostonce.Fault {
	return atmostonce.Fault{Strikes: 10, Strike: func(ctx context.Context) error { return drainPool(ctx, s.fixture) }}
}

func drainPool(ctx context.Context, f fixture) error {
	admin, err := rest.HTTPClientFor(env.config)
	if err != nil {
		return err
	}
	defer admin.CloseIdleConnections()
	address := strings.TrimSuffix(execURL(env.config, f), "exec") + "drain"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader("{}"))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := admin.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("drain: %s", response.Status)
	}
	return nil
}

func rotated(t *testing.T, s scene) atmostonce.Fault {
	t.Helper()
	const times = 3
	keys := make(chan keyPair, times)
	for range times {
		keys <- newKey(t)
	}
	return atmostonce.Fault{Strikes: times, Strike: func(ctx context.Context) error {
		key := <-keys
		if err := s.server.Authorize(key.public); err != nil {
			return err
		}
		var secret corev1.Secret
		if err := env.client.Get(ctx, client.ObjectKeyFromObject(s.secret), &secret); err != nil {
			return err
		}
		secret.Data["ssh-privatekey"] = key.private
		return env.client.Update(ctx, &secret)
	}}
}

// Each fault, with every client.
func TestCommandsRunAtMostOnceWhateverBreaks(t *testing.T) {
	makeSSHUser(t)
	t.Run("nothing breaks", onceTest{fault: func(*testing.T, scene) atmostonce.Fault { return atmostonce.Fault{} }}.run)
	before := atmostonce.ResourcesNow() // the operator has started all that it needs
	t.Run("one after the other", func(t *testing.T) {
		for _, tc := range quickFaults {
			t.Run(tc.name, tc.run)
		}
	})
	t.Run("together", func(t *testing.T) {
		for _, tc := range slowFaults {
			t.Run(tc.name, func(t *testing.T) {
				t.Parallel()
				tc.run(t)
			})
		}
	})
	noLeak(t, before)
}

// noLeak waits until the process has no more goroutines and descriptors than before.
// It allows a few more, for the connections to kube-apiserver that the tests share.
func noLeak(t *testing.T, before atmostonce.Resources) {
	t.Helper()
	before.Goroutines += 10
	before.Descriptors += 5
	eventually(t, 20*time.Second, "nothing has leaked", func() (bool, string) {
		now := atmostonce.ResourcesNow()
		if !now.Beyond(before) {
			return true, ""
		}
		var stacks bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		return false, fmt.Sprintf("%+v, want %+v at most:\n%s", now, before, stacks.String()[:min(stacks.Len(), 6000)])
	})
}

func (tc onceTest) run(t *testing.T) {
	s := newScene(t, tc.config...)
	load := atmostonce.Load{
		Ledger: ledgerOn(t, s.server), Clients: everyClient(t, s.fixture, worker(t, s.pool.Namespace)),
		Commands: 200, Parallel: 8, Lines: 40, Pause: tc.pause,
	}
	began := time.Now()
	fault := tc.fault(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	summary, err := load.Run(ctx, fault)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s in %s", summary, time.Since(began).Round(time.Millisecond))
	for reason, n := range summary.Reasons {
		t.Logf("%d times %s", n, reason)
	}
	if err := summary.Err(); err != nil {
		t.Error(err)
	}
	switch {
	case tc.bound == 0 && summary.Failed() > 0:
		t.Errorf("%d commands failed, want none", summary.Failed())
	case tc.bound > 0 && summary.Unknown == 0:
		t.Error("no command met the fault")
	case summary.SlowestUnknown > tc.bound:
		t.Errorf("a command was reported as Unknown %s after the fault, want %s at most", summary.SlowestUnknown, tc.bound)
	}
	if summary.Strikes != fault.Strikes {
		t.Errorf("the fault struck %d times, want %d", summary.Strikes, fault.Strikes)
	}
	leases(t, 10*time.Second, s.fixture, 0)
}
