// Command lab starts and stops a place to try the operator on this machine; see
// package test/lab.
package main

import (
	"os"

	"github.com/connpool/connpool/test/lab"
)

func main() { os.Exit(lab.Main(os.Args[1:], os.Stdout, os.Stderr)) }
