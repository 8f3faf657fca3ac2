// Command manager is the connpool operator: it reads flags, chooses the drivers,
// and runs package operator.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/connectiontarget"
	"github.com/connpool/connpool/internal/driver/docker"
	"github.com/connpool/connpool/internal/driver/kube"
	"github.com/connpool/connpool/internal/driver/ssh"
	"github.com/connpool/connpool/internal/embedded"
	"github.com/connpool/connpool/internal/logs"
	"github.com/connpool/connpool/internal/logs/output"
	"github.com/connpool/connpool/internal/operator"
	"github.com/connpool/connpool/internal/version"
)

// set is the version that the build sets.
var set = version.Unset

func main() {
	embedded.Authorities()
	stderr := os.Stderr // run captures what libraries print to it
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(stderr, "manager:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	s, err := parse(arguments)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	case s.printVersion:
		fmt.Println(s.operator.Version)
		return nil
	}
	queue := output.New(os.Stderr)
	defer queue.Close(lastLines)
	logger := s.log(queue)
	ctrl.SetLogger(logger)
	klog.SetLogger(logger) // of client-go and the API server
	if err := logs.Capture(logger); err != nil {
		return err
	}
	logger.WithName("setup").Info("Starting the operator", s.facts()...)
	return operator.Run(ctrl.SetupSignalHandler(), s.operator, s.drivers())
}

// lastLines bounds how long the last lines of the log may take to be written.
const lastLines = 2 * time.Second

// log returns the log, and sets that of audit lines, which have more room. Other lines of the
// same words are sampled when there are more than 100 in a second, and left out by
// --zap-log-level; audit lines are not.
func (s *settings) log(queue *output.Queue) logr.Logger {
	logger := logs.WithoutDepartures(logs.WithoutBodies(zap.New(zap.UseFlagOptions(&s.logging), zap.WriteTo(queue.Writer(output.Size/2)))))
	queue.TellLost(func(lines uint64) {
		logger.Error(nil, "Lines of this log are lost, because what reads it was too slow", "lines", lines)
	})
	const unsampled = zapcore.Level(-2) // a level at which controller-runtime does not sample
	audit := queue.Writer(output.Size)
	s.operator.Audit = operator.AuditLog{
		Logger:  zap.New(zap.UseFlagOptions(&s.logging), zap.WriteTo(audit), zap.Level(unsampled)),
		Dropped: audit.Dropped,
	}
	return logger
}

// settings are what the flags say.
type settings struct {
	operator     operator.Options
	qps          float64 // of each kubeconfig, as burst is
	burst        int
	logging      zap.Options
	printVersion bool
	arguments    []string
}

// parse returns valid settings. It prints the flags and returns flag.ErrHelp when
// the arguments ask for help.
func parse(arguments []string) (settings, error) {
	s := settings{operator: operator.Options{Version: version.Of(set)}, arguments: arguments}
	flags := flag.NewFlagSet("manager", flag.ContinueOnError)
	s.operator.Register(flags)
	flags.Float64Var(&s.qps, "kubernetes-qps", 50,
		"requests, commands and port-forwards that may begin in a second with the same kubeconfig, over time")
	flags.IntVar(&s.burst, "kubernetes-burst", 100, "how many of them may begin at once")
	flags.BoolVar(&s.printVersion, "version", false, "print the version and exit")
	s.logging.BindFlags(flags)
	if err := flags.Parse(arguments); err != nil || s.printVersion {
		return s, err
	}
	return s, s.validate(flags.Args())
}

func (s *settings) validate(arguments []string) error {
	switch {
	case len(arguments) > 0:
		return fmt.Errorf("unexpected argument %q; all settings are flags, see --help", arguments[0])
	case s.qps <= 0 || s.burst <= 0:
		return errors.New("--kubernetes-qps and --kubernetes-burst must be greater than 0")
	}
	return s.operator.Validate()
}

// facts are what the first line of the log says: which program runs, and how it differs
// from its defaults. No flag holds a secret.
func (s *settings) facts() []any {
	return []any{
		"version", s.operator.Version, "go", runtime.Version(), "platform", runtime.GOOS + "/" + runtime.GOARCH,
		"replica", s.operator.Replica, "arguments", s.arguments,
	}
}

// drivers are the protocols that this build speaks.
func (s *settings) drivers() connectiontarget.Drivers {
	return connectiontarget.Drivers{
		v1alpha1.TargetTypeSSH:        ssh.New(ssh.Options{}),
		v1alpha1.TargetTypeDocker:     docker.New(docker.Options{}),
		v1alpha1.TargetTypeKubernetes: kube.New(kube.Options{QPS: float32(s.qps), Burst: s.burst}),
	}
}
