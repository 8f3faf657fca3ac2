package kube

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/creack/pty"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"github.com/connpool/connpool/test/controlplane"
)

// kubelet is the streaming part of a kubelet. It uses the streaming server of real
// container runtimes. Its containers are processes of this machine.
type kubelet struct {
	server *httptest.Server
}

func startKubelet(plane *controlplane.ControlPlane) (*kubelet, error) {
	cert, key, _, err := plane.Kubelet("system:node:"+nodeName, net.IPv4(127, 0, 0, 1))
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	k := new(kubelet)
	k.server = httptest.NewUnstartedServer(k)
	k.server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	k.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	k.server.StartTLS()
	return k, nil
}

func (k *kubelet) port() int { return k.server.Listener.Addr().(*net.TCPAddr).Port }

func (k *kubelet) close() {
	k.server.CloseClientConnections()
	k.server.Close()
}

const (
	streamIdle     = time.Hour
	streamCreation = 10 * time.Second
)

// ServeHTTP implements http.Handler.
func (k *kubelet) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	switch {
	case parts[0] == "exec" && len(parts) == 4:
		if parts[3] == "log" && parts[2] == "two" {
			http.Error(w, fmt.Sprintf("container not found (%q)", parts[3]), http.StatusInternalServerError)
			return
		}
		options, err := remotecommand.NewOptions(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		remotecommand.ServeExec(w, req, k, parts[2], "", parts[3], req.URL.Query()["command"], options, streamIdle, streamCreation,
			[]string{"v4.channel.k8s.io"})
	case parts[0] == "portForward" && len(parts) == 3:
		portforward.ServePortForward(w, req, k, parts[2], "", nil, streamIdle, streamCreation, []string{"portforward.k8s.io"})
	default:
		http.NotFound(w, req)
	}
}

// ExecInContainer implements remotecommand.Executor.
func (k *kubelet) ExecInContainer(
	_ context.Context, _, _, container string, words []string, stdin io.Reader, stdout, stderr io.WriteCloser,
	tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration,
) error {
	if stdin == nil {
		stdin = http.NoBody
	}
	command := exec.Command(words[0], words[1:]...)
	command.Env = append(os.Environ(), "CONTAINER="+container)
	var err error
	if tty {
		err = runInTerminal(command, stdin, stdout, resize)
	} else {
		err = runWithPipes(command, stdin, stdout, stderr)
	}
	return asRuntime(words[0], err)
}

// asRuntime returns the error that containerd with runc would return.
func asRuntime(program string, err error) error {
	const prefix = "failed to exec in container: failed to start exec \"1\": OCI runtime exec failed: exec failed: " +
		"unable to start container process: exec: "
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code := exit.ExitCode()
		if code < 0 {
			code = 137
		}
		return utilexec.CodeExitError{Err: err, Code: code}
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%s%q: executable file not found in $PATH: unknown", prefix, program)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s%q: permission denied: unknown", prefix, program)
	}
	return err
}

func runWithPipes(command *exec.Cmd, stdin io.Reader, stdout, stderr io.Writer) error {
	input, err := command.StdinPipe()
	if err != nil {
		return err
	}
	command.Stdout, command.Stderr = stdout, stderr
	if err := command.Start(); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(input, stdin)
		_ = input.Close()
		_, _ = io.Copy(io.Discard, stdin)
	}()
	return command.Wait()
}

func runInTerminal(command *exec.Cmd, stdin io.Reader, stdout io.Writer, resize <-chan remotecommand.TerminalSize) error {
	terminal, err := pty.Start(command)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	var resizing sync.WaitGroup
	resizing.Go(func() {
		for {
			select {
			case size := <-resize:
				_ = pty.Setsize(terminal, &pty.Winsize{Rows: size.Height, Cols: size.Width})
			case <-ended:
				return
			}
		}
	})
	go func() { _, _ = io.Copy(terminal, stdin) }()
	_, _ = io.Copy(stdout, terminal)
	err = command.Wait()
	close(ended)
	resizing.Wait()
	_ = terminal.Close()
	return err
}

// PortForward implements portforward.PortForwarder.
func (k *kubelet) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return fmt.Errorf("failed to execute portforward in network namespace: %w", err)
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, stream)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stream, conn)
	return err
}
