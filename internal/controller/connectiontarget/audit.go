package connectiontarget

import (
	"slices"
	"sync"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"

	"github.com/connpool/connpool/internal/audit"
	"github.com/connpool/connpool/internal/poolset"
)

// healthCommands writes an audit line when a pool begins to run a health command on a
// target, runs another one, or has none any more. Which user wrote the pool is known to
// kube-apiserver only, whose own audit log says it.
type healthCommands struct {
	mu sync.Mutex
	// byTarget has the commands of a target's pools, by the UIDs of both.
	byTarget map[types.UID]map[string][]string
}

// audit compares what is wanted of a target with what was wanted before.
func (h *healthCommands) audit(log logr.Logger, want *poolset.Target) {
	now := map[string][]string{}
	for _, pool := range want.Pools {
		if command := pool.Policy.ProbeCommand; len(command) > 0 {
			now[pool.UID] = command
		}
	}
	before := h.replace(types.UID(want.UID), now)
	for _, pool := range want.Pools {
		command, last := now[pool.UID], before[pool.UID]
		if !slices.Equal(command, last) {
			log.Info(healthMessage(command, last), "namespace", pool.Namespace, "pool", pool.Name, "target", want.Name,
				"command", audit.Words(command))
		}
	}
}

// replace notes the commands of a target's pools and returns those that it had.
func (h *healthCommands) replace(target types.UID, now map[string][]string) (before map[string][]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byTarget == nil {
		h.byTarget = map[types.UID]map[string][]string{}
	}
	before = h.byTarget[target]
	h.byTarget[target] = now
	return before
}

func healthMessage(command, last []string) string {
	switch {
	case len(last) == 0:
		return "health command begins"
	case len(command) == 0:
		return "health command stops"
	default:
		return "health command changes"
	}
}

// forget drops what is known of a target that is not used any more.
func (h *healthCommands) forget(target types.UID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.byTarget, target)
}
