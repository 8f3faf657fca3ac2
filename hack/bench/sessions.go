package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/session"
	"github.com/connpool/connpool/test/netfault"
)

// measureSessions compares a `true` in a session on a host with ssh. Those in
// containers and pods are measured beside their own CLIs.
func measureSessions(ctx context.Context, s settings) ([]row, error) {
	bed, err := newTestbed(ctx)
	if err != nil {
		return nil, err
	}
	defer bed.close()
	var rows []row
	for _, d := range distances {
		s.say("race a session and ssh%s", d.words)
		took, err := bed.raceSession(ctx, s, d)
		if err != nil {
			return rows, err
		}
		rows = append(rows, sessionRows("command in a host's session", took, fresh, d)...)
	}
	return rows, nil
}

func (b *testbed) raceSession(ctx context.Context, s settings, d distance) (map[string][]float64, error) {
	proxy, err := netfault.Start(b.server.Addr, netfault.Options{RoundTrip: d.roundTrip})
	if err != nil {
		return nil, err
	}
	defer proxy.Close()
	host, err := b.reach(ctx, proxy.Addr)
	if err != nil {
		return nil, err
	}
	defer host.close()
	shell, err := sessionOn(ctx, host.conn, driver.Place{})
	if err != nil {
		return nil, err
	}
	defer shell.Close()
	return race(ctx, of(s, 20*time.Second, 2*time.Second), inSession(shell), host.fresh())
}

func sessionOn(ctx context.Context, conn driver.Conn, place driver.Place) (*session.Shell, error) {
	execer, ok := conn.(driver.Execer)
	if !ok {
		return nil, fmt.Errorf("%T runs no commands", conn)
	}
	return session.Start(ctx, execer, place, nil)
}

// inSession runs a program in the shell, as the others do, and not a builtin.
func inSession(shell *session.Shell) contender {
	return contender{oursInSession, func(ctx context.Context) error {
		_, err := shell.Run(ctx, driver.Command{Argv: []string{"/bin/true"}}, nil, nil)
		return err
	}, 1}
}

// slowDials is the delay of every dial that shows whether commands wait for
// dials.
const slowDials = 500 * time.Millisecond

const (
	promptDials = "prompt"
	heldUpDials = "held up"
)

// measureHandshakes runs a command now and then while every dial takes half a
// second longer. The commands take no longer unless one of them waits for a dial.
func measureHandshakes(ctx context.Context, s settings) ([]row, error) {
	machine, err := openDockerHost(ctx)
	if err != nil {
		return nil, err
	}
	defer machine.close() //nolint:contextcheck // it cleans up whatever became of ctx
	s.say("hold up the dials of a Docker connection")
	took := map[string][]float64{}
	for held, hold := range map[string]time.Duration{promptDials: 0, heldUpDials: slowDials} {
		if took[held], err = machine.heldUp(ctx, s, hold); err != nil {
			return nil, err
		}
	}
	const name = "command in a container while every dial takes 500 ms longer, slowest"
	slowest, without := percentile(took[heldUpDials], 100), percentile(took[promptDials], 100)
	return []row{compared(name, slowest, "ms", "without", without).atMost(without + 250)}, nil
}

func (h *dockerHost) heldUp(ctx context.Context, s settings, hold time.Duration) ([]float64, error) {
	endpoint := h.overTLS(h.engine.TCP)
	endpoint.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if err := pass(ctx, hold); err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	conn, err := dialEngine(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // the end of a benchmark
	return nowAndThen(ctx, of(s, 15, 3), runs(ours, conn, driver.Place{Container: h.container}))
}

// nowAndThen repeats a contender, with pauses in which sockets can be dialed ahead.
func nowAndThen(ctx context.Context, times int, c contender) (took []float64, err error) {
	for range times {
		if err := pass(ctx, 3*slowDials); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := c.do(ctx); err != nil {
			return nil, err
		}
		took = append(took, float64(time.Since(began).Nanoseconds())/1e6)
	}
	return took, nil
}

// pass lets time pass.
func pass(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
