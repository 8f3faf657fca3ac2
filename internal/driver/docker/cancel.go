package docker

import (
	"context"
	"fmt"

	"github.com/docker/docker/api/types/container"
)

// markVariable is in the environment of every command, so that its processes can be
// found.
const markVariable = "CONNPOOL_COMMAND"

// signalScript signals the processes whose environment holds a mark. It uses what
// is built into every POSIX shell, since containers may hold nothing else; `read`
// drops the zeros between variables.
//
//nolint:dupword // loops within loops
const signalScript = `for signal in %s; do
  for file in /proc/[0-9]*/environ; do
    text=
    { while IFS= read -r line || [ -n "$line" ]; do text=$text$line; done <"$file"; } 2>/dev/null
    case $text in *%s=%s*)
      pid=${file#/proc/}
      kill "-$signal" "${pid%%/environ}" 2>/dev/null;;
    esac
  done
done`

// The signals are sent to all processes, one after the other. Before they are killed
// they are stopped, twice: while the shell goes through the processes, one that is not
// stopped yet may start another that the shell does not see.
const (
	askToEnd = "TERM"
	kill     = "STOP STOP KILL KILL" //nolint:dupword // as explained above
)

// signal is best effort: the container may have no shell, or be gone.
func (p *process) signal(ctx context.Context, signals string) {
	script := fmt.Sprintf(signalScript, signals, markVariable, p.mark)
	created, err := p.conn.client.ContainerExecCreate(ctx, p.container, container.ExecOptions{
		Cmd: []string{"sh", "-c", script},
	})
	if err == nil && plainName.MatchString(created.ID) {
		_ = p.conn.client.ContainerExecStart(ctx, created.ID, container.ExecStartOptions{Detach: true})
	}
}

// signalLater ends a command in the background that may run although its caller has
// left.
func (p *process) signalLater() {
	go func() {
		ctx, cancel := context.WithTimeout(p.conn.ctx, p.conn.options.StageTimeout)
		defer cancel()
		p.signal(ctx, askToEnd)
		if sleep(ctx, p.conn.options.KillGrace) {
			p.signal(ctx, kill)
		}
	}()
}

// terminate signals the command to end, then kills it. It returns when it does not use
// the caller's writers anymore.
func (e *execution) terminate() {
	if !e.endsAfter(askToEnd) {
		e.endsAfter(kill)
	}
	_ = e.socket.Close()
	e.streams.Silence()
}

// endsAfter reports whether the output ended soon after the signal.
func (e *execution) endsAfter(signals string) bool {
	ctx, cancel := context.WithTimeout(e.conn.ctx, e.conn.options.KillGrace)
	defer cancel()
	go e.process.signal(ctx, signals)
	select {
	case <-e.ended:
		return true
	case <-ctx.Done():
		return false
	}
}
