// Package drivertest holds what proves a driver and what stands in for one:
// Run is the conformance suite that every driver passes against a real remote,
// and Fake is a driver in memory for the tests of those who use drivers.
//
// The suite asks only for what the driver package promises, so a failure is
// either a bug of the driver or a promise to be changed there for all. The fake
// deliberately imitates no protocol: whoever depends on one tests with it.
package drivertest
