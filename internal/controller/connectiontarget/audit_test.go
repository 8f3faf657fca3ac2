package connectiontarget

import (
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/internal/poolset"
)

func TestAHealthCommandIsAuditedWhenItBeginsAndWhenItChanges(t *testing.T) {
	target := func(command ...string) *poolset.Target {
		return &poolset.Target{
			Ref: poolset.Ref{UID: "1", Namespace: "team", Name: "web-1"},
			Pools: []poolset.Pool{
				{Ref: poolset.Ref{UID: "2", Namespace: "team", Name: "web"}, Policy: poolset.Policy{ProbeCommand: command}},
				{Ref: poolset.Ref{UID: "3", Namespace: "team", Name: "other"}},
			},
		}
	}
	gone := func() *poolset.Target {
		without := target()
		without.Pools = without.Pools[1:]
		return without
	}
	const about = `"namespace"="team" "pool"="web" "target"="web-1" "command"=`
	var commands healthCommands
	for i, step := range []struct {
		act  func(*healthCommands) *poolset.Target
		want string
	}{
		{func(*healthCommands) *poolset.Target { return target() }, ""},
		{func(*healthCommands) *poolset.Target { return target("sh", "-c", "id\x1b") }, `"health command begins" ` + about + `["sh" "-c" "id\x1b"]`},
		{func(*healthCommands) *poolset.Target { return target("sh", "-c", "id\x1b") }, ""},
		{func(*healthCommands) *poolset.Target { return target("id") }, `"health command changes" ` + about + `["id"]`},
		{func(*healthCommands) *poolset.Target { return target() }, `"health command stops" ` + about + `[]`},
		{func(*healthCommands) *poolset.Target { return target("id") }, `"health command begins" ` + about + `["id"]`},
		{func(*healthCommands) *poolset.Target { return gone() }, ""},
		{func(*healthCommands) *poolset.Target { return target("id") }, `"health command begins" ` + about + `["id"]`},
		{func(h *healthCommands) *poolset.Target { h.forget("1"); return target("id") }, `"health command begins" ` + about + `["id"]`},
	} {
		var lines []string
		log := funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})
		commands.audit(log, step.act(&commands))
		got := strings.TrimPrefix(strings.Join(lines, "\n"), `"level"=0 "msg"=`)
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("step %d: (-want +got)\n%s", i, diff)
		}
	}
}
