package poolset

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/driver"
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

// check is one that runs, or whose result still holds. Whoever asks for it
// meanwhile shares it.
type check struct {
	edition *edition
	done    chan struct{}
	cancel  context.CancelFunc
	result  Check
	// until is when a result that held stops to; zero while the check runs.
	until time.Time
}

// holds reports whether who asks now shares the check.
func (c *check) holds(e *edition, now time.Time) bool {
	return c.until.IsZero() || c.edition == e && now.Before(c.until)
}

// refused reports a check that ended because the credentials were refused.
func (c Check) refused() bool {
	last := len(c.Stages) - 1
	return last >= 0 && c.Stages[last].Err != nil && c.Stages[last].Err.Reason == driver.AuthenticationFailed
}

// Check dials a target once, as it was ensured last, and reports stage by stage.
// It goes beside the pools, whatever their state and even if they have given up
// for now, but obeys the address policy and the dial budget, and closes what it
// made. Success lets the target's pools, and those behind it if it is a jump
// host, dial at once; failure changes nothing for them.
//
// One check of a target runs at a time, so that a wrong key is offered once: who
// asks meanwhile, or within 5 s after a refusal that nothing has changed since,
// gets its result. It runs to its end, within 30 s, even if
// nobody waits any more. The error is ErrUnknownTarget if nobody uses a target of
// that UID, or that of ctx.
func (s *Set) Check(ctx context.Context, target string) (Check, error) {
	c := s.startCheck(target) //nolint:contextcheck // others may wait for it after this caller has left
	if c == nil {
		return Check{}, ErrUnknownTarget
	}
	select {
	case <-c.done:
		return c.result, nil
	case <-ctx.Done():
		return Check{}, context.Cause(ctx)
	}
}

// startCheck joins the check that runs or still holds, or starts one; nil if
// there is nothing to dial.
func (s *Set) startCheck(uid string) *check {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, e := time.Now(), s.editionInUse(uid)
	maps.DeleteFunc(s.checks, func(of string, c *check) bool { return !c.holds(s.editionInUse(of), now) })
	if shared := s.checks[uid]; shared != nil {
		return shared
	}
	if e == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, checkTimeout)
	c := &check{edition: e, done: make(chan struct{}), cancel: cancel}
	s.checks[uid] = c
	s.drains.Go(func() {
		defer cancel()
		c.result = s.check(ctx, uid, e)
		s.endCheck(uid, c)
		close(c.done)
	})
	return c
}

// endCheck forgets a check, unless its result holds on.
func (s *Set) endCheck(uid string, c *check) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.result.refused() {
		c.until = time.Now().Add(refusedFor)
		return
	}
	delete(s.checks, uid)
}

// editionInUse is how a target, or a jump host, is dialed now; nil if it is not.
// The caller holds mu.
func (s *Set) editionInUse(uid string) *edition {
	if t := s.targets[uid]; t != nil {
		return t.edition
	}
	if h := s.hops[uid]; h != nil {
		return h.edition
	}
	return nil
}

func (s *Set) check(ctx context.Context, uid string, e *edition) Check {
	r := &checkRecord{begun: time.Now()}
	conn, err := s.dialCheck(ctx, e, r)
	if err != nil {
		r.fail(failureOfCheck(ctx, err))
		return Check{Stages: r.stages}
	}
	info := conn.Info()
	_ = conn.Close()
	s.provenByCheck(uid, e)
	return Check{Stages: r.stages, Info: info}
}

// dialCheck is a dial of the edition beside its gate, told to the record.
func (s *Set) dialCheck(ctx context.Context, e *edition, r *checkRecord) (driver.Conn, error) {
	endpoint := e.access.Endpoint
	endpoint.Dial = r.watch(s.transport(e.access.Via), e.access.Via)
	endpoint.Trace = r.pass
	dialer, err := e.access.Driver.Prepare(endpoint)
	if err != nil {
		return nil, err
	}
	r.pass(driver.StagePrepare, "the credentials and the pinned identity can be used")
	if err := s.warmHop(ctx, e.access.Via); err != nil {
		return nil, err
	}
	done, err := s.budget.Admit(ctx, e.host(), e.bastion())
	if err != nil {
		return nil, &driver.Error{
			Reason: driver.Timeout, Stage: driver.StageConnect, Err: err,
			Message: "too many other connections are being made just now; try again",
		}
	}
	made, err := dialInPlace(ctx, dialer)
	if err != nil {
		done(context.Canceled) // which tells the pools nothing
		return nil, err
	}
	done(nil)
	s.pauses.learn(e.server(), nil)
	return made, nil
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

// provenByCheck lets everybody dial who was kept from it by failures of the
// edition that was proven just now.
func (s *Set) provenByCheck(uid string, e *edition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.targets[uid]; t != nil && t.edition == e {
		e.gate.forgive()
		for _, m := range t.members {
			m.pool.Retry()
		}
	}
	if h := s.hops[uid]; h != nil && h.edition == e {
		e.gate.forgive()
		h.pool.Retry()
		s.retryBehind(uid)
	}
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

// fail ends the stage in which the check ended.
func (r *checkRecord) fail(err *driver.Error) {
	stage := err.Stage
	if stage == "" {
		stage = driver.StageConnect
	}
	r.add(CheckStage{Stage: stage, Err: err})
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

// watch has a transport tell the record how it resolves and connects.
func (r *checkRecord) watch(dial driver.DialFunc, via *Hop) driver.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		r.restart()
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{DNSDone: r.resolved})
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if via != nil {
			r.pass(driver.StageConnect, fmt.Sprintf("connected to %s through the jump target %s", address, via.Name))
			return conn, nil
		}
		r.pass(driver.StageConnect, "connected to "+conn.RemoteAddr().String())
		return conn, nil
	}
}

// resolved takes note of what a name stands for. The net package calls it for
// names only, and not for those that the jump host resolves.
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
