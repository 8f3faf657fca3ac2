// Command image builds the operator's image without Docker and without a registry:
// an OCI image layout in a tar file, for linux/amd64 and linux/arm64. The same
// commit gives the same digest, wherever the checkout is.
//
//	go run ./hack/image -version v1.2.3 -o dist/connpool-image.tar
//	ctr -n k8s.io images import dist/connpool-image.tar
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/connpool/connpool/hack/compile"
	"github.com/connpool/connpool/test/controlplane/binaries"
	"github.com/connpool/connpool/test/image"
)

// programs are the packages of the image's programs. The first one is its entry point.
var programs = []string{"./cmd/manager", "./cmd/kubectl-connpool"}

type options struct {
	root, output, name, version, platforms string
}

func main() {
	var o options
	flag.StringVar(&o.output, "o", "dist/connpool-image.tar", "the file to write")
	flag.StringVar(&o.name, "name", "connpool:dev", "name and tag of the image")
	flag.StringVar(&o.version, "version", "dev", "version that the programs print")
	flag.StringVar(&o.platforms, "platforms", "linux/amd64,linux/arm64", "platforms, separated by commas")
	flag.Parse()
	if err := o.run(); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func (o *options) run() (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if o.root, err = binaries.Checkout(); err != nil {
		return err
	}
	index, err := o.build(ctx)
	if err != nil {
		return err
	}
	if err := o.write(index); err != nil {
		return err
	}
	return o.report(index)
}

// build returns an index with one image for each platform.
func (o *options) build(ctx context.Context) (v1.ImageIndex, error) {
	created, err := compile.Time(ctx, o.root)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "connpool-image-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var index v1.ImageIndex = empty.Index
	for name := range strings.SplitSeq(o.platforms, ",") {
		platform, err := v1.ParsePlatform(name)
		if err != nil {
			return nil, err
		}
		fmt.Printf("building for %s; takes minutes the first time\n", name)
		made, err := o.platform(ctx, filepath.Join(dir, platform.Architecture), *platform, created)
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: made, Descriptor: v1.Descriptor{Platform: platform}})
	}
	return index, nil
}

func (o *options) platform(ctx context.Context, dir string, platform v1.Platform, created time.Time) (v1.Image, error) {
	build := image.Build{Platform: platform, Created: created, Labels: map[string]string{
		"org.opencontainers.image.title":       "connpool",
		"org.opencontainers.image.description": "Keeps pools of warm connections",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     o.version,
	}}
	common := compile.Program{Root: o.root, Version: o.version, OS: platform.OS, Arch: platform.Architecture}
	for _, program := range programs {
		built, err := common.Build(ctx, program, dir)
		if err != nil {
			return nil, err
		}
		build.Programs = append(build.Programs, built)
	}
	return image.Operator(build)
}

// write writes the index as an OCI image layout in a tar file.
// See https://github.com/opencontainers/image-spec/blob/main/image-layout.md.
func (o *options) write(index v1.ImageIndex) error {
	full, err := reference.ParseDockerRef(o.name)
	if err != nil {
		return fmt.Errorf("the name %q: %w", o.name, err)
	}
	dir, err := os.MkdirTemp("", "connpool-layout-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	written, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	named := layout.WithAnnotations(map[string]string{
		"io.containerd.image.name":          full.String(),
		"org.opencontainers.image.ref.name": o.name[strings.LastIndex(o.name, ":")+1:],
	})
	if err := written.AppendIndex(index, named); err != nil {
		return err
	}
	content, err := pack(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.output), 0o750); err != nil {
		return err
	}
	return os.WriteFile(o.output, content, 0o644) //nolint:gosec // an image is no secret
}

// pack returns a tar file of a folder: names in order, without times and owners.
func pack(dir string) ([]byte, error) {
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if err := writer.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err = writer.Write(content)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// report prints the digest, how large each platform is to pull, and what to do next.
func (o *options) report(index v1.ImageIndex) error {
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, each := range manifest.Manifests {
		made, err := index.Image(each.Digest)
		if err != nil {
			return err
		}
		size, err := made.Size()
		if err != nil {
			return err
		}
		layers, err := made.Layers()
		if err != nil {
			return err
		}
		for _, layer := range layers {
			compressed, err := layer.Size()
			if err != nil {
				return err
			}
			size += compressed
		}
		fmt.Printf("%s: %.1f MB compressed\n", each.Platform, float64(size)/1e6)
	}
	fmt.Printf("%s  %s\n%s\n", digest, o.name, o.output)
	fmt.Printf("next, on each node: ctr -n k8s.io images import %s\n"+
		"or push it, for example: skopeo copy --all oci-archive:%s docker://REGISTRY/connpool:TAG\n", o.output, o.output)
	return nil
}
