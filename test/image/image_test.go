package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// unpack returns the files of a tar file by name; links as what they lead to.
func unpack(t *testing.T, archive io.Reader) map[string]string {
	t.Helper()
	files := map[string]string{}
	for reader := tar.NewReader(archive); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(content) + header.Linkname
	}
}

type manifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// layerOf returns what the only image of an archive is called, and its files.
func layerOf(t *testing.T, archive []byte) ([]string, map[string]string) {
	t.Helper()
	files := unpack(t, bytes.NewReader(archive))
	var manifests []manifest
	if err := json.Unmarshal([]byte(files["manifest.json"]), &manifests); err != nil || len(manifests) != 1 {
		t.Fatalf("manifests %+v, error %v", manifests, err)
	}
	compressed, err := gzip.NewReader(bytes.NewReader([]byte(files[manifests[0].Layers[0]])))
	if err != nil {
		t.Fatal(err)
	}
	return manifests[0].RepoTags, unpack(t, compressed)
}

func TestBusyboxHasAShellAndUsers(t *testing.T) {
	archive, err := Busybox("connpool.test/busybox:1")
	if err != nil {
		t.Fatal(err)
	}
	tags, files := layerOf(t, archive)
	if diff := cmp.Diff([]string{"connpool.test/busybox:1"}, tags); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	if len(files["bin/busybox"]) < 100_000 {
		t.Errorf("the program has %d bytes", len(files["bin/busybox"]))
	}
	for name, want := range map[string]string{"bin/sh": "busybox", "bin/cat": "busybox", "etc/passwd": accounts["etc/passwd"], "tmp/": ""} {
		if got, ok := files[name]; !ok || got != want {
			t.Errorf("%s is %q (%t), want %q", name, got, ok, want)
		}
	}
	again, err := Busybox("connpool.test/busybox:1")
	if err != nil || !bytes.Equal(archive, again) {
		t.Errorf("a second image differs, error %v", err)
	}
}

func TestProgramsHoldsAllAndBelongsToNoUserOfTheMachine(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"manager", "plugin"} {
		if err := os.WriteFile(dir+"/"+name, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	archive, err := Programs("operator:1", dir+"/manager", dir+"/plugin")
	if err != nil {
		t.Fatal(err)
	}
	_, files := layerOf(t, archive)
	if diff := cmp.Diff(map[string]string{"manager": "manager", "plugin": "plugin"}, files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	all := unpack(t, bytes.NewReader(archive))
	var manifests []manifest
	if err := json.Unmarshal([]byte(all["manifest.json"]), &manifests); err != nil {
		t.Fatal(err)
	}
	var got struct{ Config v1.Config }
	if err := json.Unmarshal([]byte(all[manifests[0].Config]), &got); err != nil {
		t.Fatal(err)
	}
	want := v1.Config{Entrypoint: []string{"/manager"}, User: "65532:65532"}
	if diff := cmp.Diff(want, got.Config); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestStaticHoldsTheProgramAlone(t *testing.T) {
	program := t.TempDir() + "/pause"
	if err := os.WriteFile(program, []byte("code"), 0o600); err != nil {
		t.Fatal(err)
	}
	archive, err := Static("pause:1", program)
	if err != nil {
		t.Fatal(err)
	}
	if _, files := layerOf(t, archive); cmp.Diff(map[string]string{"pause": "code"}, files) != "" {
		t.Errorf("files %q", files)
	}
	if _, err := Static("pause:1", program+"-missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing program: error %v", err)
	}
	if _, err := Static("Not A Tag", program); err == nil {
		t.Error("a tag that is none was accepted")
	}
}
