package kubeconfig_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/connpool/connpool/internal/kubeconfig"
)

// canary stands for a secret, which no message may contain.
const canary = "canary-d41d8cd98f"

const usable = `apiVersion: v1
kind: Config
current-context: prod
clusters: [{name: c, cluster: {server: "https://prod.example.com:6443"}}]
users: [{name: u, user: {token: "` + canary + `"}}]
contexts: [{name: prod, context: {cluster: c, user: u, namespace: web}}]
`

// allocated returns how many bytes a function allocates, also those that are freed.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A small file with one long value and many aliases of it is gigabytes when it is
// converted. It is refused before that, and the refusal is kept.
func TestAnAliasBombCostsNoMemory(t *testing.T) {
	bomb := fmt.Appendf(nil, "%sx: &a %q\ny: [%s]\n", usable, strings.Repeat("A", 30_000), strings.Repeat("*a, ", 5_000))
	var err error
	first := allocated(func() { _, err = kubeconfig.Read(bomb, "") })
	if err == nil || !strings.Contains(err.Error(), "line 7 of the kubeconfig has a YAML anchor or alias") ||
		!strings.Contains(err.Error(), "kubectl config view --raw --minify --flatten") {
		t.Errorf("error %v, want one that names the line and the next step", err)
	}
	again := allocated(func() { _, err = kubeconfig.Read(bomb, "") })
	t.Logf("%d KiB in the file, %d KiB allocated, %d KiB for the second reading", len(bomb)>>10, first>>10, again>>10)
	if err == nil || first > 10<<20 || again > 64<<10 {
		t.Errorf("allocated %d and %d bytes, error %v", first, again, err)
	}
}

func TestAnchorsAndAliasesAreRefusedWhereverTheyStand(t *testing.T) {
	for name, text := range map[string]string{
		"an anchor that is not used":    usable + "x: &a b\n",
		"an alias for a key":            usable + "x: &a b\n*a : c\n",
		"a merged map":                  usable + "x: &a {b: c}\ny:\n  <<: *a\n",
		"an anchor of a list":           usable + "x: &a [b]\n",
		"in an extension":               strings.Replace(usable, "{cluster: c,", "{extensions: [{name: e, extension: &a {b: *a}}], cluster: c,", 1),
		"an anchor of the whole file":   "&a\n" + usable,
		"an alias that has no anchor":   usable + "x: *a\n",
		"in JSON":                       `{"apiVersion": "v1", "kind": "Config", "x": &a {"y": *a}}`,
		"an anchor that holds itself":   usable + "x: &a [*a]\n",
		"an alias in a second document": usable + "---\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := kubeconfig.Read([]byte(text), "")
			if refused := err != nil; refused != (name != "an alias in a second document") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// What the parser allocates for the worst files that the bound lets in.
func TestHostileFilesOfTheLargestSizeAreCheap(t *testing.T) {
	fill := func(part string) string { return strings.Repeat(part, (kubeconfig.MaxBytes-len(usable)-20)/len(part)) }
	for name, text := range map[string]string{
		"a flat list":                 usable + "x: [" + fill("a,") + "a]\n",
		"a list of empty lists":       usable + "x: [" + fill("[],") + "a]\n",
		"a deep list":                 usable + "x: " + fill("["),
		"a deep list in blocks":       usable + "x:\n" + fill("- "),
		"many keys":                   usable + "x: {" + fill("a,") + "a}\n",
		"many keys that differ":       usable + manyKeys(9_000),
		"many contexts":               strings.Replace(usable, "contexts: [", "contexts: ["+strings.Repeat("{name: a},", 6_000), 1),
		"many users":                  strings.Replace(usable, "users: [", "users: ["+strings.Repeat("{name: a},", 6_000), 1),
		"many arguments of a program": strings.Replace(usable, "user: {", "user: {exec: {args: ["+strings.Repeat("a,", 30_000)+"]}, ", 1),
		"many tags":                   usable + "x: [" + fill("!!str a,") + "a]\n",
		"many comments":               usable + fill("#\n"),
		"many documents":              usable + fill("---\n"),
		"one long value":              usable + "x: \"" + fill("\\0") + "\"\n",
	} {
		t.Run(name, func(t *testing.T) {
			if len(text) > kubeconfig.MaxBytes {
				t.Fatalf("%d bytes", len(text))
			}
			var err error
			used := allocated(func() { _, err = kubeconfig.Read([]byte(text), "") })
			t.Logf("%d KiB, error %v", used>>10, err)
			if used > 64<<20 {
				t.Errorf("allocated %d MiB", used>>20)
			}
			if err != nil && (strings.Contains(err.Error(), canary) || len(err.Error()) > 400) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func manyKeys(n int) string {
	var text bytes.Buffer
	for i := range n {
		fmt.Fprintf(&text, "%x:\n", i+65536)
	}
	return text.String()
}

func TestAFileIsReadOnceForEachContext(t *testing.T) {
	text := []byte(usable + "# " + t.Name())
	first, err := kubeconfig.Read(text, "")
	if err != nil || first.Name != "prod" || first.Namespace != "web" || first.User.Token != canary ||
		first.Cluster.Server != "https://prod.example.com:6443" {
		t.Fatalf("read %+v, error %v", first, err)
	}
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			if again, err := kubeconfig.Read(bytes.Clone(text), ""); again != first || err != nil {
				t.Errorf("read another copy, error %v", err)
			}
		})
	}
	readers.Wait()
	if _, err := kubeconfig.Read(text, "other"); err == nil {
		t.Error("a context that the file lacks was read")
	}
	if changed, err := kubeconfig.Read(append(text, '\n'), ""); changed == first || err != nil {
		t.Errorf("another content was taken for the same, error %v", err)
	}
}

func TestAFileBeyondTheBoundIsRefused(t *testing.T) {
	text := append([]byte(usable), bytes.Repeat([]byte("\n"), kubeconfig.MaxBytes-len(usable))...)
	if _, err := kubeconfig.Read(text, ""); err != nil {
		t.Errorf("64 KiB: %v", err)
	}
	if _, err := kubeconfig.Read(append(text, '\n'), ""); err == nil || !strings.Contains(err.Error(), "larger than 64 KiB") {
		t.Errorf("64 KiB and one byte: %v", err)
	}
}
