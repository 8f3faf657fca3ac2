package main

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/controlplane/binaries"
)

// digest is that of no image.
const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// release returns options of a release into a folder of the test.
func release(t *testing.T) *options {
	t.Helper()
	root, err := binaries.Checkout()
	if err != nil {
		t.Fatal(err)
	}
	return &options{
		root: root, output: t.TempDir(), version: "v1.2.3", image: "registry.example.com/connpool:v1@" + digest, url: "https://example.com/releases",
		created: time.Unix(1_800_000_000, 0).UTC(),
	}
}

func (o *options) read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(o.output, name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestAnArchiveHoldsTheProgramAndTheLicenseAndIsTheSameEachTime(t *testing.T) {
	files := []entry{{"LICENSE", 0o644, []byte("terms")}, {"program", 0o755, []byte("code")}}
	unpack := map[string]func([]byte) ([]entry, error){"linux": untarred, "windows": unzipped}
	for system, unpacked := range unpack {
		t.Run(system, func(t *testing.T) {
			p, created := platform{system, "arm64"}, time.Unix(1_800_000_000, 0)
			first, err := p.pack(files, created)
			if err != nil {
				t.Fatal(err)
			}
			second, err := p.pack(files, created.UTC())
			if err != nil || !bytes.Equal(first, second) {
				t.Errorf("a second archive differs, error %v", err)
			}
			got, err := unpacked(first)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(files, got, cmp.AllowUnexported(entry{})); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func unzipped(archive []byte) ([]entry, error) {
	reader, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return nil, err
	}
	var files []entry
	for _, f := range reader.File {
		opened, err := f.Open()
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(opened)
		if err != nil {
			return nil, err
		}
		files = append(files, entry{f.Name, int64(f.Mode()), content})
	}
	return files, nil
}

// krew has a program that checks what is added to its index.
func TestKrewAcceptsTheManifestOfAReleaseAndOfABuildBetweenReleases(t *testing.T) {
	for _, version := range []string{"v1.2.3", "0123456-dirty"} {
		t.Run(version, func(t *testing.T) {
			o := release(t)
			o.version = version
			for _, p := range platforms {
				if err := o.write(p.archive(), []byte(p.os+p.arch)); err != nil {
					t.Fatal(err)
				}
			}
			if err := o.krew(); err != nil {
				t.Fatal(err)
			}
			check := exec.CommandContext(t.Context(), "go", "tool", "-modfile="+filepath.Join(o.root, "hack", "krew", "go.mod"),
				"validate-krew-manifest", "-skip-install", "-manifest", filepath.Join(o.output, "connpool.yaml"))
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("krew refuses the manifest: %v\n%s", err, out)
			}
			if got := strings.Count(string(o.read(t, "connpool.yaml")), "uri: https://example.com/releases/"+version+"/kubectl-connpool-"); got != len(platforms) {
				t.Errorf("%d platforms have an address, want %d", got, len(platforms))
			}
		})
	}
}

func TestTheListOfModulesIsValidSPDXAndNamesWhatIsInTheProgram(t *testing.T) {
	o := release(t)
	program, err := os.Executable() // it has the library that writes the list
	if err != nil {
		t.Fatal(err)
	}
	if err := o.billOfMaterials([]string{program}); err != nil {
		t.Fatal(err)
	}
	document, err := json.Read(bytes.NewReader(o.read(t, "connpool.spdx.json")))
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(document); err != nil {
		t.Error(err)
	}
	names := map[string]bool{}
	for _, each := range document.Packages {
		names[each.PackageName] = each.PackageVersion != "" && each.PackageDownloadLocation != ""
	}
	for _, want := range []string{"github.com/connpool/connpool", "github.com/spdx/tools-golang", "stdlib"} {
		if !names[want] {
			t.Errorf("%s is missing, or has no version", want)
		}
	}
}

func TestInstallYAMLAndTheChartNameTheRelease(t *testing.T) {
	o := release(t)
	if err := o.manifests(); err != nil {
		t.Fatal(err)
	}
	install := string(o.read(t, "install.yaml"))
	if !strings.Contains(install, "image: "+o.image) || strings.Contains(install, "connpool:dev") {
		t.Error("install.yaml does not name the image of the release")
	}
	var charts [2][]byte
	for i := range charts {
		if err := o.chart(t.Context(), t.TempDir()); err != nil {
			t.Fatal(err)
		}
		charts[i] = o.read(t, "connpool-1.2.3.tgz")
	}
	if !bytes.Equal(charts[0], charts[1]) {
		t.Error("a second archive of the chart differs")
	}
	files, err := untarred(charts[0])
	if err != nil {
		t.Fatal(err)
	}
	wanted := map[string][]string{
		"connpool/Chart.yaml":  {"appVersion: v1.2.3\n", "version: 1.2.3\n"},
		"connpool/values.yaml": {"repository: registry.example.com/connpool\n", "tag: \"v1\"\n", "digest: \"" + digest + "\""},
	}
	for _, f := range files {
		for _, want := range wanted[f.name] {
			if !strings.Contains(string(f.content), want) {
				t.Errorf("%s does not have %q", f.name, want)
			}
		}
		delete(wanted, f.name)
	}
	if len(wanted) > 0 {
		t.Errorf("the chart lacks files: %v", wanted)
	}
}

func TestInstallYAMLIsAppliedAtOnceToANewCluster(t *testing.T) {
	o := release(t)
	if err := o.manifests(); err != nil {
		t.Fatal(err)
	}
	plane, err := controlplane.Start(t.Context(), controlplane.Options{Say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	defer plane.Stop()
	admin, err := controlplane.Kubeconfig(plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.write("kubeconfig", admin); err != nil {
		t.Fatal(err)
	}
	programs, err := binaries.Ensure(t.Context(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	apply := exec.CommandContext(t.Context(), filepath.Join(programs, "kubectl"), "--kubeconfig=kubeconfig", "apply", "--server-side", "-f", "install.yaml")
	apply.Dir = o.output
	if out, err := apply.CombinedOutput(); err != nil {
		t.Errorf("kubectl apply: %v\n%s", err, out)
	}
}

func TestTheChecksumsAreThoseThatSha256sumReads(t *testing.T) {
	o := release(t)
	if err := o.write("a", []byte("content")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time the file of the checksums is there
		if err := o.checksums(); err != nil {
			t.Fatal(err)
		}
	}
	check := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "SHA256SUMS")
	check.Dir = o.output
	if out, err := check.CombinedOutput(); err != nil || string(out) != "a: OK\n" {
		t.Errorf("error %v: %s", err, out)
	}
}
