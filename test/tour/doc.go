// Package tour runs the commands of the README and of the tutorial, and compares what
// they print with what the documents say.
//
//	go test ./test/tour -v            # on this machine's sshd, and on the embedded server
//	go test ./test/tour -update       # write what was printed into the documents
//
// In an indented block, a line that begins with "$ " is a command, which goes on to the
// end of its here-document. The lines below it are what it prints, and "..." stands for
// any lines. What differs from run to run, such as times and fingerprints, is masked on
// both sides. A command that only looks is repeated until it prints what is expected.
//
// The part with containers and pods needs root, and the build tag e2e.
package tour
