// Package e2e tries the operator as its users do: the built programs, real
// containers and pods, and other people's docker, kubectl and helm, unchanged.
//
//	make test-e2e ARGS='-run Docker -v'
//
// One world is started for all tests: a control plane, a node, a Docker engine, an
// SSH server and the operator, each from its own package below test/. It needs
// root and, warm, about 10 seconds. The tests have the build tag e2e, so that
// `go test ./...` stays what everybody can run.
//
// Tests go through the kubectl plugin where a person would, and directly over HTTP
// where a program would.
package e2e
