//go:build unix

package web

import "syscall"

// detached keeps Ctrl-C from the browser, which may be a child of the program that opens it.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
