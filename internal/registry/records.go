package registry

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"
	"sync"
	"time"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
)

// recordBounds bound what is remembered of requests with an ID of their own.
type recordBounds struct {
	// memory is how long a result is remembered at least.
	memory time.Duration
	// bytes bound all records together, and userBytes those of one user. What runs
	// when a bound is reached is still remembered in full.
	bytes, userBytes int64
}

// recordLimits remember 130,000 short results, or 63 of the longest.
var recordLimits = recordBounds{memory: 10 * time.Minute, bytes: 128 << 20, userBytes: 64 << 20}

// recordOverhead is what a record takes beside its output, roughly. It bounds
// their number, too.
const recordOverhead = 1 << 10

// recordKey is whose request it is, and what they call it.
type recordKey struct{ user, pool, id string }

// record is a request that runs or has run.
type record struct {
	key    recordKey
	digest [sha256.Size]byte
	// cancel ends the command when nobody waits for it any more.
	cancel context.CancelFunc
	// done is closed when status and err are set.
	done   chan struct{}
	status *live.ExecStatus
	err    error

	// waiting, bytes and ended are guarded by records.mu.
	waiting int
	bytes   int64
	ended   time.Time
}

// records remember requests by their IDs, so that a repetition is not run again.
// Whatever is younger than the bounds promise is never forgotten: rather than
// that, new requests are refused.
type records struct {
	bounds recordBounds

	// mu guards what follows; nothing waits under it.
	mu    sync.Mutex
	byKey map[recordKey]*record
	// ended are those that can be forgotten, oldest first.
	ended []*record
	bytes int64
	users map[string]int64
}

func newRecords(bounds recordBounds) *records {
	return &records{bounds: bounds, byKey: map[recordKey]*record{}, users: map[string]int64{}}
}

// executeOnce runs a command unless the same request runs or has run: then its
// result is the answer. The command ends when nobody waits for it any more.
func (c *call) executeOnce(ctx context.Context, pool *v1alpha1.ConnectionPool, spec *live.ExecSpec) (*live.ExecStatus, error) {
	return c.once(ctx, string(pool.UID), spec, func(ctx context.Context) (*live.ExecStatus, error) {
		return c.execute(ctx, pool, spec)
	})
}

// once does it for whatever executes the command. place tells apart where the IDs
// belong to.
func (c *call) once(
	ctx context.Context, place string, spec *live.ExecSpec, execute func(context.Context) (*live.ExecStatus, error),
) (*live.ExecStatus, error) {
	key := recordKey{user: c.userName(), pool: place, id: spec.RequestID}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	r, first, err := c.records.enter(key, digestOf(spec), cancel)
	if err != nil {
		return nil, err
	}
	// To stop the one call is not enough: who sees the end of ctx first could stop it
	// before it has begun, and the command would go on for nobody.
	leave := sync.OnceFunc(func() { c.records.leave(r) })
	defer leave()
	defer context.AfterFunc(ctx, leave)()
	if !first {
		return c.repeat(ctx, r)
	}
	// What a panic leaves behind is no result, and must not be run again.
	status := c.lost() //nolint:contextcheck // it says how something ended, and does nothing
	defer func() { c.records.finish(r, status, err) }()
	status, err = execute(running)
	return status, err
}

// lost is the result of a command that the operator itself lost track of.
func (c *call) lost() *live.ExecStatus {
	end := ending{requestID: c.requestID}
	end.conclude(context.Background(), &driver.Error{
		Reason: driver.ProtocolError, Started: true, Message: "the operator failed while it ran; see its log",
	})
	status := end.result()
	return &status
}

// repeat waits for the result of a request that was there before.
func (c *call) repeat(ctx context.Context, r *record) (*live.ExecStatus, error) {
	began := time.Now()
	select {
	case <-r.done:
	case <-ctx.Done():
		return nil, refused(unavailable, "the request was withdrawn before the first one with its ID had ended")
	}
	c.auditRepeated(time.Since(began))
	return r.status, r.err
}

// enter finds the record of a request, or makes it and says that it is the first.
func (s *records) enter(key recordKey, digest [sha256.Size]byte, cancel context.CancelFunc) (r *record, first bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(time.Now())
	if r = s.byKey[key]; r != nil {
		if r.digest != digest {
			return nil, false, refusedBeforeStart(conflict, "",
				"spec.requestID: another command was sent with this ID; choose a new ID for each command")
		}
		r.waiting++
		return r, false, nil
	}
	if s.full(key.user) {
		return nil, false, refusedBeforeStart(tooManyRequests, "",
			"too many results are remembered for request IDs, each for 10 minutes; try again later, or leave spec.requestID out")
	}
	r = &record{key: key, digest: digest, cancel: cancel, done: make(chan struct{}), waiting: 1}
	s.byKey[key] = r
	s.account(r, recordOverhead)
	return r, true, nil
}

// full reports that one more would be too many.
func (s *records) full(user string) bool {
	return s.bytes+recordOverhead > s.bounds.bytes || s.users[user]+recordOverhead > s.bounds.userBytes
}

// forget drops what has been remembered for long enough.
func (s *records) forget(now time.Time) {
	for len(s.ended) > 0 && now.Sub(s.ended[0].ended) >= s.bounds.memory {
		s.drop(s.ended[0])
		s.ended[0] = nil
		s.ended = s.ended[1:]
	}
}

func (s *records) drop(r *record) {
	s.account(r, 0)
	delete(s.byKey, r.key)
}

// account makes a record count for so many bytes.
func (s *records) account(r *record, bytes int64) {
	s.bytes += bytes - r.bytes
	s.users[r.key.user] += bytes - r.bytes
	if s.users[r.key.user] == 0 {
		delete(s.users, r.key.user)
	}
	r.bytes = bytes
}

// leave says that one caller waits no longer.
func (s *records) leave(r *record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.waiting--; r.waiting == 0 {
		r.cancel()
	}
}

// finish keeps a result. What has proved not to run is not kept, so that it can
// be tried again under the same ID.
func (s *records) finish(r *record, status *live.ExecStatus, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.status, r.err = status, err
	close(r.done)
	if err != nil || status.Outcome == live.OutcomeNotStarted {
		s.drop(r)
		return
	}
	r.ended = time.Now()
	s.account(r, sizeOf(status))
	s.ended = append(s.ended, r)
}

func sizeOf(status *live.ExecStatus) int64 {
	return int64(recordOverhead + len(status.Stdout) + len(status.StdoutBytes) + len(status.Stderr) + len(status.StderrBytes))
}

// digestOf tells commands apart.
func digestOf(spec *live.ExecSpec) (sum [sha256.Size]byte) {
	d := digest{sha256.New()}
	d.add(spec.Target, spec.Container, spec.Pod, spec.Namespace, spec.Shell, spec.Subsystem)
	d.count(len(spec.Command))
	d.add(spec.Command...)
	d.count(len(spec.Env))
	for _, name := range sortedKeys(spec.Env) {
		d.add(name, spec.Env[name])
	}
	d.count(len(spec.Stdin))
	_, _ = d.Write(spec.Stdin)
	d.count(int(spec.TimeoutSeconds))
	copy(sum[:], d.Sum(nil))
	return sum
}

// digest writes words so that no two sequences of them look the same.
type digest struct{ hash.Hash }

func (d digest) count(n int) { _ = binary.Write(d, binary.BigEndian, int64(n)) }

func (d digest) add(words ...string) {
	for _, word := range words {
		d.count(len(word))
		_, _ = io.WriteString(d, word)
	}
}
