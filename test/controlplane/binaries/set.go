package binaries

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// set is a set of programs that are built or downloaded together.
type set struct {
	// name of the set, and of its stamp and its cache.
	name string
	// module is the folder, in hack, of the module that builds it.
	module string
	// bin is the folder, in bin, that the programs are put into.
	bin string
	// packages are its main packages, after which the programs are named.
	packages []string
	// pins are the modules whose versions make the set's release.
	pins []pin
	// isReleased reports whether setup-envtest can download the set.
	isReleased bool
	// takes is how long building takes the first time.
	takes string
}

// pin is a product and, as a regular expression, the path of its module.
type pin struct{ product, path string }

const (
	kubernetes       = "kubernetes"
	kubernetesModule = `k8s\.io/kubernetes`
)

var (
	controlPlane = set{
		name: "controlplane", module: "controlplane", bin: "k8s",
		packages:   []string{"./kube-apiserver", "./etcd", "./kubectl"},
		pins:       []pin{{kubernetes, kubernetesModule}, {"etcd", `go\.etcd\.io/etcd/server/v3`}},
		isReleased: true,
		takes:      "about 5 minutes",
	}
	node = set{
		name: "node", module: "controlplane", bin: "k8s",
		packages: []string{"./kubelet", "./kube-controller-manager", "./kube-scheduler", "./kube-proxy"},
		pins:     []pin{{kubernetes, kubernetesModule}},
		takes:    "about 5 minutes",
	}
	helm = set{
		name: "helm", module: "helm", bin: "k8s",
		packages: []string{"helm.sh/helm/v4/cmd/helm"},
		pins:     []pin{{"helm", `helm\.sh/helm/v4`}},
		takes:    "about 2 minutes",
	}
)

// ofMinor returns the set of another minor version of Kubernetes, such as 1.36, and the
// set itself when minor is empty. Each version has a module and folders of its own.
func (s set) ofMinor(minor string) set {
	if minor != "" {
		s.name, s.module, s.bin = s.name+"-"+minor, s.module+"-"+minor, s.bin+"-"+minor
	}
	return s
}

// programs returns the names of the programs.
func (s set) programs() []string {
	var names []string
	for _, pkg := range s.packages {
		names = append(names, path.Base(pkg))
	}
	return names
}

// String lists the programs.
func (s set) String() string { return strings.Join(s.programs(), ", ") }

// stampFile is the file in bin/k8s that holds the release of the set there.
func (s set) stampFile() string { return "RELEASE." + s.name }

// complete returns an error that names a missing program and the next step; nil if all
// programs are there.
func (s set) complete(dir string) error {
	for _, name := range s.programs() {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("%s is not in %s: unset %s and run `go run ./hack/lab build`", name, dir, assets)
		}
	}
	return nil
}

// release is the versions of a set's products, in the order of its pins.
type release []string

// String returns the name of the release, which is also the name of its folder.
func (r release) String() string {
	return strings.Join(append(slices.Clone(r), runtime.GOOS, runtime.GOARCH), "-")
}

// version returns the version of a product; empty if the release has none.
func (r release) version(product string) string {
	for _, part := range r {
		if version, ok := strings.CutPrefix(part, product+"-"); ok {
			return version
		}
	}
	return ""
}

// minor returns a version without its patch level, such as 1.37.
func minor(version string) string {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// wantedRelease reads the versions that the set's module requires.
func (s set) wantedRelease(root string) (release, error) {
	file := filepath.Join(root, "hack", s.module, "go.mod")
	module, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no module hack/%s builds %s: unset %s, or set it to a version that has a module", s.module, s, otherMinor)
	}
	if err != nil {
		return nil, err
	}
	var wanted release
	for _, pin := range s.pins {
		version := requirement(module, pin.path)
		if version == "" {
			return nil, fmt.Errorf("%s requires no %s", file, pin.product)
		}
		wanted = append(wanted, pin.product+"-"+version)
	}
	return wanted, nil
}

func requirement(module []byte, pattern string) string {
	match := regexp.MustCompile(`(?m)^\s*` + pattern + ` (v\S+)( // indirect)?$`).FindSubmatch(module)
	if match == nil {
		return ""
	}
	return string(match[1])
}
