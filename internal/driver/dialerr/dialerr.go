// Package dialerr classifies why a driver got no byte stream to its server, with
// the sentence that tells the user what to check.
//
//	raw, err := endpoint.Dial(ctx, "tcp", address)
//	if err != nil {
//		return dialerr.Connect(err, address, hints)
//	}
//
// What goes wrong after that, in TLS or in a protocol, the drivers classify
// themselves.
package dialerr

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/connpool/connpool/internal/driver"
)

// Hints are the words of one protocol in the sentences of Connect.
type Hints struct {
	// Address is what says where the server is, such as "the address".
	Address string
	// Name is what to check if the name does not resolve, such as "its spelling".
	Name string
	// Port is what to check if the server refuses connections, such as "the port".
	Port string
	// Server is what should listen there, such as "the SSH server".
	Server string
}

// Connect classifies an error of a driver.DialFunc. The result belongs to the
// caller, also if the error was classified before.
func Connect(err error, address string, hints Hints) *driver.Error {
	if classified, ok := driver.Classified(err); ok {
		return classified
	}
	return classify(err, address, hints).Because(err)
}

func classify(err error, address string, hints Hints) *driver.Error {
	_, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case isDNS:
		return driver.Errorf(driver.DNSError, driver.StageResolve,
			"the name of %s does not resolve; check %s and the cluster's DNS", address, hints.Name)
	case errors.Is(err, context.Canceled):
		return driver.Errorf(driver.Timeout, driver.StageConnect, "the caller gave up")
	case IsTimeout(err):
		return driver.Errorf(driver.Timeout, driver.StageConnect,
			"%s did not answer in time; check %s, the network and firewalls", address, hints.Address)
	}
	result := driver.Errorf(driver.Unreachable, driver.StageConnect, "%s", unreachable(err, address, hints))
	result.PortRefused = errors.Is(err, syscall.ECONNREFUSED)
	return result
}

func unreachable(err error, address string, hints Hints) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("%s refuses connections; check %s and that %s runs", address, hints.Port, hints.Server)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "the operator has no file descriptor left for " + address +
			"; raise its limit of open files, or lower size.max of some pools"
	case onSocket(err) && errors.Is(err, os.ErrNotExist):
		return fmt.Sprintf("there is no socket %s; check the path and that %s runs", address, hints.Server)
	case onSocket(err) && errors.Is(err, os.ErrPermission):
		return "the operator may not use the socket " + address + "; let its user or group read and write it"
	}
	return fmt.Sprintf("no connection to %s; check %s, the network and firewalls", address, hints.Address)
}

// onSocket reports whether the error is about a socket in the file system.
func onSocket(err error) bool {
	operation, ok := errors.AsType[*net.OpError](err)
	return ok && operation.Net == "unix"
}

// IsTimeout reports whether a deadline ended the operation, ours or the network's.
func IsTimeout(err error) bool {
	network, isNetwork := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || isNetwork && network.Timeout()
}
