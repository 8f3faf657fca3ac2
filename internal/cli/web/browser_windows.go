package web

import "syscall"

// detached changes nothing: the program that opens the browser has ended by then.
func detached() *syscall.SysProcAttr { return nil }
