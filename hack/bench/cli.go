package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/connpool/connpool/test/netfault"
)

const plugin = "connpool exec"

// measureCLI compares `connpool exec` with ssh, whole processes, with the host
// next to the operator and 50 ms away from it.
func measureCLI(ctx context.Context, s settings) ([]row, error) {
	bed, err := newTestbed(ctx)
	if err != nil {
		return nil, err
	}
	defer bed.close()
	near, err := bed.cli(ctx, s, bed.server.Addr, "")
	if err != nil {
		return nil, err
	}
	proxy, err := netfault.Start(bed.server.Addr, netfault.Options{RoundTrip: 50 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	defer proxy.Close()
	far, err := bed.cli(ctx, s, proxy.Addr, ", 50 ms away")
	return slices.Concat(near, far), err
}

func (b *testbed) cli(ctx context.Context, s settings, address, where string) ([]row, error) {
	program, err := buildProgram(ctx, "kubectl-connpool")
	if err != nil {
		return nil, err
	}
	r, err := b.reach(ctx, address)
	if err != nil {
		return nil, err
	}
	defer r.close()
	c, err := startCluster(ctx, s.say)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	if _, err := c.open(ctx, endpoint{r.address, r.server.User, r.server.PrivateKey, r.server.HostKey}, 1); err != nil {
		return nil, err
	}
	kubeconfig := filepath.Join(c.plane.Dir, "admin.kubeconfig")
	text, err := c.plane.Kubeconfig()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(kubeconfig, text, 0o600); err != nil {
		return nil, err
	}
	s.say("race connpool exec and ssh%s", where)
	ours := contender{plugin, func(ctx context.Context) error {
		return exec.CommandContext(ctx, program, "--kubeconfig="+kubeconfig, "exec", livePool, "--", "true").Run()
	}, 1}
	took, err := race(ctx, of(s, 30*time.Second, 2*time.Second), ours, r.library(), r.controlMaster(), r.fresh())
	if err != nil {
		return nil, err
	}
	beside := func(other string) row {
		return compared(plugin+where+", p50", median(took[plugin]), "ms", other, median(took[other]))
	}
	goal := 1.0
	if where != "" {
		goal = 0.6
	}
	rows := []row{beside(fresh), beside(controlMaster).ratioAtMost(goal)}
	if where != "" {
		return rows, nil
	}
	return append(rows, figure(fmt.Sprintf("%s, p50: more than %s", plugin, library),
		median(took[plugin])-median(took[library]), "ms").atMost(30)), nil
}
