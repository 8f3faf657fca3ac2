// Package top shows connections as they change.
//
// It asks the live API again and again and shows each answer on a page of its own,
// as a table that the user sorts by keys. Where the output is not a terminal it prints
// one table and ends.
//
// Trade-off: rates are differences between two answers, so the first page has none.
package top

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/terminal"
)

type options struct {
	*plugin.Factory
	pool     string
	sort     string
	interval time.Duration
	once     bool
	view     view
}

// New returns the command top.
func New(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f}
	command := &cobra.Command{
		Use:   "top [POOL]",
		Short: "Watch connections as they change",
		Long: "Watch connections as they change, busiest first.\n\n" +
			"Keys: u, a, i, r and n sort by uses per second, age, uses now, round trip and name; R reverses; p shows pools\n" +
			"instead of connections; q quits. Where the output is not a terminal, the table is printed once.",
		Example: f.Examples(
			"all connections of the namespace", "top",
			"those of a pool, the slowest first", "top web --sort r",
			"the pools of all namespaces, once", "top -A --pools --once"),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: f.CompletePool,
		RunE:              f.LiveE(o.complete, o.validate, o.run),
	}
	plugin.RegisterAllNamespaces(f, command)
	flags := command.Flags()
	flags.DurationVar(&o.interval, "interval", 2*time.Second, "How often to look")
	flags.StringVar(&o.sort, "sort", "u", "Key to sort by at first: u, a, i, r or n")
	flags.BoolVar(&o.view.pools, "pools", false, "Show pools instead of connections")
	flags.BoolVar(&o.once, "once", false, "Print the table once")
	return command
}

func (o *options) complete(_ *cobra.Command, args []string) error {
	o.view.namespaces = o.AllNamespaces
	o.view.by = sortKey((o.sort + " ")[0])
	o.once = o.once || !terminal.Is(o.Out) || !terminal.Is(o.In)
	o.pool = plugin.First(args)
	return nil
}

func (o *options) validate() error {
	switch {
	case len(o.sort) != 1 || orders[o.view.by] == nil:
		return fmt.Errorf("--sort %q is unknown: use u, a, i, r or n", o.sort)
	case o.interval < 100*time.Millisecond:
		return fmt.Errorf("--interval %s is too short: the least is 100ms", o.interval)
	}
	return nil
}

func (o *options) run(ctx context.Context, live *client.Client) error {
	var options metav1.ListOptions
	if o.pool != "" {
		options.FieldSelector = fields.OneTermEqualSelector(livev1alpha1.FieldPool, o.pool).String()
	}
	look := func(ctx context.Context) (snapshot, error) {
		list, err := cluster.AllConnections(ctx, live, o.Namespace, options)
		if err != nil {
			return snapshot{}, o.Cluster.Explain(ctx, err, cluster.AskedForConnections(o.Namespace))
		}
		return newSnapshot(o.Now(), list.Items), nil
	}
	// A failure of the first look is an error, and no line on a page that disappears.
	now, err := look(ctx)
	if err != nil {
		return err
	}
	if o.pool != "" {
		if err := o.Cluster.RequirePool(ctx, o.Namespace, o.pool); err != nil {
			return err
		}
	}
	if o.once {
		o.view.table(now).Write(o.Out)
		return nil
	}
	return o.watch(ctx, look, now)
}

// watch shows the page until the user quits.
func (o *options) watch(ctx context.Context, look lookFunc, now snapshot) error {
	raw, err := terminal.MakeRaw(ctx, o.In)
	if err != nil {
		return err
	}
	defer raw.Restore()
	if _, err := io.WriteString(o.Out, enterPage); err != nil {
		return err
	}
	defer fmt.Fprint(o.Out, leavePage)
	ctx, cancel := context.WithCancel(ctx)
	seen := make(chan sample)
	w := watcher{out: o.Out, view: o.view, now: now, size: raw.Size}
	var looking sync.WaitGroup
	looking.Go(func() { every(ctx, o.interval, look, seen) })
	defer looking.Wait()
	defer cancel()
	return w.show(ctx, keys(ctx, o.In), raw.Sizes, seen)
}

// lookFunc asks the live API for its connections.
type lookFunc func(context.Context) (snapshot, error)

type sample struct {
	snapshot

	err error
}

// every looks again and again. A long look delays the next one.
func every(ctx context.Context, interval time.Duration, look lookFunc, seen chan<- sample) {
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
		case seen <- sample{now, err}:
		case <-ctx.Done():
			return
		}
	}
}

// keys delivers what is typed. Its last read of the terminal cannot be canceled,
// and ends with the process.
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

type watcher struct {
	out     io.Writer
	view    view
	now     snapshot
	problem string
	size    client.Size
}

// show draws each change, until the user quits or the terminal is gone.
func (w *watcher) show(ctx context.Context, pressed <-chan byte, sizes <-chan client.Size, seen <-chan sample) error {
	for {
		if err := draw(w.out, page(w.view, w.now, w.problem, w.size)); err != nil {
			return err
		}
		select {
		case key, ok := <-pressed:
			if ok {
				w.view, ok = w.view.press(key)
			}
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

// see takes in a sample. One that failed leaves the page as it was, with the error.
func (w *watcher) see(s sample) {
	if s.err != nil {
		w.problem = "error: " + s.err.Error()
		return
	}
	w.problem, w.now = "", s.since(w.now)
}

// Escape sequences that show another page, and come back to the one before.
const (
	enterPage = "\x1b[?1049h\x1b[?25l"
	leavePage = "\x1b[?25h\x1b[?1049l"
	topLeft   = "\x1b[H"
	clearLine = "\x1b[K"
	clearRest = "\x1b[J"
)

const keyHelp = "u uses  a age  i in use  r round trip  n name  R reverse  p pools  q quit"

// page returns the lines of one screen: the summary, the last error, as much of
// the table as there is room for, and the keys.
func page(v view, s snapshot, problem string, size client.Size) []string {
	body := v.table(s).Lines()
	head := []string{s.summary() + "  (" + s.at.Format("15:04:05") + ")", display.OneLine(problem)}
	room := max(int(size.Rows)-len(head)-1, 1)
	lines := slices.Concat(head, body[:min(len(body), room)], []string{keyHelp})
	lines = lines[:min(len(lines), int(size.Rows))]
	for i, line := range lines {
		if runes := []rune(line); len(runes) > int(size.Columns) {
			lines[i] = string(runes[:size.Columns])
		}
	}
	return lines
}

// draw replaces what is shown. A raw terminal needs both characters of a line's end.
func draw(out io.Writer, lines []string) error {
	_, err := io.WriteString(out, topLeft+strings.Join(lines, clearLine+"\r\n")+clearLine+clearRest)
	return err
}
