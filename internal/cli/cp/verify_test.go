package cp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/connpool/connpool/internal/cli/cp/digest"
	"github.com/connpool/connpool/internal/cli/cp/sftpclient"
	"github.com/connpool/connpool/internal/cli/exit"
)

// digestsHere runs programs on this machine, which is the target, too.
func digestsHere(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error {
	command := exec.CommandContext(ctx, argv[0], argv[1:]...)
	command.Stdin, command.Stdout, command.Stderr = stdin, stdout, stderr
	return command.Run()
}

// flipping changes one byte of each packet of data that passes to a server.
func flipping(subsystem sftpclient.Subsystem) sftpclient.Subsystem {
	return func(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
		from, to := io.Pipe()
		go func() {
			buffer := make([]byte, 1<<20)
			for {
				n, err := stdin.Read(buffer)
				if at := bytes.Index(buffer[:n], []byte("content")); at >= 0 {
					buffer[at] = 'C'
				}
				if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
					_ = to.Close()
					return
				}
			}
		}()
		return subsystem(ctx, from, stdout)
	}
}

func TestWhatArrivesAsSomethingElseIsAnError(t *testing.T) {
	for name, size := range map[string]int{"a small file": 1, "a large file": 100_000} {
		t.Run(name, func(t *testing.T) {
			test := newCopyTest(t)
			test.digests = digest.New(digestsHere)
			put(t, test.local+"/tree/file", strings.Repeat("content ", size), 0o644)
			err := test.run(t, flipping(served), "-r", "L:tree", "R:tree")
			if err == nil || !strings.Contains(test.problem.String(), "SHA-256 of the two sides differ") {
				t.Errorf("error %v, printed %s", err, &test.problem)
			}
			if _, there := listing(t, test.remote)["tree/file"]; there && size > 1 {
				t.Error("a large file that is damaged has got its name")
			}
		})
	}
}

func TestACopySaysHowItWasVerified(t *testing.T) {
	fails := func(context.Context, []string, io.Reader, io.Writer, io.Writer) error { return errors.New("no shell") }
	for name, c := range map[string]struct {
		tool  *digest.Tool
		words []string
		want  string
	}{
		"by digests, to a target":    {digest.New(digestsHere), []string{"-r", "L:tree", "R:copy"}, "copied 3 files, 781 KiB in "},
		"by digests, from a target":  {digest.New(digestsHere), []string{"-r", "R:tree", "L:copy"}, "verified by SHA-256"},
		"a host without programs":    {digest.New(fails), []string{"-r", "L:tree", "R:copy"}, "verified by size"},
		"over files that were there": {digest.New(digestsHere), []string{"-r", "L:tree/.", "R:tree"}, "verified by SHA-256"},
	} {
		t.Run(name, func(t *testing.T) {
			test := newCopyTest(t)
			test.digests = c.tool
			for _, side := range []string{test.local, test.remote} {
				put(t, side+"/tree/-large", strings.Repeat("content ", 100_000), 0o644)
				put(t, side+"/tree/empty", "", 0o644)
				put(t, side+"/tree/with space\\", "x", 0o644)
			}
			if err := test.run(t, served, c.words...); err != nil || !strings.Contains(test.problem.String(), c.want) {
				t.Errorf("error %v, printed %q, want %q", err, &test.problem, c.want)
			}
		})
	}
}

func TestNothingIsVerifiedOfACopyOfNothing(t *testing.T) {
	test := newCopyTest(t)
	put(t, test.local+"/file", "x", 0o644)
	if err := test.run(t, served, "L:file", "R:none/file"); err == nil || strings.Contains(test.problem.String(), "verified") {
		t.Errorf("error %v, printed %q", err, &test.problem)
	}
}

func TestALogThatGrowsIsCopied(t *testing.T) {
	test := newCopyTest(t)
	put(t, test.remote+"/log", strings.Repeat("line\n", 200_000), 0o644)
	test.digests = digest.New(func(ctx context.Context, argv []string, in io.Reader, out, problem io.Writer) error {
		log, err := os.OpenFile(test.remote+"/log", os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer log.Close() //nolint:errcheck // a test
		_, _ = log.WriteString("one more\n")
		return digestsHere(ctx, argv, in, out, problem)
	})
	if err := test.run(t, served, "R:log", "L:log"); err != nil {
		t.Errorf("%v, %s", err, &test.problem)
	}
}

// large is what a broken copy is worth to be continued.
const large = 40 << 20

func TestABrokenCopyOfALargeFileGoesOnFromWhereItEnded(t *testing.T) {
	for _, c := range []struct {
		name, from, to string
		there          string // what the destination is before
	}{
		{"to a target", "L:", "R:", ""},
		{"from a target", "R:", "L:", ""},
		{"to a file that exists", "L:", "R:", "old"},
		{"from a target to a file that exists", "R:", "L:", "old"},
	} {
		t.Run(c.name, func(t *testing.T) {
			test := newCopyTest(t)
			test.digests = digest.New(digestsHere)
			content := strings.Repeat("0123456789abcde\n", large/16)
			source, destination := test.local, test.remote
			if c.from == "R:" {
				source, destination = destination, source
			}
			put(t, source+"/file", content, 0o640)
			if c.there != "" {
				put(t, destination+"/copy", c.there, 0o600)
			}
			err := test.run(t, once(brokenAfter(large-5<<20)), c.from+"file", c.to+"copy")
			if err == nil || !strings.Contains(exit.HintOf(err), "cp --resume") {
				t.Fatalf("error %v without the command that goes on", err)
			}
			if got := listing(t, destination)["copy"]; c.there == "" && got != "" {
				t.Error("half of the file has its name")
			}
			budget := &budget{left: large - 8<<20, breaks: true, spent: func() {}}
			counted := func(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
				return served(ctx, budgetReader{budget, stdin}, budgetWriter{budget, stdout})
			}
			if err := test.run(t, counted, "--resume", c.from+"file", c.to+"copy"); err != nil {
				t.Fatalf("to go on: %v, %s", err, &test.problem)
			}
			all := listing(t, destination)
			if got := all["copy"]; !strings.HasSuffix(got, " "+content) || len(all) != 1 {
				t.Errorf("%d bytes arrived in %d files, want %d in one", len(got), len(all), large)
			}
			if !strings.Contains(test.problem.String(), "were there already, verified by SHA-256") {
				t.Errorf("it printed %s", &test.problem)
			}
		})
	}
}

func TestAPartThatIsSomethingElseIsNotContinued(t *testing.T) {
	for name, tool := range map[string]*digest.Tool{
		"its content differs": digest.New(digestsHere),
		"it cannot be verified": digest.New(func(context.Context, []string, io.Reader, io.Writer, io.Writer) error {
			return errors.New("no shell")
		}),
	} {
		t.Run(name, func(t *testing.T) {
			test := newCopyTest(t)
			test.digests = tool
			content := strings.Repeat("0123456789abcde\n", large/16)
			put(t, test.local+"/file", content, 0o640)
			put(t, test.remote+"/copy", strings.Repeat("x", 30<<20), 0o600)
			if err := test.run(t, served, "--resume", "L:file", "R:copy"); err != nil {
				t.Fatalf("%v, %s", err, &test.problem)
			}
			if got := listing(t, test.remote)["copy"]; !strings.HasSuffix(got, " "+content) {
				t.Errorf("%d bytes arrived, want %d", len(got), large)
			}
			if !strings.Contains(test.problem.String(), "copied from its beginning, because ") {
				t.Errorf("it printed %s", &test.problem)
			}
		})
	}
}
