package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/test/controlplane/binaries"
	"github.com/connpool/connpool/test/controlplane/process"
)

// refresh is how often the tables are read.
const refresh = time.Second

// RunOptions say how to run the operator in a lab.
type RunOptions struct {
	Options

	// MetricsPort is the port of the operator's metrics; 0 for any free one.
	MetricsPort int
	// LivePort is the port of the operator's live API; 0 for any free one.
	LivePort int
	// Once ends the run as soon as the samples are warm.
	Once bool
	// Timeout bounds how long the samples may take to get warm, with Once.
	Timeout time.Duration
}

// Run runs a lab, the samples and the operator, and shows the tables on out
// until ctx ends or something breaks. Nothing of it is left when it returns.
func Run(ctx context.Context, options RunOptions, out io.Writer) error {
	say := elapsed(out)
	where := folder(options.Dir)
	if pid, isRunning := where.operated(); isRunning {
		return runningError{pid}
	}
	if err := errors.Join(free("--metrics-port", options.MetricsPort), free("--live-port", options.LivePort)); err != nil {
		return err
	}
	path, err := buildOperator(ctx, say)
	if err != nil {
		return err
	}
	l, err := startOrJoin(ctx, options.Options, say)
	if err != nil {
		return err
	}
	defer func() {
		l.Stop()
		say("%s", l.leaves(say))
	}()
	return l.operate(ctx, path, options, out)
}

// operated reports whether the folder's lab has an operator already.
func (f folder) operated() (pid int, isRunning bool) {
	operator, err := process.ReadPid(f.path("manager.pid"))
	if err != nil || operator == 0 || !isProcess(operator) {
		return 0, false
	}
	return f.running()
}

// startOrJoin starts a lab, or uses one that runs in the background.
func startOrJoin(ctx context.Context, options Options, say binaries.Say) (*Lab, error) {
	where := folder(options.Dir)
	pid, isRunning := where.running()
	if !isRunning {
		return Start(ctx, options, say)
	}
	say("using the lab that is running (process %d)", pid)
	return join(where, pid, say)
}

// leaves says what keeps running. It waits for a node, which ends with its lab.
func (l *Lab) leaves(say binaries.Say) string {
	if l.control == nil {
		return "stopped the operator; the lab runs on: `make lab-down` stops it"
	}
	if _, hasNode := l.folder.node().running(); hasNode {
		say("waiting for the node and the Docker engine to end")
	}
	if err := l.folder.node().awaitEnd(); err != nil {
		return err.Error()
	}
	return "stopped: nothing is left running"
}

func (l *Lab) operate(ctx context.Context, path string, options RunOptions, out io.Writer) error {
	api, err := client.New(l.access.Config, client.Options{})
	if err != nil {
		return err
	}
	if err := l.folder.applySamples(ctx, api); err != nil {
		return err
	}
	l.say("applied the samples in %s", short(l.folder.samples()))
	address, err := l.registerAPI(ctx, options.LivePort)
	if err != nil {
		return err
	}
	operator, err := l.startOperator(path, options.MetricsPort, address)
	if err != nil {
		return err
	}
	defer func() {
		l.say("stopping")
		operator.Stop(2 * drain)
	}()
	l.say("started the operator; its log is %s", short(l.folder.path("manager.log")))
	tables, err := newTables(l.access.Config)
	if err != nil {
		return err
	}
	defer tables.client.CloseIdleConnections()
	s := &show{lab: l, tables: tables, operator: operator, screen: newScreen(out), start: time.Now()}
	if options.Once {
		return s.once(ctx, options.Timeout)
	}
	defer s.screen.leave()
	return s.watch(ctx)
}

// show is the live view of a run.
type show struct {
	lab      *Lab
	tables   *tables
	operator *process.Process
	screen   *screen
	start    time.Time
	warm     bool
	news     string
}

// once returns when the samples are warm, or says why they are not.
func (s *show) once(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	last := view{}
	err := s.each(ctx, func(now view) (done bool) {
		last = now
		return now.settled()
	})
	if last.pools != nil {
		fmt.Fprint(s.screen.out, "\n", last.String(), "\n")
	}
	if err == nil {
		s.lab.say("all samples are as they should be, %s after the operator's start", seconds(time.Since(s.start)))
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the samples are not warm after %s; the end of the operator's log:\n%s", timeout, s.operator.LastLines(20))
	}
	return err
}

// watch shows the tables until ctx ends, which is how a user ends a run.
func (s *show) watch(ctx context.Context) error {
	err := s.each(ctx, func(now view) (done bool) {
		s.update(now)
		return false
	})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// each calls look with a new view again and again until it is done, ctx ends or
// a part of the run has ended.
func (s *show) each(ctx context.Context, look func(view) (done bool)) error {
	ticker := time.NewTicker(refresh)
	defer ticker.Stop()
	for {
		now, err := s.tables.view(ctx)
		if err == nil && look(now) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.operator.Exited():
			return s.operator.Err()
		case <-s.lab.Exited():
			return s.lab.Err()
		case <-ticker.C:
		}
	}
}

// update shows a view: always on a terminal; elsewhere when all is warm for the
// first time, and then when it differs.
func (s *show) update(now view) {
	isFirst := !s.warm && now.settled()
	if isFirst {
		s.warm = true
	}
	news := now.news()
	if !s.screen.isLive() && (!s.warm || news == s.news) {
		return
	}
	s.news = news
	s.screen.show(s.page(now, isFirst))
}

func (s *show) page(now view, isFirst bool) string {
	page := "\n" + now.String() + "\n" + s.state(now)
	if s.screen.isLive() || isFirst {
		page += "\n" + s.hints()
	}
	return page
}

func (s *show) state(now view) string {
	state := "not all is warm at the moment: STATUS says why, and kubectl describe says more."
	switch {
	case now.settled():
		state = fmt.Sprintf("all is warm but %s, which is down on purpose.", downSample)
	case !s.warm:
		state = fmt.Sprintf("getting warm, %s so far", seconds(time.Since(s.start)))
	}
	return fmt.Sprintf("%s  %s\n", time.Now().Format(time.TimeOnly), state)
}

func (s *show) hints() string {
	where := s.lab.folder
	hints := "In another terminal:\n" + environment(where) + fmt.Sprintf(`  kubectl connpool exec web/web-1 -- uname -a       # a command over a warm connection
  kubectl connpool run --all web -- uptime         # on every target of the pool
  kubectl connpool exec -it web/web-2              # a shell; port-forward, cp and top are there too
  kubectl connpool check %s                     # what is wrong with it, stage by stage
  kubectl get connectionpools,connectiontargets,connections
  kubectl scale connectionpool web --replicas=3    # more warm connections to each target
  kubectl apply --server-side -f %-17s # after editing the samples
  go run ./hack/lab ssh-stop                       # the SSH server goes away
  go run ./hack/lab ssh-start                      # and comes back: watch the pools recover
`, downSample, short(where.samples()))
	if _, hasNode := where.node().running(); hasNode {
		hints += containerHints
	} else {
		hints += "  make lab-node-up                                 # adds pods and a Docker engine; needs root\n"
	}
	return hints + "Ctrl-C ends everything.\n"
}

// containerHints are about what a node adds.
const containerHints = `  kubectl connpool exec ci --container web -- ps   # in a container of the lab's Docker engine
  kubectl connpool exec cluster --pod web -- ps    # in a pod of the lab's node
  kubectl connpool shell cluster --pod web         # a terminal in it
  kubectl connpool port-forward cluster --pod web 8080
  kubectl connpool proxy ci -- docker ps           # docker, over the pool
  kubectl connpool proxy cluster -- kubectl get pods
`

// nodeHints are for a user who has just added a node.
func nodeHints(where folder) string {
	first := "The pools are ready when the operator runs: `make run` starts it.\n"
	if _, isOperated := where.operated(); isOperated {
		first = ""
	}
	return first + "Next:\n" + environment(where) + containerHints +
		"  make lab-node-down                               # removes the node and the engine\n"
}

// environment is what a shell needs to know of the lab: where the kubectl plugin
// is, kubectl if there is no other one, and the cluster.
func environment(f folder) string {
	lines := "  export KUBECONFIG=" + f.kubeconfig() + "\n"
	root, err := binaries.Checkout()
	if err != nil {
		return lines
	}
	path := filepath.Join(root, "bin")
	if _, err := exec.LookPath("kubectl"); err != nil {
		path += string(filepath.ListSeparator) + filepath.Join(path, "k8s")
	}
	return "  export PATH=$PATH:" + path + "\n" + lines
}

// short makes a path relative to the working directory if that is shorter.
func short(path string) string {
	dir, err := os.Getwd()
	if err != nil {
		return path
	}
	relative, err := filepath.Rel(dir, path)
	if err != nil || len(relative) > len(path) {
		return path
	}
	return relative
}

// elapsed prints messages with the time since the beginning.
func elapsed(out io.Writer) binaries.Say {
	start := time.Now()
	return func(format string, args ...any) {
		fmt.Fprintf(out, "%6s  %s\n", seconds(time.Since(start)), fmt.Sprintf(format, args...))
	}
}
