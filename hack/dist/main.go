// Command dist writes what a release consists of, beside the image: archives of the
// kubectl plugin, the manifest of krew, a list of all modules in SPDX, install.yaml,
// the chart, and the checksums of all files. The same commit gives the same files.
//
//	go run ./hack/dist -version v1.2.3 -image registry.example.com/connpool:v1.2.3
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/util/version"

	"github.com/connpool/connpool/hack/compile"
	"github.com/connpool/connpool/test/controlplane/binaries"
)

const (
	home   = "https://github.com/connpool/connpool"
	plugin = "./cmd/kubectl-connpool"
)

// platforms are those that the plugin is built for.
var platforms = []platform{
	{"darwin", "amd64"},
	{"darwin", "arm64"},
	{"linux", "amd64"},
	{"linux", "arm64"},
	{"windows", "amd64"},
	{"windows", "arm64"},
}

// platform is an operating system and an architecture, as Go names them.
type platform struct{ os, arch string }

type options struct {
	root, output, version, image, url string
	created                           time.Time
}

func main() {
	var o options
	flag.StringVar(&o.output, "o", "dist", "the folder to write into; the checksums cover all files in it")
	flag.StringVar(&o.version, "version", "dev", "version that the programs print")
	flag.StringVar(&o.image, "image", "connpool:dev", "the image that install.yaml names")
	flag.StringVar(&o.url, "url", home+"/releases/download", "where krew finds the archives, in a folder named after the version")
	flag.Parse()
	if err := o.run(); err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

func (o *options) run() (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if o.root, err = binaries.Checkout(); err != nil {
		return err
	}
	if o.created, err = compile.Time(ctx, o.root); err != nil {
		return err
	}
	if err := os.MkdirAll(o.output, 0o750); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "connpool-dist-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	programs, err := o.archives(ctx, dir)
	if err != nil {
		return err
	}
	manager, err := compile.Program{Root: o.root, Version: o.version, OS: "linux", Arch: "amd64"}.Build(ctx, "./cmd/manager", dir)
	if err != nil {
		return err
	}
	if err := o.billOfMaterials(append(programs, manager)); err != nil {
		return err
	}
	if err := o.krew(); err != nil {
		return err
	}
	if err := o.manifests(); err != nil {
		return err
	}
	if err := o.chart(ctx, dir); err != nil {
		return err
	}
	return o.checksums()
}

// semantic returns the version as Semantic Versioning wants it, without a "v". A
// build between releases is older than every release.
func (o *options) semantic() string {
	if parsed, err := version.ParseSemantic(o.version); err == nil {
		return parsed.String()
	}
	return "0.0.0-dev.g" + o.version
}

func (o *options) write(name string, content []byte) error {
	return os.WriteFile(filepath.Join(o.output, name), content, 0o644) //nolint:gosec // a release is no secret
}

// checksums writes SHA256SUMS for all files of the folder, as sha256sum --check reads it.
func (o *options) checksums() error {
	const name = "SHA256SUMS"
	entries, err := os.ReadDir(o.output)
	if err != nil {
		return err
	}
	var lines []byte
	for _, entry := range entries {
		if entry.IsDir() || entry.Name() == name {
			continue
		}
		content, err := os.ReadFile(filepath.Join(o.output, entry.Name()))
		if err != nil {
			return err
		}
		lines = fmt.Appendf(lines, "%x  %s\n", sha256.Sum256(content), entry.Name())
	}
	fmt.Printf("%swritten to %s; next: docs/how-to/release.md says how to sign and publish them\n", lines, o.output)
	return o.write(name, lines)
}
