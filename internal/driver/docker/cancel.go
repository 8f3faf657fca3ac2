package docker

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/docker/docker/api/types/container"
)

// markVariable is in the environment of every command, so that its processes can
// be found again.
const markVariable = "CONNPOOL_COMMAND"

func newMark() string { return rand.Text() }

// signalScript signals the processes whose environment holds a mark. It uses what
// is built into every POSIX shell, since containers may hold nothing else; `read`
// drops the zeros between variables.
const signalScript = `for file in /proc/[0-9]*/environ; do
  text=
  { while IFS= read -r line || [ -n "$line" ]; do text=$text$line; done <"$file"; } 2>/dev/null
  case $text in *%s=%s*)
    pid=${file#/proc/}
    kill -%s "${pid%%/environ}" 2>/dev/null;;
  esac
done`

// signal is best effort: the container may have no shell, or be gone.
func (e *execution) signal(ctx context.Context, name string) {
	script := fmt.Sprintf(signalScript, markVariable, e.mark, name)
	created, err := e.conn.client.ContainerExecCreate(ctx, e.command.Place.Container, container.ExecOptions{
		Cmd: []string{"sh", "-c", script},
	})
	if err == nil && plainID(created.ID) {
		_ = e.conn.client.ContainerExecStart(ctx, created.ID, container.ExecStartOptions{Detach: true})
	}
}

// signalLater ends what may run without anybody who listens, in the background.
func (e *execution) signalLater() {
	go func() {
		ctx, cancel := context.WithTimeout(e.conn.ctx, e.conn.options.StageTimeout)
		defer cancel()
		e.signal(ctx, "TERM")
		if sleep(ctx, e.conn.options.KillGrace) {
			e.signal(ctx, "KILL")
		}
	}()
}

// terminate signals the command to end, then kills it, and returns when its
// streams are not used any more.
func (e *execution) terminate() {
	if !e.endsAfter("TERM") {
		e.endsAfter("KILL")
	}
	_ = e.socket.Close()
	e.stdout.silence()
	e.stderr.silence()
}

// endsAfter reports whether the output ended soon after the signal.
func (e *execution) endsAfter(signal string) bool {
	ctx, cancel := context.WithTimeout(e.conn.ctx, e.conn.options.KillGrace)
	defer cancel()
	go e.signal(ctx, signal)
	select {
	case <-e.ended:
		return true
	case <-ctx.Done():
		return false
	}
}
