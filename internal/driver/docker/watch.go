package docker

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/connpool/connpool/internal/driver"
)

// watch looks whether the containers of long commands live. An engine ends the streams
// of a command when its container ends in an ordinary way. When the container's shim is
// killed, or the command is not in the container's own process namespace, the engine
// forgets the command but never ends its streams.
//
// It asks for each container, not for each command, and only about commands that are
// older than the interval. Events would need one more socket for each connection, and a
// right that commands do not need.
type watch struct {
	conn *conn

	mu       sync.Mutex // guards what follows
	commands map[*execution]time.Time
	timer    *time.Timer // nil while there is no command
}

// life is one run of a container. A restart begins another.
type life struct{ id, started string }

// add watches a command until remove is called. It closes e.orphaned if the container
// dies.
func (w *watch) add(e *execution) (remove func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.commands == nil {
		w.commands = map[*execution]time.Time{}
	}
	w.commands[e] = time.Now()
	w.schedule()
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.commands, e)
	}
}

// schedule is called under the lock.
func (w *watch) schedule() {
	if w.timer == nil && len(w.commands) > 0 && w.conn.ctx.Err() == nil {
		w.timer = time.AfterFunc(w.conn.options.WatchInterval, w.look)
	}
}

func (w *watch) look() {
	for container, commands := range w.long() {
		w.lookAt(container, commands)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = nil
	w.schedule()
}

// long returns the commands that are older than the interval, by container.
func (w *watch) long() map[string][]*execution {
	w.mu.Lock()
	defer w.mu.Unlock()
	found := map[string][]*execution{}
	for e, begun := range w.commands {
		if time.Since(begun) >= w.conn.options.WatchInterval {
			found[e.process.container] = append(found[e.process.container], e)
		}
	}
	return found
}

func (w *watch) lookAt(container string, commands []*execution) {
	ctx, cancel := context.WithTimeout(w.conn.ctx, w.conn.options.StageTimeout)
	defer cancel()
	now, err := w.life(ctx, container)
	if err != nil && !errdefs.IsNotFound(err) {
		return // nothing is known; the next look may tell
	}
	for _, e := range commands {
		if err != nil || !e.belongsTo(ctx, now) {
			w.orphan(e)
		}
	}
}

func (w *watch) orphan(e *execution) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, watched := w.commands[e]; watched {
		delete(w.commands, e)
		close(e.orphaned)
	}
}

// belongsTo reports whether the command was started in this life of the container, as far
// as is known. At the first look the engine tells: it forgets the commands of earlier
// ones. Only the watch calls it.
func (e *execution) belongsTo(ctx context.Context, now life) bool {
	if e.life != (life{}) {
		return e.life == now
	}
	found, err := e.process.inspect(ctx)
	switch {
	case errdefs.IsNotFound(err):
		return false
	case err != nil:
		return true
	case found.ContainerID != "" && found.ContainerID != now.id:
		return false // another container has the name now
	}
	e.life = now
	return now.started != ""
}

// life returns that of a container, which has no beginning if the container does not
// run.
func (w *watch) life(ctx context.Context, container string) (found life, err error) {
	err = get(ctx, w.conn, "/containers/"+container+"/json", maxAnswer, func(body *json.Decoder) error {
		found, err = readLife(body)
		return err
	})
	return found, err
}

// readLife reads the beginning of a container's description. The rest may be long, and is
// not needed.
func readLife(from *json.Decoder) (found life, err error) {
	if _, err := from.Token(); err != nil {
		return life{}, err
	}
	var state struct {
		Running   bool
		StartedAt string
	}
	for hasState := false; !hasState || found.id == ""; {
		name, err := from.Token()
		if err != nil {
			return life{}, err
		}
		var into any = new(json.RawMessage)
		switch name {
		case "Id":
			into = &found.id
		case "State":
			into, hasState = &state, true
		}
		if err := from.Decode(into); err != nil {
			return life{}, err
		}
	}
	if state.Running {
		found.started = state.StartedAt
	}
	return found, nil
}

// get has an answer of the engine read, of which no more than a number of bytes is taken.
func get(ctx context.Context, c *conn, path string, limit int64, read func(*json.Decoder) error) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, apiURL(c, path), http.NoBody)
	if err != nil {
		return err
	}
	response, err := bounded{c.transport, limit}.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	switch code := response.StatusCode; {
	case code < http.StatusMultipleChoices:
		return read(json.NewDecoder(response.Body))
	case code == http.StatusNotFound:
		return errdefs.ErrNotFound
	}
	return errors.New("the engine answers with " + driver.Sanitize(response.Status))
}

func apiURL(c *conn, path string) string {
	return "http://" + host + "/v" + c.client.ClientVersion() + path
}
