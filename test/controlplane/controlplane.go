// Package controlplane starts a real Kubernetes control plane, etcd and
// kube-apiserver, on loopback ports, for tests and for the development lab.
//
//	plane, err := controlplane.Start(ctx, controlplane.Options{})
//	defer plane.Stop()
//	err = plane.InstallCRDs(ctx, "config/crd/bases")
//	err = plane.InstallPolicies(ctx, "config/admission")
//	client, err := client.New(plane.Config, client.Options{})
//
// RBAC is on, and so is what an aggregated API needs (request headers and a front
// proxy's certificate). There is no controller manager and no node; package test/node
// adds them. The data does not survive Stop. One control plane for each test binary,
// started in TestMain, costs about 5 seconds and 350 MiB.
//
// Trade-offs: controller-runtime's envtest starts the same. It is used only to install
// CRDs, because it leaves its children behind when the test binary is killed, and a
// lab needs to know its processes.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/test/controlplane/binaries"
	"github.com/connpool/connpool/test/controlplane/process"
)

const (
	// startTimeout bounds how long one attempt to start may take.
	startTimeout = time.Minute
	// ServiceNetwork has the addresses of Services, and kubernetesAddress is that of
	// kube-apiserver among them.
	ServiceNetwork    = "10.0.0.0/24"
	kubernetesAddress = "10.0.0.1"
	// attempts is how often a start is tried when another process takes the port after
	// it was chosen and before it is used.
	attempts = 3
)

// Options change what Start does. The zero value is a working control plane.
type Options struct {
	// Dir holds keys, data and logs. A temporary directory, removed by Stop, when
	// empty.
	Dir string
	// Port of kube-apiserver; a free one when 0.
	Port int
	// ServiceAccounts gives each pod the token of its ServiceAccount. Pods can then be
	// made only where package node runs the controller of ServiceAccounts.
	ServiceAccounts bool
	// Flags are more flags of kube-apiserver.
	Flags []string
	// Say tells the user about steps that take long; nil says nothing.
	Say binaries.Say
}

// ControlPlane is a running control plane.
type ControlPlane struct {
	Access

	temporary bool
	etcd      *process.Process
	apiserver *process.Process
	command   process.Command // of kube-apiserver
	failed    chan struct{}
	forget    func() // ends the watch for failures
}

// Start starts a control plane and returns when it is ready. ctx bounds the start
// only: the control plane runs until Stop.
func Start(ctx context.Context, options Options) (*ControlPlane, error) {
	if options.Say == nil {
		options.Say = binaries.Printer(io.Discard)
	}
	programs, err := binaries.Ensure(ctx, options.Say)
	if err != nil {
		return nil, fmt.Errorf("get the programs of a control plane: %w", err)
	}
	plane := &ControlPlane{Access: Access{Dir: options.Dir}}
	if plane.Dir == "" {
		plane.temporary = true
		if plane.Dir, err = os.MkdirTemp("", "connpool-controlplane-"); err != nil {
			return nil, fmt.Errorf("make a directory: %w", err)
		}
	}
	if plane.keys, err = makeKeys(plane.Dir); err != nil {
		plane.removeDir()
		return nil, err
	}
	if err := plane.launch(ctx, programs, options); err != nil {
		plane.Stop()
		return nil, err
	}
	plane.failed = make(chan struct{})
	plane.forget = plane.watch()
	return plane, nil
}

// launch tries again when another process has taken a port.
func (p *ControlPlane) launch(ctx context.Context, programs string, options Options) error {
	for attempt := 1; ; attempt++ {
		err := p.launchOnce(ctx, programs, options)
		if err == nil || attempt == attempts || options.Port != 0 || !strings.Contains(err.Error(), "address already in use") {
			return err
		}
		p.stopProcesses()
	}
}

func (p *ControlPlane) launchOnce(ctx context.Context, programs string, options Options) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	if options.Port != 0 {
		ports[2] = options.Port
	}
	data := filepath.Join(p.Dir, "etcd-data")
	if err := os.RemoveAll(data); err != nil {
		return fmt.Errorf("remove old data: %w", err)
	}
	p.etcd, err = process.Start(process.Command{
		Name: "etcd", Path: filepath.Join(programs, "etcd"), Dir: p.Dir,
		Args: etcdFlags(p.keys, data, ports[0], ports[1]),
	})
	if err != nil {
		return err
	}
	p.command = process.Command{
		Name: "kube-apiserver", Path: filepath.Join(programs, "kube-apiserver"), Dir: p.Dir,
		Args: append(apiserverFlags(p.keys, ports[0], ports[2]), options.flags()...),
	}
	if p.apiserver, err = process.Start(p.command); err != nil {
		return err
	}
	if err := p.administer(url("https", ports[2])); err != nil {
		return err
	}
	return p.waitReady(ctx)
}

func etcdFlags(k *keys, data string, clientPort, peerPort int) []string {
	client, peer := url("https", clientPort), url("http", peerPort)
	return []string{
		"--data-dir=" + data,
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=default=" + peer,
		// Other users of this machine must not read the Secrets.
		"--client-cert-auth",
		"--trusted-ca-file=" + k.etcd.ca,
		"--cert-file=" + k.etcd.cert,
		"--key-file=" + k.etcd.key,
		"--unsafe-no-fsync", // the data need not survive a crash of the machine
	}
}

func apiserverFlags(k *keys, etcdPort, port int) []string {
	return []string{
		"--etcd-servers=" + url("https", etcdPort),
		"--etcd-cafile=" + k.etcd.ca,
		"--etcd-certfile=" + k.etcd.cert,
		"--etcd-keyfile=" + k.etcd.key,
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(port),
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none",
		"--tls-cert-file=" + k.server.cert,
		"--tls-private-key-file=" + k.server.key,
		"--client-ca-file=" + k.server.ca,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + k.server.key,
		"--service-account-signing-key-file=" + k.server.key,
		"--service-cluster-ip-range=" + ServiceNetwork,
		"--authorization-mode=Node,RBAC",
		"--requestheader-client-ca-file=" + k.front.ca,
		"--requestheader-allowed-names=" + FrontProxyName,
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + k.front.cert,
		"--proxy-client-key-file=" + k.front.key,
		"--kubelet-preferred-address-types=InternalIP",
		"--kubelet-certificate-authority=" + k.kubelet.ca,
		"--kubelet-client-certificate=" + k.kubelet.cert,
		"--kubelet-client-key=" + k.kubelet.key,
	}
}

func (o Options) flags() []string {
	if o.ServiceAccounts {
		return o.Flags
	}
	return append([]string{"--disable-admission-plugins=ServiceAccount"}, o.Flags...)
}

func url(scheme string, port int) string {
	return scheme + "://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// freePorts returns ports that are free now. Another process may take one before it is
// used. All are held until the last is chosen, so that they differ.
func freePorts(n int) (ports []int, err error) {
	listeners := make([]net.Listener, 0, n)
	defer func() {
		for _, listener := range listeners {
			_ = listener.Close()
		}
	}()
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		listeners = append(listeners, listener)
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// waitReady returns when the server is ready and has made the namespace "default",
// which it does a little later.
func (p *ControlPlane) waitReady(ctx context.Context) error {
	client, err := rest.HTTPClientFor(p.Config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	defer client.CloseIdleConnections()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		if isOK(ctx, client, p.Config.Host+"/readyz") && isOK(ctx, client, p.Config.Host+"/api/v1/namespaces/default") {
			return nil
		}
		if err := errors.Join(p.etcd.Err(), p.apiserver.Err()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kube-apiserver is not ready after %s; the end of its log:\n%s", startTimeout, p.apiserver.LastLines(10))
		case <-ticker.C:
		}
	}
}

func isOK(ctx context.Context, client *http.Client, address string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode == http.StatusOK
}

// Failed returns a channel that is closed when one of the processes has ended, by
// itself or by Stop. Err then says which.
func (p *ControlPlane) Failed() <-chan struct{} { return p.failed }

// watch notes the end of a process, until the returned function is called.
func (p *ControlPlane) watch() (forget func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-p.etcd.Exited():
			close(p.failed)
		case <-p.apiserver.Exited():
			close(p.failed)
		case <-stop:
		}
	}()
	return func() {
		close(stop)
		<-done
	}
}

// Err says which of the processes have ended, with the end of their logs; nil while
// both run.
func (p *ControlPlane) Err() error { return errors.Join(p.etcd.Err(), p.apiserver.Err()) }

// Restart kills kube-apiserver, starts it again at the same port, and returns when it is
// ready. etcd and its data stay.
func (p *ControlPlane) Restart(ctx context.Context) error {
	p.forget()
	if err := p.Err(); err != nil {
		return err
	}
	p.apiserver.Stop(0)
	next, err := process.Start(p.command)
	if err != nil {
		return err
	}
	p.apiserver = next
	p.forget = p.watch()
	return p.waitReady(ctx)
}

// Stop ends the control plane and returns when it is gone.
func (p *ControlPlane) Stop() {
	p.stopProcesses()
	p.removeDir()
}

// stopProcesses kills the processes. If it asked, kube-apiserver would wait for its
// watchers for up to a minute, and the data is not needed again.
func (p *ControlPlane) stopProcesses() {
	if p.apiserver != nil {
		p.apiserver.Stop(0)
	}
	if p.etcd != nil {
		p.etcd.Stop(0)
	}
}

func (p *ControlPlane) removeDir() {
	if p.temporary {
		_ = os.RemoveAll(p.Dir)
	}
}
