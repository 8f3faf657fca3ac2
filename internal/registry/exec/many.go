package exec

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/fanout"
	"github.com/connpool/connpool/internal/registry/idempotency"
	"github.com/connpool/connpool/internal/registry/output"
	"github.com/connpool/connpool/internal/registry/quota"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/use"
	"github.com/connpool/connpool/internal/stream"
)

const (
	// tracedTargets is how many targets of a request have spans of their own, so that one
	// trace stays readable.
	tracedTargets = 100
	// patience is how long a client may take for the rest of its answer once the command
	// must end: nothing waits longer for a client that does not read.
	patience = 5 * time.Second
)

// many is a command on many targets.
type many struct {
	*request

	spec *live.ExecSpec
	key  idempotency.Key
	once *once
	// client ends when the client leaves, and watched also when the user loses the permission.
	client, watched context.Context //nolint:containedctx // each target is run within both
	// members are the targets of the pool.
	members map[string]struct{}
	answer  *fanout.Answer
	traced  atomic.Int32
}

// postMany runs the command on many targets and answers with lines. An error means that
// nothing was started.
func (r *request) postMany(w http.ResponseWriter, req *http.Request, spec *live.ExecSpec, out *output.Output) error {
	began := time.Now()
	names, members, err := r.choose(req.Context(), spec.Targets)
	if err != nil {
		return err
	}
	once, err := r.once(req.Context(), spec)
	if err != nil {
		return err
	}
	key, err := r.key(req.Context(), r.use.RequestID)
	if err != nil {
		return err
	}
	plan := live.ExecPlan{
		TypeMeta: fanout.LineOf("ExecPlan"), Targets: names, RequestID: r.use.RequestID,
		Parallelism: cmp.Or(spec.Targets.Parallelism, live.DefaultParallelism),
	}
	first := r.commands.encode(&plan)
	if full := out.Cover(len(first)); full != quota.Free {
		return refusal.NotStarted(refusal.TooManyRequests, "", fmt.Sprintf(
			"the operator holds too much output of other commands of %s; try again later", full))
	}
	m := &many{request: r, spec: spec, key: key, once: once, members: members}
	release, err := m.claim()
	if err != nil {
		return err
	}
	var summary live.ExecSummary
	defer func() { release(summary.NotStarted < int32(len(names))) }() // also after a panic
	m.announce(len(names), &plan)
	summary = m.serveLines(w, req, &plan, first)
	r.use.Audit("fan-out ended", "targets", len(names), "completed", summary.Completed, "notStarted", summary.NotStarted,
		"unknown", summary.Unknown, "exitCodes", summary.ExitCodes, "duration", time.Since(began))
	return nil
}

// choose returns the names of the targets that a request chooses, and of all that the pool has.
func (r *request) choose(ctx context.Context, targets *live.ExecTargets) (names []string, members map[string]struct{}, err error) {
	all, err := r.use.Members(ctx)
	if err != nil {
		return nil, nil, err
	}
	names, err = fanout.Names(targets, all)
	if err != nil {
		return nil, nil, refusal.New(refusal.BadRequest, "spec.targets.selector: "+driver.Sanitize(err.Error()))
	}
	members = make(map[string]struct{}, len(all))
	for i := range all {
		members[all[i].Name] = struct{}{}
	}
	return names, members, nil
}

// claim keeps other commands from the request ID of the whole.
func (m *many) claim() (release func(started bool), err error) {
	if m.once == nil {
		return func(bool) {}, nil
	}
	return m.commands.results.Claim(m.once.key, m.once.digest)
}

func (m *many) announce(targets int, plan *live.ExecPlan) {
	m.use.Span.SetInt("connpool.targets", targets)
	m.use.Audit("fan-out started", "targets", targets, "parallelism", plan.Parallelism, "failFast", m.spec.Targets.FailFast)
}

// serveLines runs the command on the targets of a plan, and sends all lines.
func (m *many) serveLines(w http.ResponseWriter, req *http.Request, plan *live.ExecPlan, first []byte) live.ExecSummary {
	began := time.Now()
	client, cut := context.WithCancelCause(req.Context())
	defer cut(context.Canceled)
	wanted, end := context.WithCancelCause(client)
	defer m.commands.running.Begin(m.key, func() { end(use.ErrStopped) })()
	watched, stop := m.use.Watch(wanted)
	defer stop()
	m.client, m.watched = client, watched
	w.Header().Set("Connpool-Request-Id", m.use.RequestID)
	w.Header().Set("Connpool-Targets", strconv.Itoa(len(plan.Targets)))
	delivery := m.use.Gate.Deliveries.Begin(m.use.Owner(), func() { cut(stream.ErrUnread) })
	defer delivery.Close()
	m.answer = fanout.NewAnswer(w, delivery)
	defer m.answer.Close()
	defer context.AfterFunc(watched, m.hurry)()
	_ = m.answer.Send(first) // what is wrong with it is wrong with all lines
	part := fanout.Part{
		Targets: plan.Targets, Parallelism: int(plan.Parallelism), FailFast: m.spec.Targets.FailFast,
		More: func() (end func(), ok bool) { return m.use.Gate.BeginSpare(m.use.Owner(), m.use.PoolName.Name) },
		Run:  func(target string) bool { return m.on(target, cut) }, Skip: m.skip,
	}
	part.Do(watched, func() { cut(context.Canceled) })
	summary := m.answer.Summary()
	summary.TypeMeta, summary.RequestID = fanout.LineOf("ExecSummary"), m.use.RequestID
	summary.DurationMicroseconds = time.Since(began).Microseconds()
	_ = m.answer.Send(m.commands.encode(&summary))
	return summary
}

// hurry bounds how long a client may take for the rest of its answer.
func (m *many) hurry() {
	if errors.Is(context.Cause(m.watched), stream.ErrUnread) {
		m.answer.Within(0) // the memory in which the answer waits is needed now
		return
	}
	m.answer.Within(patience)
}

// on runs the command on a target, sends the result, and reports whether it succeeded. A
// client that does not get it has left.
func (m *many) on(target string, cut context.CancelCauseFunc) (succeeded bool) {
	part := m.use.Part(m.watched, target, m.traced.Add(1) <= tracedTargets)
	defer part.End()
	out := output.New(m.commands.memory.Output, part.Owner(), int(cmp.Or(m.spec.Targets.OutputBytes, live.DefaultTargetOutputBytes)))
	defer out.Release()
	status, repeated := m.executeOn(part, target, out)
	if repeated {
		status = bounded(status, out)
	}
	if err := m.send(target, status, out); err != nil {
		cut(fmt.Errorf("send a result: %w", err))
	}
	return status.ExitCode != nil && *status.ExitCode == 0
}

// executeOn runs the command on a target, unless that has run under its request ID.
func (m *many) executeOn(part *use.Use, target string, out *output.Output) (status *live.ExecStatus, repeated bool) {
	if _, has := m.members[target]; !has {
		err := part.NotInPool(target)
		part.AuditRefused(err)
		return refused(err, part.RequestID), false
	}
	command := specCommand(m.spec)
	command.Target = target
	r := &request{commands: m.commands, use: part, backend: m.backend.Part(part)}
	status, repeated, err := r.executeOnce(m.client, m.once.on(target), &command, m.spec, out)
	if err != nil {
		part.AuditRefused(err)
		return refused(err, part.RequestID), false
	}
	return status, repeated
}

// on returns what keeps the command from running twice on a target.
func (o *once) on(target string) *once {
	if o == nil {
		return nil
	}
	part := *o
	part.key.Scope += "/" + target
	return &part
}

// send sends the result of a target, which counts until the client has it.
func (m *many) send(target string, status *live.ExecStatus, out *output.Output) error {
	named := *status
	named.Target = target
	line := m.commands.encode(&live.ExecResult{TypeMeta: fanout.LineOf("ExecResult"), Target: target, Status: named})
	out.Cover(len(line)) // it is made, and is sent even if it is one too many
	return m.answer.Result(status, line)
}

// skip sends the result of a target on which the command has not begun.
func (m *many) skip(target string, because error) {
	status := &live.ExecStatus{Outcome: live.OutcomeNotStarted, Target: target, RequestID: m.use.RequestID}
	switch reason, message := use.Why(m.watched, because); {
	case errors.Is(because, fanout.ErrFailFast):
		status.Reason, status.Message = live.ReasonFailFast, "the command has failed on another target, and failFast is set"
	default:
		status.Reason, status.Message = reason, "the command had not begun: "+message
	}
	out := output.New(m.commands.memory.Output, m.use.Owner(), 0)
	defer out.Release()
	_ = m.send(target, status, out)
}

// refused returns the result on a target of a command that was refused there.
func refused(err error, requestID string) *live.ExecStatus {
	return &live.ExecStatus{
		Outcome: live.OutcomeNotStarted, Reason: use.ReasonOf(err), Message: driver.Sanitize(err.Error()), RequestID: requestID,
	}
}

// bounded returns a result that was remembered, without its output if the memory for that
// is full.
func bounded(status *live.ExecStatus, out *output.Output) *live.ExecStatus {
	size := len(status.Stdout) + len(status.StdoutBytes) + len(status.Stderr) + len(status.StderrBytes)
	if out.Cover(output.Cost*size) == quota.Free {
		return status
	}
	cut := *status
	cut.Stdout, cut.StdoutBytes, cut.Stderr, cut.StderrBytes, cut.Truncated = "", nil, "", nil, true
	return &cut
}
