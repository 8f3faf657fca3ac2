package lab

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/crypto/ssh"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/connpool/connpool/test/controlplane/binaries"
)

const usage = `usage: go run ./hack/lab COMMAND [FLAGS]

  up         start a lab in the background: a control plane and an SSH server
  down       stop it
  status     say what is running
  run        a lab with samples and the operator, in the foreground, with a live table
  ssh-stop   make the SSH server go away
  ssh-start  bring it back
  node-up    add a node with pods and a Docker engine, in the background; needs root
  node-down  remove them
  build      get kube-apiserver, etcd and kubectl into bin/k8s
  build-helm get helm into bin/k8s
  new-key    write a key pair for the SSH server to ./new-key and ./new-key.pub

flags:
`

// arguments are what the flags say.
type arguments struct {
	RunOptions

	command string
}

// Main is the command: it returns the exit status.
func Main(args []string, out, errs io.Writer) int {
	a, err := parse(args, errs)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(errs, "lab:", err)
		return 2
	}
	log.SetLogger(logr.Discard()) // envtest's; what is to be said is said below
	ctx, stop := untilEnded(context.Background(), a.command != "serve" && a.command != "serve-node")
	defer stop()
	if err := a.execute(ctx, out); err != nil {
		fmt.Fprintln(errs, "lab:", err)
		return 1
	}
	return 0
}

func parse(args []string, errs io.Writer) (arguments, error) {
	a := arguments{}
	flags := flag.NewFlagSet("lab", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.Usage = func() {
		fmt.Fprint(errs, usage)
		flags.PrintDefaults()
	}
	flags.StringVar(&a.Dir, "dir", "", "folder of the lab; .lab of the checkout when empty")
	flags.IntVar(&a.APIPort, "api-port", 16443, "port of kube-apiserver; 0 for any that is free")
	flags.IntVar(&a.SSHPort, "ssh-port", 12222, "port of the SSH server; 0 for any that is free")
	flags.BoolVar(&a.EmbeddedSSH, "embedded-ssh", false, "use the embedded SSH server, even if this machine has an sshd")
	flags.IntVar(&a.MetricsPort, "metrics-port", 18443, "run: port of the operator's metrics; 0 for any that is free")
	flags.IntVar(&a.LivePort, "live-port", 19443, "run: port of the operator's live API; 0 for any that is free")
	flags.BoolVar(&a.Once, "once", false, "run: end as soon as the samples are warm, or with an error after the timeout")
	flags.DurationVar(&a.Timeout, "timeout", 2*time.Minute, "run --once: how long the samples may take")
	if len(args) == 0 {
		flags.Usage()
		return a, errors.New("name a command")
	}
	if args[0] != "" && args[0][0] != '-' {
		a.command, args = args[0], args[1:]
	}
	if err := flags.Parse(args); err != nil {
		return a, err
	}
	if flags.NArg() > 0 {
		return a, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return a, a.complete()
}

// complete makes the folder absolute: pids are recognized by it.
func (a *arguments) complete() (err error) {
	if a.Dir == "" {
		root, err := binaries.Checkout()
		if err != nil {
			return err
		}
		a.Dir = filepath.Join(root, ".lab")
	}
	a.Dir, err = filepath.Abs(a.Dir)
	return err
}

func (a *arguments) execute(ctx context.Context, out io.Writer) error {
	switch a.command {
	case "up":
		return up(ctx, a.Options, out)
	case "serve":
		return serve(ctx, func(say binaries.Say) (served, error) { return Start(ctx, a.Options, say) })
	case "serve-node":
		return serve(ctx, func(say binaries.Say) (served, error) { return startNode(ctx, folder(a.Dir), say) })
	case "node-up":
		return nodeUp(ctx, a.Options, out)
	case "node-down":
		return nodeDown(folder(a.Dir), out)
	case "down":
		return down(a.Options, out)
	case "status":
		return status(ctx, a.Options, out)
	case "run":
		return Run(ctx, a.RunOptions, out)
	case "ssh-stop":
		return tell(a.Options, stopSSH, out, "the SSH server goes away; `go run ./hack/lab ssh-start` brings it back")
	case "ssh-start":
		return tell(a.Options, startSSH, out, "the SSH server comes back")
	case "build":
		return build(ctx, out)
	case "build-helm":
		return buildHelm(ctx, out)
	case "new-key":
		return newKey(out)
	}
	return fmt.Errorf("unknown command %q: see go run ./hack/lab --help", a.command)
}

func tell(options Options, what syscall.Signal, out io.Writer, meaning string) error {
	pid, isRunning := folder(options.Dir).running()
	if !isRunning {
		return errors.New("no lab is running: `make lab-up` or `make run` starts one")
	}

	if err := signalLab(pid, what); err != nil {
		return err
	}
	fmt.Fprintln(out, meaning)
	return nil
}

func build(ctx context.Context, out io.Writer) error {
	dir, err := binaries.Ensure(ctx, elapsed(out))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "kube-apiserver, etcd and kubectl are in %s\n", short(dir))
	return nil
}

func buildHelm(ctx context.Context, out io.Writer) error {
	dir, err := binaries.EnsureHelm(ctx, elapsed(out))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "helm is in %s\n", short(dir))
	return nil
}

// newKey is for machines without ssh-keygen.
func newKey(out io.Writer) error {
	const path = "new-key"
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(private, "connpool lab")
	if err != nil {
		return err
	}
	if err := errors.Join(
		os.WriteFile(path, pem.EncodeToMemory(block), 0o600),
		os.WriteFile(path+".pub", ssh.MarshalAuthorizedKey(signer.PublicKey()), 0o600),
	); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is the private key, %s.pub what the server has to know\n", path, path)
	return nil
}
