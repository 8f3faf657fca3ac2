// Package e2e tests the operator as its users use it: the built programs, real
// containers and pods, and stock docker, kubectl and helm.
//
//	make test-e2e ARGS='-run Docker -v'
//
// One fixture is started for all tests: a control plane, a node, a Docker engine, an
// SSH server and the operator, each from its own package below test/. It needs
// root and about 10 seconds, once the programs are built. The tests have the build
// tag e2e, so that `go test ./...` runs without root.
//
// Tests use the kubectl plugin where a person would, and HTTP where a program
// would.
package e2e
