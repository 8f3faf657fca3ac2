// Package drivertest tests drivers and stands in for them. Run is the conformance suite
// that every driver passes against a real server. Fake is a driver in memory, for the
// tests of packages that use drivers.
//
// The suite asks only for what the driver package promises. So a failure is a bug of
// the driver, or a promise that has to be changed there for all drivers. The fake
// imitates no protocol, on purpose: a test that depends on one uses a real driver.
package drivertest
