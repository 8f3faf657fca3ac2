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
	"github.com/connpool/connpool/api/v1alpha1"
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
			"Keys: u, a, i, r and n sort by uses per second, age, uses now, round trip and name; R reverses the order; p\n" +
			"shows pools instead of connections; q quits. If the output is not a terminal, the table is printed once.",
		Example: f.Examples(
			"all connections of the namespace", "top",
			"those of a pool, the slowest first", "top web --sort r",
			"the pools of all namespaces, once", "top -A --pools --once"),
		Args:              plugin.Args(0, 1),
		ValidArgsFunction: f.CompletePool,
		RunE:              f.LiveE(o.complete, o.validate, o.run),
	}
	plugin.RegisterAllNamespaces(f, command)
	flags := command.Flags()
	flags.DurationVar(&o.interval, "interval", 2*time.Second, "How often to refresh")
	flags.StringVar(&o.sort, "sort", "u", "Initial sort key: u, a, i, r or n")
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
		return fmt.Errorf("--sort %q is not a valid key: use u, a, i, r or n", o.sort)
	case o.interval < 100*time.Millisecond:
		return fmt.Errorf("--interval %s is too short: use 100ms or more", o.interval)
	}
	return nil
}

func (o *options) run(ctx context.Context, live *client.Client) error {
	var options metav1.ListOptions
	if o.pool != "" {
		options.FieldSelector = fields.OneTermEqualSelector(livev1alpha1.FieldPool, o.pool).String()
	}
	look := func(ctx context.Context) (snapshot, error) { return o.look(ctx, live, options) }
	// A failure of the first look is an error, and no line on a page that disappears.
	now, err := look(ctx)
	if err != nil {
		return err
	}
	if o.pool != "" && len(now.rows) == 0 {
		if err := o.Cluster.RequirePool(ctx, o.Namespace, o.pool); err != nil {
			return err
		}
	}
	if o.once {
		o.view.table(o.view.rows(now), now.at, display.PaintFor(o.Out), false).Write(o.Out)
		return nil
	}
	return o.watch(ctx, look, now)
}

// look asks for connections and, at the same time, for the pools and what fails in them.
// The latter is little however many targets there are, and left out if it cannot be read.
func (o *options) look(ctx context.Context, live *client.Client, options metav1.ListOptions) (snapshot, error) {
	var pools []v1alpha1.ConnectionPool
	var asking sync.WaitGroup
	asking.Go(func() { pools = o.readPools(ctx) })
	list, err := cluster.AllConnections(ctx, live, o.Namespace, options)
	asking.Wait()
	if err != nil {
		return snapshot{}, o.Cluster.Explain(ctx, err, cluster.AskedForConnections(o.Namespace))
	}
	now := newSnapshot(o.Now(), list.Items).with(pools)
	now.dialing = cluster.SumOf(list.Counts).Dialing
	return now, nil
}

func (o *options) readPools(ctx context.Context) []v1alpha1.ConnectionPool {
	objects, err := o.Cluster.Objects()
	if err != nil {
		return nil
	}
	if o.pool == "" {
		pools, _ := objects.Pools(ctx, o.Namespace)
		return pools
	}
	pool, err := objects.Pool(ctx, o.Namespace, o.pool)
	if err != nil {
		return nil
	}
	return []v1alpha1.ConnectionPool{*pool}
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
	w := watcher{out: o.Out, view: o.view, now: now, size: raw.Size, paint: display.PaintFor(o.Out)}
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
	paint   display.Paint
}

// show draws each change, until the user quits or the terminal is gone.
func (w *watcher) show(ctx context.Context, pressed <-chan byte, sizes <-chan client.Size, seen <-chan sample) error {
	for {
		if err := draw(w.out, page(w.view, w.now, w.problem, w.size, w.paint)); err != nil {
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
func page(v view, s snapshot, problem string, size client.Size, paint display.Paint) []string {
	head := []string{s.summary() + "  (" + s.at.Format("15:04:05") + ")", paint.In(display.Red, display.OneLine(problem))}
	lines := slices.Concat(head, body(v, s, max(int(size.Rows)-len(head)-1, 1), paint), []string{keyHelp})
	lines = lines[:min(len(lines), int(size.Rows))]
	for i, line := range lines {
		lines[i] = cut(line, int(size.Columns))
	}
	return lines
}

// body returns the table, or as much of it as there are lines, and how much is cut. What
// is cut costs nothing more than its place in the order.
func body(v view, s snapshot, room int, paint display.Paint) []string {
	rows := v.rows(s)
	fitting := room - 1 // below the head
	if len(rows) > fitting && fitting > 0 {
		fitting--
	}
	lines := v.table(rows[:min(len(rows), fitting)], s.at, paint, true).Lines()
	if more := len(rows) - fitting; more > 0 && room > 1 {
		lines = append(lines, fmt.Sprintf("+%d more", more))
	}
	return lines
}

// cut shortens a line to so many characters. What changes its color is none.
func cut(line string, columns int) string {
	var b strings.Builder
	isColor, isColored := false, false
	for _, r := range line {
		switch {
		case r == '\x1b':
			isColor, isColored = true, !isColored
		case isColor:
			isColor = r != 'm'
		case columns == 0:
			if isColored {
				b.WriteString(display.ColorOff)
			}
			return b.String()
		default:
			columns--
		}
		b.WriteRune(r)
	}
	return b.String()
}

// draw replaces what is shown. A raw terminal needs both characters of a line's end.
func draw(out io.Writer, lines []string) error {
	_, err := io.WriteString(out, topLeft+strings.Join(lines, clearLine+"\r\n")+clearLine+clearRest)
	return err
}
