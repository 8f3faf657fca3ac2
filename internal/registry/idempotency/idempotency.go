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
	// entryOverhead is what an entry takes beside its result, so it bounds their number.
	entryOverhead = 256
)

// Key is a request ID with the owner and the scope for which it stands. UID is that of the
// user, if it is known: another user of the same name does not get the results.
type Key struct {
	Owner          quota.Owner
	UID, Scope, ID string
}

// Digest tells commands apart.
type Digest [sha256.Size]byte

// place is what a key is found by: a few bytes, however long its words are.
type place [16]byte

func (k Key) place() place {
	hash := sha256.New()
	for _, word := range []string{k.Owner.Namespace, k.Owner.User, k.UID, k.Scope, k.ID} {
		_, _ = fmt.Fprintf(hash, "%d:%s", len(word), word)
	}
	return place(hash.Sum(nil)[:len(place{})])
}

// entry is what is remembered under a key. Results.mu guards it.
type entry struct {
	place   place
	command Digest
	owner   quota.Owner
	// running is the command while it runs, kept its result after that.
	running *running
	kept    kept
	// waiting counts the requests, started is set of a claim.
	waiting int32
	started bool
	bytes   int64
	ended   time.Time
}

// running is a command that has not ended.
type running struct {
	// cancel ends the command when no request waits for it any more.
	cancel context.CancelFunc
	// done is closed when status and err are set.
	done   chan struct{}
	status *live.ExecStatus
	err    error
}

// Results are what is remembered. They are safe for concurrent use.
type Results struct {
	held *quota.Quota

	// mu guards what follows; nothing waits under it.
	mu      sync.Mutex
	byPlace map[place]*entry
	// ended are those that can be forgotten, oldest first.
	ended []*entry
}

// New returns Results that remember nothing yet. held counts their bytes; the result of
// what runs when a bound is reached is still remembered in full.
func New(held *quota.Quota) *Results { return &Results{held: held, byPlace: map[place]*entry{}} }

// Do runs a command unless one runs, or has run, under the same key: then it returns the
// result of that, and repeated is true. The context of run ends when no caller waits any
// more. If run panics, lost() is its result.
func (r *Results) Do(
	ctx context.Context, key Key, digest Digest, lost func() *live.ExecStatus,
	run func(context.Context) (*live.ExecStatus, error),
) (status *live.ExecStatus, repeated bool, err error) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	e, command, first, err := r.enter(key, digest, cancel)
	if err != nil {
		return nil, false, err
	}
	// AfterFunc alone is not enough: the deferred call that stops it could come before
	// its function has begun, and the command would go on although no caller waits.
	leave := sync.OnceFunc(func() { r.leave(e) })
	defer leave()
	defer context.AfterFunc(ctx, leave)()
	if command == nil {
		return e.kept.status(), true, nil
	}
	if !first {
		select {
		case <-command.done:
			return command.status, true, command.err
		case <-ctx.Done():
			return nil, false, refusal.New(refusal.Unavailable, "the request was withdrawn before the first one with its ID had ended")
		}
	}
	status = lost()
	defer func() { r.finish(e, status, err) }()
	status, err = run(running)
	return status, false, err
}

// enter finds the entry of a request, or makes it; first reports whether it did. The command
// is nil if it has ended.
func (r *Results) enter(
	key Key, digest Digest, cancel context.CancelFunc,
) (e *entry, command *running, first bool, err error) {
	at := key.place()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(time.Now())
	if e = r.byPlace[at]; e != nil {
		if e.command != digest {
			return nil, nil, false, refusal.NotStarted(refusal.Conflict, "",
				"spec.requestID: another command was sent with this ID; choose a new ID for each command")
		}
		e.waiting++
		return e, e.running, false, nil
	}
	if full := r.held.Take(key.Owner, entryOverhead); full != quota.Free {
		return nil, nil, false, refusal.NotStarted(refusal.TooManyRequests, "", fmt.Sprintf(
			"too many results of %s are remembered for request IDs, each for 10 minutes; "+
				"try again later, or leave spec.requestID out", full))
	}
	e = &entry{place: at, command: digest, owner: key.Owner, waiting: 1, bytes: entryOverhead}
	e.running = &running{cancel: cancel, done: make(chan struct{})}
	r.byPlace[at] = e
	return e, e.running, true, nil
}

func (r *Results) forget(now time.Time) {
	for len(r.ended) > 0 && now.Sub(r.ended[0].ended) >= memory {
		r.drop(r.ended[0])
		r.ended[0] = nil
		r.ended = r.ended[1:]
	}
}

func (r *Results) drop(e *entry) {
	r.held.Add(e.owner, -e.bytes)
	delete(r.byPlace, e.place)
}

func (r *Results) leave(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.waiting--; e.waiting == 0 && e.running != nil {
		e.running.cancel()
	}
}

// finish keeps a result, but for that of a command that has not started.
func (r *Results) finish(e *entry, status *live.ExecStatus, err error) {
	remember := err == nil && status.Outcome != live.OutcomeNotStarted
	var result kept
	if remember {
		result = keep(status)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e.running.status, e.running.err = status, err
	close(e.running.done)
	e.running = nil
	if !remember {
		r.drop(e)
		return
	}
	r.held.Add(e.owner, result.bytes())
	e.kept, e.bytes = result, e.bytes+result.bytes()
	r.end(e)
}

// end begins the time for which an entry is remembered.
func (r *Results) end(e *entry) {
	e.ended = time.Now()
	r.ended = append(r.ended, e)
}

// Claim keeps other commands from a key until release is called once, and for as long as
// a result is remembered after that if started is true. The same command may be claimed more
// than once at the same time.
func (r *Results) Claim(key Key, digest Digest) (release func(started bool), err error) {
	e, _, _, err := r.enter(key, digest, func() {})
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
			e.running = nil
			r.end(e)
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
