package lab

import (
	"bytes"
	"context"
	"embed"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/test/controlplane"
)

//go:embed samples
var sampleFiles embed.FS

// downSample is the target that is down on purpose.
const downSample = "web-3"

// closedPort is the port of the sample that is down: tcpmux, which is not in use any more.
const closedPort = "1"

// The samples' cluster is used by an account that may edit one namespace.
const (
	appsNamespace = "apps"
	appsAccount   = "connpool"
)

// makeAccount makes the account of the samples' cluster, and its kubeconfig.
func makeAccount(ctx context.Context, access *controlplane.Access) (kubeconfig []byte, err error) {
	api, err := client.New(access.Config, client.Options{})
	if err != nil {
		return nil, err
	}
	apps := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: appsNamespace}}
	if err := api.Create(ctx, apps); err != nil {
		return nil, err
	}
	account, err := access.ServiceAccount(ctx, appsNamespace, appsAccount)
	if err != nil {
		return nil, err
	}
	return controlplane.Kubeconfig(account)
}

// sample is a target of the samples.
type sample struct {
	Name, App, Comment string
	Host, Port, User   string
	HostKey            string // empty: from the ConfigMap
}

func sampleTargets(a access) ([]sample, error) {
	host, port, err := net.SplitHostPort(a.Addr)
	if err != nil {
		return nil, err
	}
	key := strings.TrimSpace(a.HostKey)
	return []sample{
		{Name: "web-1", App: "web", Host: host, Port: port, User: a.User},
		{Name: "web-2", App: "web", Host: host, Port: port, User: a.User},
		{
			Name: downSample, App: "web", Host: host, Port: closedPort, User: a.User, HostKey: key,
			Comment: "Nothing listens on this port: see how a target that fails looks.",
		},
		{
			Name: "db-1", App: "db", Host: host, Port: port, User: a.User, HostKey: key,
			Comment: "The server's public key may also stand here, instead of in a ConfigMap.",
		},
	}, nil
}

// writeSamples writes samples for a server and a cluster, ready to be applied.
func writeSamples(dir string, a access, kubeconfig []byte) error {
	targets, err := sampleTargets(a)
	if err != nil {
		return err
	}
	return writeTemplates(dir, "samples", map[string]any{
		"PrivateKey": a.PrivateKey, "KnownHosts": a.KnownHosts, "Targets": targets,
		"Namespace": appsNamespace, "Account": appsAccount, "Kubeconfig": string(kubeconfig),
	})
}

// writeTemplates fills in the files of a folder.
func writeTemplates(dir, from string, data map[string]any) error {
	files, err := template.New("").Funcs(template.FuncMap{"indent": indent}).ParseFS(sampleFiles, from+"/*.yaml")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	names, err := fs.Glob(sampleFiles, from+"/*.yaml")
	if err != nil {
		return err
	}
	for _, name := range names {
		name = filepath.Base(name)
		text := new(bytes.Buffer)
		if err := files.ExecuteTemplate(text, name, data); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text.Bytes(), 0o600); err != nil { // with a private key
			return err
		}
	}
	return nil
}

// indent makes a block of YAML of a text.
func indent(spaces int, text string) string {
	margin := strings.Repeat(" ", spaces)
	return margin + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+margin)
}
