package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/connpool/connpool/test/controlplane/binaries"
)

// placeholder is the image that config/default names.
const placeholder = "image: connpool:dev\n"

// manifests writes install.yaml: config/default with the image of this release.
func (o *options) manifests() error {
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).
		Run(filesys.MakeFsOnDisk(), filepath.Join(o.root, "config", "default"))
	if err != nil {
		return err
	}
	text, err := rendered.AsYaml()
	if err != nil {
		return err
	}
	if !bytes.Contains(text, []byte(placeholder)) {
		return errors.New("config/default names no image connpool:dev, which install.yaml has to replace")
	}
	return o.write("install.yaml", bytes.ReplaceAll(text, []byte(placeholder), []byte("image: "+o.image+"\n")))
}

// chart writes the chart as an archive, with helm. The archive of helm has the time
// of its making, so it is packed again.
func (o *options) chart(ctx context.Context, dir string) error {
	programs, err := binaries.EnsureHelm(ctx, binaries.Printer(os.Stdout))
	if err != nil {
		return err
	}
	helm := exec.CommandContext(ctx, filepath.Join(programs, "helm"), "package", filepath.Join(o.root, "charts", "connpool"),
		"--version", o.semantic(), "--app-version", o.version, "--destination", dir)
	if out, err := helm.CombinedOutput(); err != nil {
		return fmt.Errorf("helm package: %w: %s", err, bytes.TrimSpace(out))
	}
	name := "connpool-" + o.semantic() + ".tgz"
	packed, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	files, err := untarred(packed)
	if err != nil {
		return err
	}
	if packed, err = tarred(files, o.created); err != nil {
		return err
	}
	return o.write(name, packed)
}
