package kube

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/inventory"
)

func TestPodsAreListedAsTheClusterHasThem(t *testing.T) {
	conn := mustDial(t, Options{}, admin(t))
	for name, test := range map[string]struct {
		query inventory.Query
		want  []string
		more  bool
	}{
		"those that run":            {inventory.Query{}, []string{"annotated", "large", "misled", "two", "web"}, false},
		"others, too":               {inventory.Query{All: true}, []string{"annotated", "large", "misled", "pending", "two", "web"}, false},
		"the first ones":            {inventory.Query{Limit: 2}, []string{"annotated", "large"}, true},
		"as many as there are":      {inventory.Query{Limit: 5}, []string{"annotated", "large", "misled", "two", "web"}, false},
		"those with a label":        {inventory.Query{Selector: "none=such"}, []string{}, false},
		"those of a namespace":      {inventory.Query{Namespace: "nowhere"}, []string{}, false},
		"those of all namespaces":   {inventory.Query{AllNamespaces: true, Limit: 1}, []string{"annotated"}, true},
		"as many as fit into bytes": {inventory.Query{MaxBytes: 70}, []string{"annotated", "large"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := conn.List(t.Context(), test.query)
			if err != nil || !slices.Equal(found.Names(), test.want) || found.More != test.more {
				t.Errorf("found %+v, error %v", found, err)
			}
		})
	}
	found, err := conn.List(t.Context(), inventory.Query{})
	if err != nil {
		t.Fatal(err)
	}
	two := found.Pods[3]
	if age := time.Since(two.Created); age < 0 || age > time.Hour {
		t.Errorf("it is %s old", age)
	}
	two.Created = time.Time{}
	want := inventory.Pod{
		Namespace: "default", Name: "two", Phase: "Running", Node: nodeName, Containers: []string{"app", "log"}, Total: 2,
	}
	if diff := cmp.Diff(want, two); diff != "" {
		t.Error(diff)
	}
}

func TestAUserWhoMayListNoPodsIsToldSo(t *testing.T) {
	conn := mustDial(t, Options{}, userWith(t, "blind", rbacv1.PolicyRule{
		APIGroups: []string{""}, Resources: []string{"pods/exec"}, Verbs: []string{"create", "get"},
	}))
	eventually(t, func() bool { _, err := say(t, conn, "x"); return err == nil })
	_, err := conn.List(t.Context(), inventory.Query{})
	if got := wantError(t, err, driver.Forbidden, driver.StageRun); got.Started || !strings.Contains(got.Message, "list on pods") {
		t.Errorf("message %q", got.Message)
	}
	_, err = output(t, conn, driver.Command{Place: driver.Place{Pod: "absent"}, Argv: []string{"true"}})
	if got := wantError(t, err, driver.NotFound, driver.StageStart); !strings.HasSuffix(got.Message, "of the cluster; correct the name") {
		t.Errorf("message %q", got.Message)
	}
	_, err = output(t, conn, driver.Command{Place: driver.Place{Pod: "two"}, Argv: []string{"true"}})
	if got := wantError(t, err, driver.NotFound, driver.StageStart); !strings.Contains(got.Message, "[app log]") {
		t.Errorf("message %q", got.Message)
	}
}

func TestContainersOfAPodAreThoseThatCommandsCanRunIn(t *testing.T) {
	p := new(pod)
	p.Spec.Containers = []named{{"app"}}
	p.Spec.InitContainers = []initNamed{{Name: "setup"}, {Name: "mesh", RestartPolicy: "Always"}}
	p.Spec.EphemeralContainers = []named{{"debugger"}}
	p.Metadata.DeletionTimestamp = "2026-01-01T00:00:00Z"
	got := p.found()
	if diff := cmp.Diff([]string{"app", "mesh", "debugger"}, got.Containers); diff != "" {
		t.Error(diff)
	}
	if got.Phase != "Terminating" || got.Total != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestAClusterThatListsNoPodsSaysWhy(t *testing.T) {
	g, endpoint := startGateway(t)
	conn := mustDial(t, Options{StageTimeout: time.Second}, endpoint)
	says := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	for name, test := range map[string]struct {
		fault  http.HandlerFunc
		reason driver.Reason
	}{
		"it throttles":           {refuseAll(http.StatusTooManyRequests, nil), driver.ThrottledByServer},
		"it is not ready":        {refuseAll(http.StatusServiceUnavailable, nil), driver.Unreachable},
		"it is no API":           {says("<html>"), driver.ProtocolError},
		"it has no items":        {says(`{"kind":"Status"}`), driver.ProtocolError},
		"it has pods of letters": {says(`{"items":["a"]}`), driver.ProtocolError},
		"it breaks off":          {says(`{"items":[{"metadata":{"name":"a"}}`), driver.ProtocolError},
		"it is silent":           {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, driver.Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			g.set(test.fault)
			defer g.set(nil)
			_, err := conn.List(t.Context(), inventory.Query{})
			if got := wantError(t, err, test.reason, driver.StageRun); got.Started {
				t.Errorf("message %q", got.Message)
			}
		})
	}
	g.set(nil)
	if _, err := conn.List(t.Context(), inventory.Query{}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestAHostileListOfPodsCostsLittleMemoryAndTime(t *testing.T) {
	for name, text := range map[string][2]string{
		"pods without an end":       {`{"items":[{}`, `,{"metadata":{"name":"a"}}`},
		"a name without an end":     {`{"items":[{"metadata":{"name":"`, "aaaaaaaa"},
		"metadata without an end":   {`{"metadata":{"continue":"`, "aaaaaaaa"},
		"members without an end":    {`{`, `"a":{},`},
		"containers without an end": {`{"items":[{"spec":{"containers":[{}`, `,{"name":"a"}`},
		"an error without an end":   {`<html>`, "aaaaaaaa"},
	} {
		t.Run(name, func(t *testing.T) {
			server := hostile{stream: func(f *http2.Framer, stream uint32) error {
				_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: headersOf(ok200), EndHeaders: true})
				_ = f.WriteData(stream, false, []byte(text[0]))
				chunk := []byte(strings.Repeat(text[1], 16<<10/len(text[1])))
				return endlessly(func() error { return f.WriteData(stream, false, chunk) })
			}}
			endpoint := server.start(t)
			// The ready check of a dial is answered on a socket of its own, so the first stream is the list.
			conn, err := dialWith(t.Context(), Options{StageTimeout: time.Second}, endpoint)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			begin := time.Now()
			cost := peak(func() {
				found, err := conn.(inventory.Lister).List(ctx, inventory.Query{Limit: 500, MaxBytes: 512 << 10})
				if err == nil && !found.More {
					t.Error("it has an end")
				}
			})
			t.Logf("%d KiB, %s", cost>>10, time.Since(begin).Round(time.Millisecond))
			if cost > 16<<20 || time.Since(begin) > 10*time.Second {
				t.Errorf("%d MiB and %s", cost>>20, time.Since(begin))
			}
		})
	}
}
