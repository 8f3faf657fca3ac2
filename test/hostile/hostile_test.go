package hostile

import (
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// attack is one hostile thing that a tenant, a server or a client does.
type attack struct {
	name, input string
	// run does it, and returns when it has been done.
	run func(t *testing.T, attacker tenant)
}

// slow is a latency that no attack may cause at the 99th percentile, whatever else the
// machine does.
const slow = 5 * time.Second

// row is what came of one attack.
type row struct {
	attack
	before, peak int64
	computed     time.Duration // by the operator
	p99          time.Duration
	commands     int
	failures     []error
	died         error // why the operator has ended
}

func TestNoTenantServerOrClientHurtsTheOthers(t *testing.T) {
	env.innocent = newNeighbor(t)
	stop := env.innocent.watch()
	meanwhile(t)
	took, failures := stop()
	if len(failures) > 0 {
		t.Fatalf("the neighbor cannot run commands: %v", failures[0])
	}
	calm := percentile(took, 99)
	var rows []row
	for i, a := range attacks() {
		t.Run(a.name, func(t *testing.T) {
			attacker := newTenant(t, fmt.Sprintf("attacker-%d", i))
			r := row{attack: a}
			defer func() { rows = append(rows, r) }()
			defer r.judge(t)
			r.measure(t, attacker)
		})
	}
	t.Logf("limit %d MiB; the neighbor's p99 is %s when nothing else happens\n%s", env.limit/mebi, calm, table(rows, calm))
}

func attacks() []attack {
	var all []attack
	for _, some := range [][]attack{byTenants(), byClients(), byClusters(), byEngines(), byServers()} {
		all = append(all, some...)
	}
	return all
}

// measure lets the attack happen beside the neighbor's commands.
func (r *row) measure(t *testing.T, attacker tenant) {
	t.Helper()
	forgetPeak(t)
	r.before, _ = resident(t)
	computed := processorTime()
	stop := env.innocent.watch()
	defer func() {
		r.computed = max(0, processorTime()-computed)
		took, failures := stop()
		r.p99, r.commands, r.failures = percentile(took, 99), len(took), failures
		_, r.peak = resident(t)
		attacker.leave(t)
		r.died = env.revive(t)
	}()
	r.run(t, attacker)
}

func (r *row) judge(t *testing.T) {
	t.Helper()
	if r.died != nil {
		t.Errorf("the operator has died: %v", r.died)
	}
	if len(r.failures) > 0 {
		t.Errorf("%d of the neighbor's %d commands failed: %v", len(r.failures), r.commands, r.failures[0])
	}
	if r.p99 > slow {
		t.Errorf("the neighbor's commands took %s at p99", r.p99)
	}
}

func table(rows []row, calm time.Duration) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ATTACK\tINPUT\tMIB BEFORE\tAT MOST\tCPU\tNEIGHBOR'S P99\tFAILED")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%.1f s\t%.1f ms, %.1fx\t%d of %d\n", r.name, r.input, r.before/mebi, r.peak/mebi, r.computed.Seconds(),
			float64(r.p99.Microseconds())/1000, float64(r.p99)/float64(calm), len(r.failures), r.commands)
	}
	_ = w.Flush()
	return text.String()
}
