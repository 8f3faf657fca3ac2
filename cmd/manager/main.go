// Command manager is the connpool operator.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// version is set when the binary is built.
var version = "dev"

func main() {
	if err := run(ctrl.SetupSignalHandler, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "manager:", err)
		os.Exit(1)
	}
}

func run(signals signalHandler, arguments []string) error {
	flags := flag.NewFlagSet("manager", flag.ContinueOnError)
	var o options
	o.register(flags)
	logging := zap.Options{}
	logging.BindFlags(flags)
	if err := flags.Parse(arguments); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if o.printVersion {
		fmt.Println(version)
		return nil
	}
	if err := o.validate(flags.Args()); err != nil {
		return err
	}
	logger := zap.New(zap.UseFlagOptions(&logging))
	ctrl.SetLogger(logger)
	klog.SetLogger(logger) // of client-go and the API server
	return o.start(signals())
}
