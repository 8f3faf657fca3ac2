// Package integration tests the operator as a whole, against a real control plane
// (package test/controlplane) and real SSH servers, Docker engines and clusters.
//
//	go test ./test/integration -run Conditions -v
//
// All tests share one control plane and one operator, which runs in the test's own
// process, so that a test can look at its pools. Each test uses namespaces of its
// own. A test that breaks the control plane starts its own (see ownPlane), with an
// operator in a process of its own.
//
// After all tests, everything that came out of the operator is searched for
// credentials.
package integration
