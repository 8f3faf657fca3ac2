// Package idempotency remembers the results of commands under request IDs, so that a
// request that is sent again does not run its command again.
//
//	status, repeated, err := results.Do(ctx, key, idempotency.DigestOf(&spec), lost, run)
//
// A request for many targets has a key for each of them, and one that it claims as a whole.
//
// A key stands for one command: another one under it is refused, and so is a new one when
// too much is remembered. A command that has not started is not remembered.
//
// Trade-offs: results are in the memory of this process, for ten minutes. That memory is
// bounded, and nothing is forgotten early to make room.
package idempotency

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/quota"
	"github.com/connpool/connpool/internal/registry/refusal"
)

const (
	// memory is how long a result is remembered at least.
	memory = 10 * time.Minute
	// entryOverhead is roughly what an entry takes beside its output, so it bounds their number.
	entryOverhead = 1 << 10
)

// Key is a request ID with the owner and the scope for which it stands. UID is that of the
// user, if it is known: another user of the same name does not get the results.
type Key struct {
	Owner          quota.Owner
	UID, Scope, ID string
}

// Digest tells commands apart.
type Digest [sha256.Size]byte

type entry struct {
	key    Key
	digest Digest
	// cancel ends the command when no request waits for it any more.
	cancel context.CancelFunc
	// done is closed when status and err are set.
	done   chan struct{}
	status *live.ExecStatus
	err    error

	// what follows is guarded by Results.mu.
	waiting int
	started bool // of a claim
	bytes   int64
	ended   time.Time
}

// Results are what is remembered. They are safe for concurrent use.
type Results struct {
	held *quota.Quota

	// mu guards what follows; nothing waits under it.
	mu    sync.Mutex
	byKey map[Key]*entry
	// ended are those that can be forgotten, oldest first.
	ended []*entry
}

// New returns Results that remember nothing yet. held counts their bytes; the result of
// what runs when a bound is reached is still remembered in full.
func New(held *quota.Quota) *Results { return &Results{held: held, byKey: map[Key]*entry{}} }

// Do runs a command unless one runs, or has run, under the same key: then it returns the
// result of that, and repeated is true. The context of run ends when no caller waits any
// more. If run panics, lost() is its result.
func (r *Results) Do(
	ctx context.Context, key Key, digest Digest, lost func() *live.ExecStatus,
	run func(context.Context) (*live.ExecStatus, error),
) (status *live.ExecStatus, repeated bool, err error) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	e, first, err := r.enter(key, digest, cancel)
	if err != nil {
		return nil, false, err
	}
	// AfterFunc alone is not enough: the deferred call that stops it could come before
	// its function has begun, and the command would go on although no caller waits.
	leave := sync.OnceFunc(func() { r.leave(e) })
	defer leave()
	defer context.AfterFunc(ctx, leave)()
	if !first {
		select {
		case <-e.done:
			return e.status, true, e.err
		case <-ctx.Done():
			return nil, false, refusal.New(refusal.Unavailable, "the request was withdrawn before the first one with its ID had ended")
		}
	}
	status = lost()
	defer func() { r.finish(e, status, err) }()
	status, err = run(running)
	return status, false, err
}

// enter finds the entry of a request, or makes it; first reports whether it did.
func (r *Results) enter(key Key, digest Digest, cancel context.CancelFunc) (e *entry, first bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(time.Now())
	if e = r.byKey[key]; e != nil {
		if e.digest != digest {
			return nil, false, refusal.NotStarted(refusal.Conflict, "",
				"spec.requestID: another command was sent with this ID; choose a new ID for each command")
		}
		e.waiting++
		return e, false, nil
	}
	if full := r.held.Take(key.Owner, entryOverhead); full != quota.Free {
		return nil, false, refusal.NotStarted(refusal.TooManyRequests, "", fmt.Sprintf(
			"too many results of %s are remembered for request IDs, each for 10 minutes; "+
				"try again later, or leave spec.requestID out", full))
	}
	e = &entry{key: key, digest: digest, cancel: cancel, done: make(chan struct{}), waiting: 1, bytes: entryOverhead}
	r.byKey[key] = e
	return e, true, nil
}

func (r *Results) forget(now time.Time) {
	for len(r.ended) > 0 && now.Sub(r.ended[0].ended) >= memory {
		r.drop(r.ended[0])
		r.ended[0] = nil
		r.ended = r.ended[1:]
	}
}

func (r *Results) drop(e *entry) {
	r.held.Add(e.key.Owner, -e.bytes)
	delete(r.byKey, e.key)
}

func (r *Results) leave(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.waiting--; e.waiting == 0 {
		e.cancel()
	}
}

// finish keeps a result, but for that of a command that has not started.
func (r *Results) finish(e *entry, status *live.ExecStatus, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.status, e.err = status, err
	close(e.done)
	if err != nil || status.Outcome == live.OutcomeNotStarted {
		r.drop(e)
		return
	}
	e.ended = time.Now()
	grown := int64(len(status.Stdout) + len(status.StdoutBytes) + len(status.Stderr) + len(status.StderrBytes))
	r.held.Add(e.key.Owner, grown)
	e.bytes += grown
	r.ended = append(r.ended, e)
}

// Claim keeps other commands from a key until release is called once, and for as long as
// a result is remembered after that if started is true. The same command may be claimed more
// than once at the same time.
func (r *Results) Claim(key Key, digest Digest) (release func(started bool), err error) {
	e, _, err := r.enter(key, digest, func() {})
	if err != nil {
		return nil, err
	}
	return func(started bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		e.started = e.started || started
		switch e.waiting--; {
		case e.waiting > 0 || !e.ended.IsZero():
		case e.started:
			e.ended = time.Now()
			r.ended = append(r.ended, e)
		default:
			r.drop(e)
		}
	}, nil
}

// DigestOf returns what tells commands apart: everything but on which of many targets it
// runs. The JSON of a command says where it ends, so that its input can follow.
func DigestOf(spec *live.ExecSpec) Digest {
	words := *spec
	words.Stdin = nil
	if words.Targets != nil {
		words.Targets = &live.ExecTargets{}
	}
	encoded, _ := json.Marshal(words) //nolint:errchkjson // words and numbers always have a JSON
	digest := sha256.New()
	_, _ = digest.Write(encoded)
	_, _ = digest.Write(spec.Stdin)
	return Digest(digest.Sum(nil))
}
