package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/distribution/reference"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/connpool/connpool/test/controlplane/binaries"
)

// placeholder is the image that config/default names.
const placeholder = "image: connpool:dev\n"

// manifests writes install.yaml: config/default with the image of this release.
func (o *options) manifests() error {
	settings := krusty.MakeDefaultOptions()
	settings.Reorder = krusty.ReorderOptionLegacy // as kubectl does: the namespace before what is in it
	rendered, err := krusty.MakeKustomizer(settings).Run(filesys.MakeFsOnDisk(), filepath.Join(o.root, "config", "default"))
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
	if err := o.nameImage(files); err != nil {
		return err
	}
	if packed, err = tarred(files, o.created); err != nil {
		return err
	}
	return o.write(name, packed)
}

// nameImage makes the image of the release the default of the chart's values. In a
// checkout they name an image that has no registry.
func (o *options) nameImage(files []entry) error {
	image, err := reference.ParseNormalizedNamed(o.image)
	if err != nil {
		return fmt.Errorf("the image %q: %w", o.image, err)
	}
	values := slices.IndexFunc(files, func(e entry) bool { return e.name == "connpool/values.yaml" })
	if values < 0 {
		return errors.New("the chart has no values.yaml")
	}
	defaults := [][2]string{{"  repository: connpool\n", "  repository: " + reference.FamiliarName(image) + "\n"}}
	if tagged, ok := image.(reference.Tagged); ok {
		defaults = append(defaults, [2]string{"  tag: \"\"\n", fmt.Sprintf("  tag: %q\n", tagged.Tag())})
	}
	if digested, ok := image.(reference.Digested); ok {
		defaults = append(defaults, [2]string{"  digest: \"\" #", fmt.Sprintf("  digest: %q #", digested.Digest())})
	}
	for _, each := range defaults {
		if bytes.Count(files[values].content, []byte(each[0])) != 1 {
			return fmt.Errorf("the chart's values.yaml does not have %q once, which the image of the release has to replace", each[0])
		}
		files[values].content = bytes.Replace(files[values].content, []byte(each[0]), []byte(each[1]), 1)
	}
	return nil
}
