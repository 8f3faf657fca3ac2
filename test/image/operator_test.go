package image

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// operator builds an image in a directory of its own.
func operator(t *testing.T) v1.Image {
	t.Helper()
	dir := t.TempDir()
	build := Build{
		Platform: v1.Platform{OS: "linux", Architecture: "arm64"},
		Labels:   map[string]string{"org.opencontainers.image.version": "v1.2.3"},
		Created:  time.Unix(1_800_000_000, 0),
	}
	for _, name := range []string{"manager", "kubectl-connpool"} {
		at := filepath.Join(dir, name)
		if err := os.WriteFile(at, []byte("the program "+name), 0o700); err != nil {
			t.Fatal(err)
		}
		build.Programs = append(build.Programs, at)
	}
	made, err := Operator(build)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestTheImageOfTheOperatorIsTheSameEachTime(t *testing.T) {
	first, err := operator(t).Digest()
	if err != nil {
		t.Fatal(err)
	}
	second, err := operator(t).Digest()
	if err != nil {
		t.Fatal(err)
	}
	if first != second {
		t.Errorf("two builds of the same programs are %s and %s", first, second)
	}
}

// Some registries refuse an OCI index with manifests of Docker in it.
func TestAllPartsOfTheImageOfTheOperatorHaveMediaTypesOfOCI(t *testing.T) {
	manifest, err := operator(t).Manifest()
	if err != nil {
		t.Fatal(err)
	}
	got := []types.MediaType{manifest.MediaType, manifest.Config.MediaType}
	for _, layer := range manifest.Layers {
		got = append(got, layer.MediaType)
	}
	if diff := cmp.Diff([]types.MediaType{types.OCIManifestSchema1, types.OCIConfigJSON, types.OCILayer}, got); diff != "" {
		t.Errorf("media types (-want +got):\n%s", diff)
	}
}

func TestTheImageOfTheOperatorHoldsOnlyItsProgramsAndRunsAsNoUserOfAnyMachine(t *testing.T) {
	made := operator(t)
	config, err := made.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{
		Entrypoint: []string{"/manager"}, User: "65532:65532",
		Labels: map[string]string{"org.opencontainers.image.version": "v1.2.3"},
	}
	if diff := cmp.Diff(want, config.Config); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	if config.OS != "linux" || config.Architecture != "arm64" {
		t.Errorf("the image is for %s/%s, not for the platform that was asked for", config.OS, config.Architecture)
	}
	layers, err := made.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, error %v", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"manager": "the program manager", "kubectl-connpool": "the program kubectl-connpool"}
	if diff := cmp.Diff(files, unpack(t, content)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}
