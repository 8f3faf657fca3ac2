package docker

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/docker/census"
	"github.com/connpool/connpool/internal/driver/runtimeerr"
)

const (
	// maxHelpers bounds the looks at the processes of containers that run at the same time
	// on a connection, and maxCensus the list that each gets, in bytes.
	maxHelpers = 8
	maxCensus  = 128 << 10
	// maxSignaled bounds how many processes are signaled in one round by their numbers.
	maxSignaled = 4096
	// maxRounds bounds how often processes are looked for that appeared meanwhile.
	maxRounds = 4
)

// The signals are sent to all processes, one after the other. Before they are killed
// they are stopped, twice: while the shell goes through the processes, one that is not
// stopped yet may start another that the shell does not see.
const (
	askToEnd = "TERM"
	kill     = "STOP STOP KILL KILL" //nolint:dupword // as explained above
)

// pursuit ends the processes of one command. It is not safe for concurrent use.
type pursuit struct {
	process *process
	// home is the ID of the command's container, once it is known. Another one may get the
	// name, with processes of others under the same numbers.
	home  string
	known map[int]uint64 // when each process began that the last look found
	// unmarked are those of them that do not have the mark.
	unmarked []int
}

// signal sends signals to the processes of the command: those with its mark, those that
// are known, and those that it finds meanwhile. An error says why it could not.
func (p *pursuit) signal(ctx context.Context, signals string) error {
	signaled := map[int]bool{}
	for range maxRounds {
		pids := p.unmarked[:min(len(p.unmarked), maxSignaled)]
		if err := p.look(ctx, signals, pids); err != nil {
			return err
		}
		for _, pid := range pids {
			signaled[pid] = true
		}
		if !slices.ContainsFunc(p.unmarked, func(pid int) bool { return !signaled[pid] }) {
			return nil
		}
	}
	return nil
}

// look finds the processes of the command that live, and then sends signals to those
// given and to those with the mark.
func (p *pursuit) look(ctx context.Context, signals string, pids []int) error {
	found, helper, err := p.count(ctx, signals, pids)
	if p.isElsewhere(ctx, found, helper, err) {
		found, helper, err = p.count(ctx, signals, pids)
	}
	if err != nil {
		return err
	}
	p.home = cmp.Or(p.home, idOf(helper))
	kin := found.Kin(p.known)
	if len(kin) == 0 {
		if root, ok := p.lostRoot(ctx, found, helper); ok {
			kin = found.Kin(map[int]uint64{root.PID: root.Begun})
		}
	}
	p.known, p.unmarked = kin, nil
	for _, s := range found.Seen {
		if _, ok := kin[s.PID]; ok && s.Mark != census.Own {
			p.unmarked = append(p.unmarked, s.PID)
		}
	}
	return nil
}

// isElsewhere reports whether the command is in another container than the one that was
// looked into by its name, and remembers which.
func (p *pursuit) isElsewhere(ctx context.Context, found census.Census, helper state, err error) bool {
	refused, _ := driver.Classified(err)
	absent := refused != nil && refused.Reason == driver.NotFound
	if p.home != "" || err != nil && !absent || len(found.Kin(p.known)) > 0 {
		return false
	}
	now, err := p.process.inspect(ctx)
	if err != nil || idOf(now) == idOf(helper) {
		return false
	}
	p.home = idOf(now)
	return p.home != ""
}

// idOf returns the ID of the container of a command, as far as the engine tells it.
func idOf(s state) string {
	if plainName.MatchString(s.ContainerID) {
		return s.ContainerID
	}
	return ""
}

// lostRoot returns the first process of a command without mark and kin. The engine says
// afterwards whether the command still runs, which proves that it was seen.
func (p *pursuit) lostRoot(ctx context.Context, found census.Census, helper state) (census.Sighting, bool) {
	now, err := p.process.inspect(ctx)
	if err != nil || !now.Running {
		return census.Sighting{}, false
	}
	if helper.Pid == found.Self.PID { // the container has the process namespace of the engine
		at := slices.IndexFunc(found.Seen, func(s census.Sighting) bool { return s.PID == now.Pid && s.PID > 1 })
		if at < 0 {
			return census.Sighting{}, false
		}
		return found.Seen[at], true
	}
	return found.Root(time.Since(p.process.begun))
}

// over reports whether the command and all of its processes that are known have ended. A
// command that the engine has not started yet may still be.
func (p *pursuit) over(ctx context.Context) (bool, error) {
	if err := p.look(ctx, "", nil); err != nil {
		return false, err
	}
	now, err := p.process.inspect(ctx)
	hasRun := now.ExitCode != nil || now.Pid != 0
	return err == nil && hasRun && !now.Running && len(p.known) == 0, nil
}

// count runs a shell in the command's container that sends signals and lists the
// processes. It runs as the user of all commands, so it may do no more than they.
func (p *pursuit) count(ctx context.Context, signals string, pids []int) (census.Census, state, error) {
	select {
	case p.process.conn.helpers <- struct{}{}:
		defer func() { <-p.process.conn.helpers }()
	case <-ctx.Done():
		return census.Census{}, state{}, errNotInTime
	}
	helper := &process{conn: p.process.conn, container: cmp.Or(p.home, p.process.container), mark: rand.Text(), helps: true}
	var said limitedBuffer
	argv := []string{"sh", "-c", census.Script(p.process.mark, signals, pids)}
	err := helper.create(ctx, execOptions(driver.Command{Argv: argv}, false, helper.mark))
	if err != nil {
		return census.Census{}, state{}, err
	}
	e := newExecution(helper, nil, driver.Streams{Stdout: &said})
	status, err := e.run(ctx)
	found, whole := census.Parse(said.String())
	switch {
	case err != nil:
		return census.Census{}, state{}, err
	case status.Code == runtimeerr.NoProgram || status.Code == runtimeerr.NoPermission:
		return census.Census{}, state{}, errNoShell
	case !whole:
		return census.Census{}, state{}, errNoCensus
	}
	return found, e.last, nil
}

var (
	errNoShell   = errors.New("the container has no sh to signal it with")
	errNotInTime = errors.New("there was no time to look at its processes")
	errNoCensus  = errors.New("the container's sh cannot list its processes")
)

// limitedBuffer is a writer that fails after maxCensus bytes.
type limitedBuffer struct{ strings.Builder }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxCensus {
		return 0, errNoCensus
	}
	return b.Builder.Write(p)
}

// pass sends one signal of the caller to each process of the command, as a terminal
// would. It looks first, so that none gets it twice. Without a shell in the container
// the signal is lost.
func (e *execution) pass(signal driver.Signal) {
	ctx, cancel := e.helpTimeout()
	defer cancel()
	p := &pursuit{process: e.process}
	if p.look(ctx, "", nil) == nil {
		_ = p.signal(ctx, string(signal))
	}
}

// signalLater ends a command in the background that may run although its caller has
// left.
func (e *execution) signalLater() {
	if e.process.helps {
		return
	}
	go e.chase()
}

// terminate signals the command to end, then kills it, and returns what is known of its
// end. It returns when it does not use the caller's writers anymore.
func (e *execution) terminate() string {
	if e.process.helps {
		_ = e.socket.Close()
		e.streams.Silence()
		return ""
	}
	known := e.chase()
	_ = e.socket.Close()
	e.streams.Silence()
	return known
}

// chase signals the command to end, then kills it. It returns what is known of its end,
// as a clause of a sentence.
func (e *execution) chase() string {
	p := &pursuit{process: e.process}
	for _, signals := range []string{askToEnd, kill} {
		switch ended, err := e.endsAfter(p, signals); {
		case ended:
			return "the command was signaled, and has ended"
		case err != nil:
			return unconfirmed(err)
		}
	}
	return unconfirmed(p.remaining())
}

// endsAfter sends signals, and reports whether the command has ended soon afterwards. It
// looks first, so that all processes get the first signal at the same time: an engine is
// slow to answer about a command whose first process ended before its children.
func (e *execution) endsAfter(p *pursuit, signals string) (bool, error) {
	ctx, cancel := e.helpTimeout()
	defer cancel()
	if err := p.look(ctx, "", nil); err != nil {
		return false, err
	}
	if err := p.signal(ctx, signals); err != nil {
		return false, err
	}
	grace, stop := context.WithTimeout(e.conn.ctx, e.conn.options.KillGrace)
	defer stop()
	select {
	case <-e.ended:
	case <-grace.Done():
	}
	for pause := 20 * time.Millisecond; ; pause *= 2 {
		if over, err := e.isOver(p); over || err != nil {
			return over, err
		}
		if !sleep(grace, pause) {
			return false, nil
		}
	}
}

func (e *execution) isOver(p *pursuit) (bool, error) {
	ctx, cancel := e.helpTimeout()
	defer cancel()
	return p.over(ctx)
}

func (e *execution) helpTimeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(e.conn.ctx, e.conn.options.StageTimeout)
}

// remaining says why a command has not ended that was killed.
func (p *pursuit) remaining() error {
	if len(p.known) == 0 {
		return errors.New("its processes cannot be told from others of the container")
	}
	return fmt.Errorf("processes of it remain that could not be ended: %s", numbers(p.known))
}

func numbers(pids map[int]uint64) string {
	sorted := slices.Sorted(maps.Keys(pids))
	return strings.Trim(fmt.Sprint(sorted[:min(len(sorted), 8)]), "[]")
}

// unconfirmed says that a command may go on, and why.
func unconfirmed(err error) string {
	if isPaused(err) {
		return "the command could not be signaled, because its container is paused, and goes on when that is unpaused"
	}
	why := err.Error()
	if refused, ok := driver.Classified(err); ok {
		why = refused.Message
	}
	return "the engine did not confirm that the command ended; it may still run (" + why + ")"
}
