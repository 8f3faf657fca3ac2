package poolset

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/background"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/reach"
)

// checkTimeout bounds a check in all, the waits for the jump host and for the
// dial budget included.
const checkTimeout = 30 * time.Second

// Check is what a dial beside the pools has found.
type Check struct {
	// Stages that were reached, in their order. All have passed, unless the last
	// one has an Err.
	Stages []CheckStage
	// Info describes the connection; zero if there was none.
	Info driver.Info
}

// CheckStage is one stage of a check.
type CheckStage struct {
	Stage    driver.Stage
	Duration time.Duration
	// Err is why the check ended here; nil if the stage passed.
	Err *driver.Error
	// Found says in plain words what a stage that passed has found. It holds no
	// secret, no control character, and at most 256 bytes.
	Found string
}

// refusedFor is how long credentials that a check found refused are not offered
// again by the next one: servers count such attempts, and ban.
const refusedFor = 5 * time.Second

// check is one that runs, or whose result is remembered. Callers who ask for it
// meanwhile share it.
type check struct {
	version *reach.Version
	done    chan struct{}
	result  Check
	// until is how long the result is remembered; zero while the check runs.
	until time.Time
}

// checks are the checks that run or are remembered.
type checks struct {
	applier *applier
	// background is their own, because the set cuts checks before other work.
	background *background.Work

	mu       sync.Mutex
	byTarget map[string]*check // by UID
}

// start joins the check of a target that runs or is remembered, or starts one. It
// returns nil if there is nothing to dial.
func (s *checks) start(uid string) *check {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.byTarget, func(of string, c *check) bool {
		return !c.until.IsZero() && (!time.Now().Before(c.until) || c.version != s.applier.versionInUse(of))
	})
	if shared := s.byTarget[uid]; shared != nil {
		return shared
	}
	version := s.applier.versionInUse(uid)
	if version == nil {
		return nil
	}
	c := &check{version: version, done: make(chan struct{})}
	if !s.background.Go(func(ctx context.Context) { s.run(ctx, uid, c) }) {
		return nil
	}
	s.byTarget[uid] = c
	return c
}

// run runs a check to its end.
func (s *checks) run(ctx context.Context, uid string, c *check) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	defer close(c.done)
	r := &checkRecord{begun: time.Now()}
	watch := func(dial driver.DialFunc) driver.DialFunc { return r.watch(dial, c.version.JumpHost()) }
	conn, err := c.version.DialAside(ctx, watch, r.pass, !s.applier.isPooled(uid))
	if err != nil {
		failure := failureOfCheck(ctx, err)
		r.add(CheckStage{Stage: cmp.Or(failure.Stage, driver.StageConnect), Err: failure})
		s.end(uid, c, Check{Stages: r.stages}, failure.Reason == driver.AuthenticationFailed)
		return
	}
	info := conn.Info()
	_ = conn.Close()
	s.applier.proven(uid, c.version)
	s.end(uid, c, Check{Stages: r.stages, Info: info}, false)
}

// end takes the result of a check, and forgets the check unless the credentials were
// refused.
func (s *checks) end(uid string, c *check, result Check, refused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.result = result
	if refused {
		c.until = time.Now().Add(refusedFor)
		return
	}
	delete(s.byTarget, uid)
}

// failureOfCheck classifies why a check failed.
func failureOfCheck(ctx context.Context, err error) *driver.Error {
	failure := *driver.AsError(err)
	switch ctx.Err() {
	case context.DeadlineExceeded:
		failure.Reason = driver.Timeout
		failure.Message = fmt.Sprintf("the check did not end within %s; look for what is slow, and try again", checkTimeout)
	case context.Canceled:
		failure.Reason = driver.Timeout
		failure.Message = "the operator is shutting down; try again"
	}
	return &failure
}

// checkRecord collects what a check finds.
type checkRecord struct {
	mu     sync.Mutex
	begun  time.Time // the current stage
	stages []CheckStage
}

// pass ends a stage that passed.
func (r *checkRecord) pass(stage driver.Stage, found string) {
	r.add(CheckStage{Stage: stage, Found: driver.Sanitize(found)})
}

// add takes a result; the newest of a stage counts.
func (r *checkRecord) add(result CheckStage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	result.Duration = now.Sub(r.begun)
	r.begun = now
	if last := len(r.stages) - 1; last >= 0 && r.stages[last].Stage == result.Stage {
		result.Duration += r.stages[last].Duration
		r.stages = r.stages[:last]
	}
	r.stages = append(r.stages, result)
}

// restart begins the next stage now: what came before was waiting.
func (r *checkRecord) restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = time.Now()
}

// watch has a dial, whose stream is opened by the function, tell the record how it
// goes.
func (r *checkRecord) watch(dial driver.DialFunc, through *JumpHost) driver.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		r.restart()
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{DNSDone: r.resolved})
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		found := "connected to " + conn.RemoteAddr().String()
		if through != nil {
			found = fmt.Sprintf("connected to %s through the jump host %s", address, through.Name)
		}
		r.pass(driver.StageConnect, found)
		return conn, nil
	}
}

// resolved records the addresses of a name. The net package calls it for names
// only, and not for names that the jump host resolves.
func (r *checkRecord) resolved(answer httptrace.DNSDoneInfo) {
	if answer.Err != nil {
		return // the dial says so
	}
	var addresses []string
	for _, address := range answer.Addrs {
		addresses = append(addresses, address.String())
	}
	r.pass(driver.StageResolve, strings.Join(addresses, ", "))
}
