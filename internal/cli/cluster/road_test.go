package cluster

import (
	"context"
	"encoding/base64"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/login"
	"github.com/connpool/connpool/internal/cli/road"
	"github.com/connpool/connpool/test/directway"
)

// reachable is a cluster whose operator can be reached directly.
func reachable(t *testing.T, log io.Writer) (*Cluster, *directway.Fixture) {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv(directVariable, "")
	f := directway.Start(t)
	c := New("connpool", "", log)
	c.Dial = f.Dial
	c.kubeconfig = kubeconfig(t, "server: "+f.Kube.URL+", certificate-authority-data: "+base64.StdEncoding.EncodeToString(f.KubeAuthority()))
	return c, f
}

func TestTheFlagOrElseTheEnvironmentChoosesTheWay(t *testing.T) {
	tests := map[string]struct {
		flag     road.Mode
		variable string
		isDirect bool
	}{
		"neither of them":               {"", "", true},
		"the environment":               {"", "never", false},
		"the flag":                      {road.Never, "", false},
		"the flag, and the environment": {road.Always, "never", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c, _ := reachable(t, io.Discard)
			c.Direct = test.flag
			t.Setenv(directVariable, test.variable)
			way, err := c.Road(t.Context(), false)
			if err != nil || way.IsDirect != test.isDirect {
				t.Errorf("direct: %t, %v", way.IsDirect, err)
			}
		})
	}
	c, _ := reachable(t, io.Discard)
	t.Setenv(directVariable, "sometimes")
	if _, err := c.Live(t.Context()); err == nil || !strings.Contains(err.Error(), directVariable) {
		t.Errorf("error %v", err)
	}
}

func TestACommandOpensOneConnectionToTheOperator(t *testing.T) {
	c, f := reachable(t, io.Discard)
	if _, err := c.Live(t.Context()); err != nil { // it finds the operator
		t.Fatal(err)
	}
	var dials atomic.Int64
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return f.Dial(ctx, network, address)
	}
	live, err := c.Live(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.Requests()
	_, err = live.Pool("shop", "web").Stream(t.Context(), client.Command{Argv: []string{"true"}}, client.Streams{})
	if requests := f.Requests(); err == nil || len(requests) != 1 || dials.Load() != 1 {
		t.Errorf("%v, %d connections, requests %v", err, dials.Load(), requests)
	}
}

func TestAWrongDurationForTokensIsSaidBeforeAnythingIsSent(t *testing.T) {
	c, f := reachable(t, io.Discard)
	t.Setenv(login.Variable, "forever")
	_, err := c.Live(t.Context())
	if err == nil || !strings.Contains(err.Error(), login.Variable) || len(f.Requests()) > 0 {
		t.Errorf("error %v", err)
	}
}

func TestTheLogSaysWhichWayRequestsGo(t *testing.T) {
	var log strings.Builder
	c, f := reachable(t, &log)
	c.Verbosity = 6
	for _, want := range []string{"straight to the operator at https://" + directway.ServiceName, "through kube-apiserver: "} {
		if _, err := c.Road(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(log.String(), "requests to the live API go "+want) {
			t.Errorf("it lacks %q:\n%s", want, log.String())
		}
		f.Refused = true
	}
}

func TestWhatIsMissingForADirectWayIsSaid(t *testing.T) {
	tests := map[string]struct {
		change func(*Cluster, *directway.Fixture)
		hint   string
	}{
		"a right": {
			func(_ *Cluster, f *directway.Fixture) { f.Forbidden = true },
			`resources: ["apiservices"]` + "\n" + `  resourceNames: ["v1alpha1.live.connpool.dev"]` + "\n  verbs: [get]",
		},
		"credentials that the operator takes": {
			func(_ *Cluster, f *directway.Fixture) { f.Unauthorized = true }, "The operator takes tokens",
		},
		"a network":      {func(_ *Cluster, f *directway.Fixture) { f.Refused = true }, "by pods of the cluster"},
		"the user's own": {func(c *Cluster, _ *directway.Fixture) { c.overrides.AuthInfo.Impersonate = "bob" }, "--direct=auto"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c, f := reachable(t, io.Discard)
			c.Direct = road.Always
			test.change(c, f)
			_, err := c.Live(t.Context())
			if hint := exit.HintOf(err); err == nil || !strings.Contains(hint, test.hint) {
				t.Errorf("error %v, hint %q", err, hint)
			}
			c.Direct = road.Auto
			if _, err := c.Live(t.Context()); err != nil {
				t.Errorf("with auto: %v", err)
			}
		})
	}
}
