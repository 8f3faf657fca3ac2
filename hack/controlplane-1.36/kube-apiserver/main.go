// Command kube-apiserver is the API server of Kubernetes, built from its module.
package main

import (
	"os"
	_ "time/tzdata" // for CronJobs' time zones

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"

	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
