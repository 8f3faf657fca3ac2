// Package installed tests the operator as it is installed: its image in pods of two
// nodes, in a namespace that enforces restricted pods, by the chart and by
// config/default, and what its users do from outside and from a pod.
//
//	make test-e2e ARGS='-run Installation -v'
//
// It needs root, and has the build tag e2e. The test is one life of an
// installation: installed, used, broken, upgraded, uninstalled, installed again.
package installed
