// Command manager is the connpool operator: it reads flags, chooses the drivers,
// and runs package operator.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/connpool/connpool/internal/operator"
)

// version is set when the binary is built.
var version = "dev"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "manager:", err)
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
		fmt.Println(version)
		return nil
	}
	logger := zap.New(zap.UseFlagOptions(&s.logging))
	ctrl.SetLogger(logger)
	klog.SetLogger(logger) // of client-go and the API server
	return operator.Run(ctrl.SetupSignalHandler(), s.operator, s.drivers())
}
