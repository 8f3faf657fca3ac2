package connectiontarget

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/warming"
)

// desired says in the pools' words what the facts ask for.
func desired(f facts, drivers Drivers) *poolset.Target {
	want := &poolset.Target{
		Ref:    refOf(f.target),
		Type:   string(v1alpha1.TargetTypeSSH),
		Access: access(f.path, drivers),
	}
	for i := range f.pools {
		want.Pools = append(want.Pools, poolset.Pool{
			Ref:    poolset.Ref{UID: string(f.pools[i].UID), Namespace: f.pools[i].Namespace, Name: f.pools[i].Name},
			Policy: policy(&f.pools[i].Spec, f.now),
		})
	}
	return want
}

func refOf(target *v1alpha1.ConnectionTarget) poolset.Ref {
	return poolset.Ref{UID: string(target.UID), Namespace: target.Namespace, Name: target.Name}
}

// access describes how to reach the first station of the path, through the
// others.
func access(path []station, drivers Drivers) poolset.Access {
	here := path[0]
	ssh := here.target.Spec.SSH
	a := poolset.Access{
		Driver: drivers[v1alpha1.TargetTypeSSH],
		Endpoint: driver.Endpoint{
			Address:     addressOf(ssh),
			User:        ssh.User,
			Credentials: here.secret.Data,
			KnownHosts:  here.knownHosts,
		},
		Identity: endpointOf(here.target),
	}
	if len(path) > 1 {
		hop := path[1]
		a.Via = &poolset.Hop{Ref: refOf(hop.target), Access: access(path[1:], drivers)}
		// The same address through another host may be another machine.
		a.Identity += " via " + string(hop.target.UID) + " " + a.Via.Identity
	}
	a.Version = digestOf(a.Endpoint.Credentials)
	a.Trust = digestOf(map[string][]byte{"known_hosts": a.Endpoint.KnownHosts})
	return a
}

// digestOf changes with the data.
func digestOf(data map[string][]byte) string {
	hash := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(data)) {
		fmt.Fprintf(hash, "%q=%q\n", key, data[key])
	}
	return hex.EncodeToString(hash.Sum(nil))
}

func addressOf(ssh *v1alpha1.SSHTarget) string {
	return net.JoinHostPort(ssh.Host, strconv.Itoa(int(or(ssh.Port, 22))))
}

// endpointOf is where the target is reached, for people.
func endpointOf(target *v1alpha1.ConnectionTarget) string {
	switch {
	case target.Spec.SSH != nil:
		return target.Spec.SSH.User + "@" + addressOf(target.Spec.SSH)
	case target.Spec.Docker != nil:
		return target.Spec.Docker.Endpoint
	}
	return ""
}

// nextSchedule is how long the decision holds as far as the pools' schedules
// go; 0 means for good.
func nextSchedule(f facts) time.Duration {
	var first time.Duration
	for i := range f.pools {
		if _, next := warming.Floor(f.now, f.pools[i].Spec.Warming.Schedules); !next.IsZero() {
			first = soonest(first, next.Sub(f.now))
		}
	}
	return first
}

// policy translates a pool's spec. The API server has filled in the defaults;
// those here are the same, for objects that never went through it.
func policy(spec *v1alpha1.ConnectionPoolSpec, now time.Time) poolset.Policy {
	scheduled, _ := warming.Floor(now, spec.Warming.Schedules)
	probeTimeout := seconds(or(spec.Health.TimeoutSeconds, 5))
	return poolset.Policy{
		Limits: connpool.Limits{
			MinWarm:        max(minWarm(spec), scheduled),
			Max:            int(or(spec.Size.Max, 4)),
			LeasesPerConn:  int(or(spec.SessionsPerConnection, 8)),
			MaxPending:     int(or(spec.Acquire.MaxPending, 100)),
			AcquireTimeout: seconds(or(spec.Acquire.TimeoutSeconds, 10)),
			MaxAge:         seconds(or(spec.Lifecycle.MaxAgeSeconds, 3600)),
			MaxIdle:        seconds(or(spec.Lifecycle.MaxIdleSeconds, 300)),
			MaxUses:        int64(or(spec.Lifecycle.MaxUses, 0)),
			DrainTimeout:   seconds(or(spec.Lifecycle.DrainTimeoutSeconds, 300)),
			ProbePeriod:    seconds(or(spec.Health.PeriodSeconds, 60)),
			ProbeTimeout:   probeTimeout,
			ProbeFailures:  int(or(spec.Health.FailureThreshold, 3)),
			Paused:         or(spec.State, v1alpha1.PoolActive) == v1alpha1.PoolPaused,
		},
		KeepaliveInterval: seconds(or(spec.Health.KeepaliveSeconds, 15)),
		KeepaliveTimeout:  probeTimeout,
		FailureThreshold:  int(or(spec.Health.FailureThreshold, 3)),
		SuccessThreshold:  int(or(spec.Health.SuccessThreshold, 2)),
		ProbeCommand:      spec.Health.Command,
		Single:            spec.TargetRef != nil,
		AnyTarget:         or(spec.Routing, v1alpha1.RoutingByName) == v1alpha1.RoutingLeastLoaded,
	}
}

func minWarm(spec *v1alpha1.ConnectionPoolSpec) int { return int(or(spec.Size.MinWarm, 1)) }

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

// or is the value, or the default when there is none.
func or[T any](value *T, otherwise T) T {
	if value == nil {
		return otherwise
	}
	return *value
}
