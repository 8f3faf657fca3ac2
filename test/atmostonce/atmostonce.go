// Package atmostonce checks that commands sent through the live API run at most
// once and that their output is whole, while something breaks:
//
//	ledger, err := atmostonce.NewLedger(path) // a file that the target can append to
//	load := atmostonce.Load{Ledger: ledger, Clients: clients, Commands: 200, Parallel: 8}
//	summary, err := load.Run(ctx, fault)
//	err = summary.Err()
//
// Every command appends its ID to a file on the target and then prints numbered
// lines. Afterwards the file must have the ID once if the command was reported as
// Completed, not at all if NotStarted, and at most once if Unknown. The output must
// be complete if Completed, empty if NotStarted, and an exact beginning if Unknown. A
// command that was not started is sent again under another ID, as a caller may do,
// so that a fault of some seconds does not use up the load.
//
// A Client sends commands and classifies the results as its user would have to. The
// clients that are not ours (net/http, client-go's executors and REST client) retry
// in their own manner, and that is part of what is checked.
//
// The file is read where the checker runs, so target and checker must share it.
package atmostonce

import (
	"context"
	"fmt"
	"sync"
	"time"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// retryPause is how long a worker waits before it sends a command again because it
// was not started.
const retryPause = 100 * time.Millisecond

// Load is a number of commands to send.
type Load struct {
	Ledger *Ledger
	// Clients send the commands, in turn.
	Clients []Client
	// Commands is how many must end as Completed or Unknown, Parallel how many run at
	// the same time.
	Commands, Parallel int
	// Lines is how many lines each command prints, Pause how long it waits in the
	// middle of them.
	Lines int
	Pause time.Duration
}

// Fault breaks something while a load runs. The zero value breaks nothing.
type Fault struct {
	// Strikes is how often it strikes, evenly over the load.
	Strikes int
	// Strike breaks it. It must not wait for commands.
	Strike func(context.Context) error
	// Heal, if set, repairs it: when the first command since the strike has ended as
	// Unknown, or after Patience.
	Heal     func(context.Context) error
	Patience time.Duration
}

// Report is what a client learned of one command.
type Report struct {
	Outcome live.Outcome
	// ExitCode of a Completed command.
	ExitCode int
	Output   []byte
	// Err says why, for the other outcomes.
	Err error
}

// Run sends the load while the fault strikes, and compares what was reported with
// what happened. The error is one of the checker or of the fault; what the commands
// did wrong is in the summary.
func (l Load) Run(ctx context.Context, fault Fault) (Summary, error) {
	r := &running{Load: l, fault: fault, healing: make(chan struct{}, 1)}
	var workers sync.WaitGroup
	for range l.Parallel {
		workers.Go(func() { r.work(ctx) })
	}
	workers.Wait()
	r.healers.Wait()
	if r.err != nil {
		return Summary{}, r.err
	}
	if err := ctx.Err(); err != nil {
		return Summary{}, fmt.Errorf("after %d of %d commands: %w", r.ended, l.Commands, err)
	}
	return r.summarize()
}

// attempt is one command that was sent.
type attempt struct {
	script
	Report

	client string
	// late is how long after the last strike it ended as Unknown, if it was sent
	// before the strike.
	late time.Duration
}

// running is a load that is being sent.
type running struct {
	Load

	fault   Fault
	healers sync.WaitGroup
	// healing has a token after a command ended as Unknown.
	healing chan struct{}

	mu       sync.Mutex
	sent     int
	ended    int
	attempts []attempt
	struck   time.Time
	strikes  int
	err      error
}

func (r *running) work(ctx context.Context) {
	for {
		n, more := r.next()
		if !more || ctx.Err() != nil {
			return
		}
		for try := 0; r.try(ctx, n, try) == live.OutcomeNotStarted && wait(ctx, retryPause); try++ {
		}
		if r.strikeIsDue() {
			r.strike(ctx)
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (r *running) next() (n int, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sent == r.Commands || r.err != nil {
		return 0, false
	}
	r.sent++
	return r.sent, true
}

func (r *running) try(ctx context.Context, n, try int) live.Outcome {
	client := r.Clients[n%len(r.Clients)]
	a := attempt{script: r.script(n, try), client: client.Name}
	began := time.Now()
	a.Report = client.Run(ctx, a.text(r.Ledger.path))
	r.note(a, began)
	if a.Outcome == live.OutcomeUnknown {
		select {
		case r.healing <- struct{}{}:
		default:
		}
	}
	return a.Outcome
}

// note adds an attempt to those that are summarized.
func (r *running) note(a attempt, began time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.Outcome == live.OutcomeUnknown && began.Before(r.struck) {
		a.late = time.Since(r.struck)
	}
	r.attempts = append(r.attempts, a)
	if a.Outcome != live.OutcomeNotStarted {
		r.ended++
	}
}

// strikeIsDue reports whether the next strike is due, and counts it. The strikes
// divide the load into equal parts.
func (r *running) strikeIsDue() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := r.strikes < r.fault.Strikes && r.ended*(r.fault.Strikes+1) >= (r.strikes+1)*r.Commands
	if due {
		r.strikes++
		r.struck = time.Now()
	}
	return due
}

func (r *running) strike(ctx context.Context) {
	select {
	case <-r.healing: // it was of a command before the strike
	default:
	}
	r.fail(r.fault.Strike(ctx))
	if r.fault.Heal != nil {
		r.healers.Go(func() { r.fail(r.heal(ctx)) })
	}
}

func (r *running) heal(ctx context.Context) error {
	timer := time.NewTimer(r.fault.Patience)
	defer timer.Stop()
	select {
	case <-r.healing:
	case <-timer.C:
	case <-ctx.Done():
	}
	return r.fault.Heal(context.WithoutCancel(ctx))
}

func (r *running) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil && err != nil {
		r.err = fmt.Errorf("cause the fault: %w", err)
	}
}
