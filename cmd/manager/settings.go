package main

import (
	"errors"
	"flag"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/connectiontarget"
	"github.com/connpool/connpool/internal/driver/docker"
	"github.com/connpool/connpool/internal/driver/kube"
	"github.com/connpool/connpool/internal/driver/ssh"
	"github.com/connpool/connpool/internal/operator"
)

// settings are what the flags say.
type settings struct {
	operator     operator.Options
	kubernetes   kubernetesSettings
	logging      zap.Options
	printVersion bool
}

// kubernetesSettings are those of targets of type kubernetes.
type kubernetesSettings struct {
	qps   float64
	burst int
}

// parse returns valid settings. It prints the flags and returns flag.ErrHelp when
// the arguments ask for help.
func parse(arguments []string) (settings, error) {
	s := settings{operator: operator.Options{Version: version}}
	flags := flag.NewFlagSet("manager", flag.ContinueOnError)
	s.operator.Register(flags)
	flags.Float64Var(&s.kubernetes.qps, "kubernetes-qps", 50,
		"requests, commands and port-forwards that may begin in a second with the same kubeconfig, over time")
	flags.IntVar(&s.kubernetes.burst, "kubernetes-burst", 100, "how many of them may begin at once")
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
	case s.kubernetes.qps <= 0 || s.kubernetes.burst <= 0:
		return errors.New("--kubernetes-qps and --kubernetes-burst must be greater than 0")
	}
	return s.operator.Validate()
}

// drivers are the protocols that this build speaks.
func (s *settings) drivers() connectiontarget.Drivers {
	return connectiontarget.Drivers{
		v1alpha1.TargetTypeSSH:        ssh.New(ssh.Options{}),
		v1alpha1.TargetTypeDocker:     docker.New(docker.Options{}),
		v1alpha1.TargetTypeKubernetes: kube.New(kube.Options{QPS: float32(s.kubernetes.qps), Burst: s.kubernetes.burst}),
	}
}
