package binaries

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// set is programs that are got and published together.
type set struct {
	// name of the set: its stamp and its cache are called so.
	name string
	// module is the folder, in hack, of the module that builds it.
	module string
	// packages are its main packages; programs are called as they are.
	packages []string
	// pins are the modules of which the set is, by the names of their products.
	pins []pin
	// isReleased reports that setup-envtest knows the set.
	isReleased bool
	// takes is how long building takes the first time.
	takes string
}

// pin is a module whose version makes a set what it is.
type pin struct{ product, path string }

const (
	kubernetes       = "kubernetes"
	kubernetesModule = `k8s\.io/kubernetes`
)

var (
	controlPlane = set{
		name: "controlplane", module: "controlplane",
		packages:   []string{"./kube-apiserver", "./etcd", "./kubectl"},
		pins:       []pin{{kubernetes, kubernetesModule}, {"etcd", `go\.etcd\.io/etcd/server/v3`}},
		isReleased: true,
		takes:      "about 5 minutes",
	}
	node = set{
		name: "node", module: "controlplane",
		packages: []string{"./kubelet", "./kube-controller-manager", "./kube-scheduler"},
		pins:     []pin{{kubernetes, kubernetesModule}},
		takes:    "about 3 minutes",
	}
	helm = set{
		name: "helm", module: "helm",
		packages: []string{"helm.sh/helm/v4/cmd/helm"},
		pins:     []pin{{"helm", `helm\.sh/helm/v4`}},
		takes:    "about 2 minutes",
	}
)

// programs make the set complete.
func (s set) programs() []string {
	var names []string
	for _, pkg := range s.packages {
		names = append(names, path.Base(pkg))
	}
	return names
}

// String lists the programs.
func (s set) String() string { return strings.Join(s.programs(), ", ") }

// stampFile, in bin/k8s, holds the release that the set there is of.
func (s set) stampFile() string { return "RELEASE." + s.name }

// complete says which program is missing, and what to do about it.
func (s set) complete(dir string) error {
	for _, name := range s.programs() {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("%s is not in %s: unset %s and run `go run ./hack/lab build`", name, dir, assets)
		}
	}
	return nil
}

// release is the versions that a set was made from, as in its pins.
type release []string

// String names the set, also as a folder.
func (r release) String() string {
	return strings.Join(append(slices.Clone(r), runtime.GOOS, runtime.GOARCH), "-")
}

// version of a product.
func (r release) version(product string) string {
	for _, part := range r {
		if version, ok := strings.CutPrefix(part, product+"-"); ok {
			return version
		}
	}
	return ""
}

// minor is a version without its patch level: 1.37.
func minor(version string) string {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// wantedRelease reads which versions the set's module requires.
func (s set) wantedRelease(root string) (release, error) {
	file := filepath.Join(root, "hack", s.module, "go.mod")
	module, err := os.ReadFile(file)
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
