package chart_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestAValueThatDoesNotExistIsRefused(t *testing.T) {
	tests := map[string]struct{ set, says string }{
		"misspelled":            {"replicas=3", "'replicas' not allowed"},
		"misspelled in a map":   {"image.digset=x", "'digset' not allowed"},
		"a digest without hash": {"image.digest=latest", "/image/digest"},
		"no duration":           {"drainTimeout=300", "/drainTimeout"},
		"of another type":       {"allowCIDRs=10.0.0.0/8", "/allowCIDRs"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := helm(t.Context(), t, "template", release, chartFolder, "--set", tc.set)
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v, want %q in it", err, tc.says)
			}
		})
	}
}

func TestAChartMayDependOnIt(t *testing.T) {
	parent := t.TempDir()
	folder := filepath.Join(parent, "charts")
	for name, text := range map[string]string{
		"Chart.yaml": "apiVersion: v2\nname: parent\nversion: 1.0.0\n" +
			"dependencies: [{name: connpool, version: 0.1.0, condition: connpool.enabled}]\n",
		"values.yaml": "global: {team: platform}\n",
	} {
		if err := os.WriteFile(filepath.Join(parent, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(folder, "connpool"), os.DirFS(chartFolder)); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]bool{"true": true, "false": false} {
		text, err := helm(t.Context(), t, "template", release, parent, "--set=connpool.enabled="+value)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(text, "kind: Deployment"); got != want {
			t.Errorf("connpool.enabled=%s: a Deployment is there: %t", value, got)
		}
	}
}

func TestThePodHasTimeToDrain(t *testing.T) {
	for timeout, want := range map[string]int64{"5m": 330, "1h30m": 5430, "45s": 75, "1h1m1s": 3691} {
		deployment := render(t, "--set=drainTimeout="+timeout)["Deployment connpool-system connpool-manager"]
		got, _, err := unstructured.NestedFieldNoCopy(deployment.Object, "spec", "template", "spec", "terminationGracePeriodSeconds")
		if err != nil || got != float64(want) && got != want {
			t.Errorf("%s: %v, %v, want %d", timeout, got, err, want)
		}
	}
}

func TestADigestIsUsedInPlaceOfTheTag(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0a", 32)
	text, err := helm(t.Context(), t, "template", release, chartFolder, "--set=image.tag=v1,image.digest="+digest)
	if err != nil || !strings.Contains(text, `image: "connpool@`+digest+`"`) {
		t.Errorf("%v: the image is not the digest's", err)
	}
}
