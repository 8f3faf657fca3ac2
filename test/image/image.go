// Package image builds container images from what this machine has, so that
// nothing is pulled from a registry.
//
//	archive, err := image.Busybox("connpool.test/busybox:1")
//	archive, err := image.Static("connpool.test/pause:1", "bin/pause")
//	archive, err := image.Programs("connpool:dev", "bin/manager", "bin/kubectl-connpool")
//
// An archive is what `docker save` writes: `docker load` and
// `ctr -n k8s.io images import` read it. The same input gives the same bytes.
package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// accounts give root and the unprivileged user their names.
var accounts = map[string]string{
	"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
	"etc/group":  "root:x:0:\nnogroup:x:65534:\n",
}

// Busybox returns an image with this machine's static busybox, a link for each
// of its applets, root and an unprivileged user, and a /tmp for all users. Its
// default command is a shell.
func Busybox(tag string) ([]byte, error) {
	binary, err := findBusybox()
	if err != nil {
		return nil, err
	}
	list, err := exec.Command(binary, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list the applets of %s: %w", binary, err)
	}
	files := newLayer()
	for _, folder := range []string{"bin", "etc", "root", "usr", "usr/bin", "var"} {
		files.folder(folder, 0o755)
	}
	files.folder("tmp", 0o1777)
	files.program("bin/busybox", binary)
	for applet := range strings.FieldsSeq(string(list)) {
		if applet != "busybox" {
			files.link("bin/"+applet, "busybox")
		}
	}
	files.link("usr/bin/env", "/bin/busybox") // where scripts look for it
	for _, file := range []string{"etc/group", "etc/passwd"} {
		files.file(file, 0o644, []byte(accounts[file]))
	}
	return files.archive(tag, v1.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/bin:/usr/bin"}})
}

// Programs returns an archive of the operator's own image for this machine, made of the
// programs that are given; see Operator.
func Programs(tag string, programs ...string) ([]byte, error) {
	made, err := Operator(Build{Platform: v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, Programs: programs})
	if err != nil {
		return nil, err
	}
	return archive(tag, made)
}

// Static returns an image that contains and runs one statically linked program.
func Static(tag, program string) ([]byte, error) {
	files := newLayer()
	target := path.Base(program)
	files.program(target, program)
	return files.archive(tag, v1.Config{Entrypoint: []string{"/" + target}})
}

// findBusybox prefers Debian's path to others in the PATH, which may not be
// linked statically.
func findBusybox() (string, error) {
	for _, candidate := range []string{"/bin/busybox", "busybox"} {
		if found, err := exec.LookPath(candidate); err == nil {
			return found, nil
		}
	}
	return "", errors.New("busybox is not installed: install the package busybox-static")
}

// layer is a tar file that is being written; the first error counts.
type layer struct {
	data   bytes.Buffer
	writer *tar.Writer
	err    error
}

func newLayer() *layer {
	l := new(layer)
	l.writer = tar.NewWriter(&l.data)
	return l
}

func (l *layer) folder(at string, mode int64) {
	l.add(&tar.Header{Typeflag: tar.TypeDir, Name: at + "/", Mode: mode}, nil)
}

func (l *layer) link(at, to string) {
	l.add(&tar.Header{Typeflag: tar.TypeSymlink, Name: at, Linkname: to, Mode: 0o777}, nil)
}

func (l *layer) file(at string, mode int64, content []byte) {
	l.add(&tar.Header{Typeflag: tar.TypeReg, Name: at, Mode: mode, Size: int64(len(content))}, content)
}

func (l *layer) program(at, source string) {
	content, err := os.ReadFile(source)
	if err != nil {
		l.err = errors.Join(l.err, err)
		return
	}
	l.file(at, 0o755, content)
}

func (l *layer) add(header *tar.Header, content []byte) {
	if l.err == nil {
		l.err = l.writer.WriteHeader(header)
	}
	if l.err == nil {
		_, l.err = l.writer.Write(content)
	}
}

func (l *layer) close() error { return errors.Join(l.err, l.writer.Close()) }

// archive makes an image of this one layer.
func (l *layer) archive(tag string, config v1.Config) ([]byte, error) {
	if err := l.close(); err != nil {
		return nil, fmt.Errorf("write the layer of %s: %w", tag, err)
	}
	image, err := l.image(config)
	if err != nil {
		return nil, fmt.Errorf("make the image %s: %w", tag, err)
	}
	return archive(tag, image)
}

// archive returns what `docker save` writes.
func archive(tag string, image v1.Image) ([]byte, error) {
	reference, err := name.NewTag(tag)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := tarball.Write(reference, image, &out); err != nil {
		return nil, fmt.Errorf("write the archive of %s: %w", tag, err)
	}
	return out.Bytes(), nil
}

func (l *layer) image(config v1.Config) (v1.Image, error) {
	files, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(l.data.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	// All parts are of OCI: some registries refuse an index that has parts of Docker too.
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.AppendLayers(base, files)
	if err != nil {
		return nil, err
	}
	described, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	described = described.DeepCopy()
	described.OS, described.Architecture, described.Config = "linux", runtime.GOARCH, config
	return mutate.ConfigFile(image, described)
}
