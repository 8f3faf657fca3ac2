package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
)

// topOptions watch connections.
type topOptions struct {
	*factory
	scope

	pool     string
	sort     string
	interval time.Duration
	once     bool
	view     topView
}

// newTopCommand shows connections as they change.
func newTopCommand(f *factory) *cobra.Command {
	o := &topOptions{factory: f}
	command := &cobra.Command{
		Use:   "top [POOL]",
		Short: "Watch connections as they change",
		Long: "Watch connections as they change, busiest first.\n\n" +
			"Keys: u, a, i, r and n sort by uses per second, age, uses now, round trip and name; R reverses; p shows pools\n" +
			"instead of connections; q quits. Where the output is no terminal, the table is printed once.",
		Example: f.examples(
			"all connections of the namespace", "top",
			"those of a pool, the slowest first", "top web --sort r",
			"the pools of all namespaces, once", "top -A --pools --once"),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: f.completePools,
		RunE:              runs(o),
	}
	o.scope.register(command)
	flags := command.Flags()
	flags.DurationVar(&o.interval, "interval", 2*time.Second, "How often to look")
	flags.StringVar(&o.sort, "sort", "u", "Key to sort by at first: u, a, i, r or n")
	flags.BoolVar(&o.view.pools, "pools", false, "Show pools instead of connections")
	flags.BoolVar(&o.once, "once", false, "Print the table once")
	return command
}

func (o *topOptions) complete(_ *cobra.Command, args []string) error {
	o.pool = first(args)
	o.view.namespaces = o.all
	o.view.order = topOrder((o.sort + " ")[0])
	o.once = o.once || !isTerminal(o.Out) || !isTerminal(o.In)
	return o.scope.complete(o.factory)
}

func (o *topOptions) validate() error {
	switch {
	case o.pool != "" && o.all:
		return errNameAndAll
	case len(o.sort) != 1 || topOrders[o.view.order] == nil:
		return fmt.Errorf("--sort %q is unknown: use u, a, i, r or n", o.sort)
	case o.interval < 100*time.Millisecond:
		return fmt.Errorf("--interval %s is too short: the least is 100ms", o.interval)
	}
	return nil
}

func (o *topOptions) run(ctx context.Context) error {
	live, err := o.live()
	if err != nil {
		return err
	}
	var options metav1.ListOptions
	if o.pool != "" {
		options.FieldSelector = fields.OneTermEqualSelector(livev1alpha1.FieldPool, o.pool).String()
	}
	look := func(ctx context.Context) (snapshot, error) {
		list, err := allConnections(ctx, live, o.scope.namespace, options)
		if err != nil {
			return snapshot{}, o.explain(ctx, err, askedForConnections(o.scope.namespace))
		}
		return newSnapshot(o.now(), list.Items), nil
	}
	// What fails at first is told plainly, and not on a page that goes away.
	now, err := look(ctx)
	if err != nil {
		return err
	}
	if o.once {
		o.view.table(now).write(o.Out)
		return nil
	}
	return o.watch(ctx, look, now)
}

// watch shows a page until the user quits.
func (o *topOptions) watch(ctx context.Context, look lookFunc, now snapshot) error {
	keyboard, ok := o.In.(*os.File)
	if !ok {
		return errors.New("standard input is no terminal")
	}
	terminal, err := openTerminal(ctx, keyboard)
	if err != nil {
		return err
	}
	defer terminal.restore()
	if _, err := io.WriteString(o.Out, enterPage); err != nil {
		return err
	}
	defer fmt.Fprint(o.Out, leavePage)
	ctx, cancel := context.WithCancel(ctx)
	seen := make(chan sight)
	w := watcher{out: o.Out, view: o.view, now: now, size: terminal.size}
	done := make(chan struct{})
	go func() {
		defer close(done)
		every(ctx, o.interval, look, seen)
	}()
	defer func() {
		cancel()
		<-done
	}()
	return w.show(ctx, keys(ctx, keyboard), terminal.sizes, seen)
}

// lookFunc asks what there is now.
type lookFunc func(context.Context) (snapshot, error)

// sight is what a look has shown.
type sight struct {
	snapshot

	err error
}

// every looks again and again. A look that takes longer than the interval delays
// the next one.
func every(ctx context.Context, interval time.Duration, look lookFunc, seen chan<- sight) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now, err := look(ctx)
		select {
		case seen <- sight{now, err}:
		case <-ctx.Done():
			return
		}
	}
}

// keys delivers what is typed. Its last read of the terminal stays behind.
func keys(ctx context.Context, keyboard io.Reader) <-chan byte {
	pressed := make(chan byte)
	go func() {
		defer close(pressed)
		key := make([]byte, 1)
		for {
			if _, err := io.ReadFull(keyboard, key); err != nil {
				return
			}
			select {
			case pressed <- key[0]:
			case <-ctx.Done():
				return
			}
		}
	}()
	return pressed
}

// watcher is the page and what is on it.
type watcher struct {
	out     io.Writer
	view    topView
	now     snapshot
	problem string
	size    client.Size
}

// show draws the page whenever something changes, until the user quits or the
// terminal is gone.
func (w *watcher) show(ctx context.Context, pressed <-chan byte, sizes <-chan client.Size, seen <-chan sight) error {
	for {
		if err := draw(w.out, page(w.view, w.now, w.problem, w.size)); err != nil {
			return err
		}
		select {
		case key, ok := <-pressed:
			w.view, ok = w.press(key, ok)
			if !ok {
				return nil
			}
		case size, ok := <-sizes:
			if !ok {
				return nil
			}
			w.size = size
		case s := <-seen:
			w.see(s)
		case <-ctx.Done():
			return nil
		}
	}
}

func (w *watcher) press(key byte, ok bool) (topView, bool) {
	if !ok {
		return w.view, false
	}
	return w.view.press(key)
}

// see takes in a look. One that failed leaves what was seen before.
func (w *watcher) see(s sight) {
	if s.err != nil {
		w.problem = "error: " + s.err.Error()
		return
	}
	w.problem, w.now = "", s.since(w.now)
}
