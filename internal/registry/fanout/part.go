package fanout

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// ErrFailFast says that the command has failed on another target.
var ErrFailFast = errors.New("the command has failed on another target")

// Part is targets on which one process runs the command. What becomes of each goes through
// Run and Skip, which may be called for several targets at the same time.
type Part struct {
	// Targets in the order in which the command starts.
	Targets []string
	// Parallelism is on how many it runs at the same time at most.
	Parallelism int
	// FailFast starts it nowhere any more after it has failed on a target.
	FailFast bool
	// More counts one more target at the same time until end is called. ok is false if there
	// is no room for it now. One target at a time needs no count: that is the request's own.
	More func() (end func(), ok bool)
	// Run runs the command on a target, at most once, and reports whether it succeeded.
	Run func(target string) (succeeded bool)
	// Skip takes a target on which the command did not begin: because ctx had ended, with its
	// cause, or for ErrFailFast.
	Skip func(target string, because error)
}

// Do runs the command on all targets, and returns when it has ended on each. A panic of Run
// is one of Do, after cancel was called and what runs has ended.
func (p *Part) Do(ctx context.Context, cancel func()) {
	d := dispatch{part: p, cancel: cancel, ended: make(chan end, p.Parallelism)}
	for _, target := range p.Targets {
		release := d.room(ctx)
		if because := d.stopped(ctx); because != nil {
			if release != nil {
				release()
			}
			p.Skip(target, because)
			continue
		}
		d.running++
		go d.run(target, release)
	}
	for d.running > 0 {
		d.take(<-d.ended)
	}
	if d.panicked != nil {
		panic(d.panicked)
	}
}

// dispatch is a part while its command runs.
type dispatch struct {
	part   *Part
	cancel func()
	// ended has room for all that run.
	ended    chan end
	running  int
	own      bool // the target that is not counted runs
	failed   bool
	panicked any
}

// end is that of the command on one target.
type end struct {
	succeeded bool
	own       bool
	panicked  any
}

// room waits until the command may run on one more target, or until it is stopped. Unless
// the target is the one that is not counted, release gives its room back.
func (d *dispatch) room(ctx context.Context) (release func()) {
	for d.stopped(ctx) == nil {
		select {
		case e := <-d.ended:
			d.take(e)
			continue
		default:
		}
		if d.running < d.part.Parallelism {
			if !d.own {
				d.own = true
				return nil
			}
			if release, ok := d.part.More(); ok {
				return release
			}
		}
		d.take(<-d.ended)
	}
	return nil
}

func (d *dispatch) take(e end) {
	d.running--
	if e.own {
		d.own = false
	}
	d.failed = d.failed || !e.succeeded
	if e.panicked != nil {
		d.panicked = e.panicked
		d.cancel()
	}
}

// stopped returns why the command starts on no more targets; nil if it does.
func (d *dispatch) stopped(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case d.failed && d.part.FailFast:
		return ErrFailFast
	}
	return nil
}

func (d *dispatch) run(target string, release func()) {
	e := end{own: release == nil}
	defer func() {
		if panicked := recover(); panicked != nil {
			e.panicked = fmt.Sprintf("%v\n\n%s", panicked, debug.Stack())
		}
		if release != nil {
			release()
		}
		d.ended <- e
	}()
	e.succeeded = d.part.Run(target)
}
