package cp

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/driver"
)

func TestACopyToAnEngineGoesToItsOnlyContainerAndSaysSo(t *testing.T) {
	f := clitest.Shop(t, New)
	for i := range f.Targets {
		f.Targets[i].Spec.Docker = new(v1alpha1.DockerTarget)
	}
	f.OnlyContainer = "app"
	var containers []string
	f.Remote = func(ctx context.Context, o livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		containers = append(containers, o.Container)
		err := programs("/usr/bin")(ctx, o.Command, streams.Stdin, streams.Stdout, streams.Stderr)
		if own, ok := errors.AsType[*client.ExitError](err); ok {
			return clitest.Exits(own.Code, "")
		}
		return clitest.Exits(0, "")
	}
	source, there := filepath.Join(t.TempDir(), "a"), t.TempDir()
	if err := os.WriteFile(source, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	const said = "Defaulted container \"app\": it is the only one that runs on \"web-1\"\n"
	got := f.Run("cp", source, "web/web-1:"+there+"/b")
	clitest.WantStderr(t, got, 0, said)
	if copied, err := os.ReadFile(there + "/b"); string(copied) != "text" || strings.Count(got.Stderr, said) != 1 {
		t.Errorf("copied %q, %v, and said %s", copied, err, got.Stderr)
	}
	if containers[0] != "" || slices.Contains(containers[1:], "") {
		t.Errorf("the copy went to the containers %q", containers)
	}
	for _, flags := range [][]string{{"-q"}, {"-c", "app"}} {
		if got := f.Run(append([]string{"cp", source, "web/web-1:" + there + "/c"}, flags...)...); got.Code != 0 || strings.Contains(got.Stderr, "Defaulted") {
			t.Errorf("%q: %+v", flags, got)
		}
	}
}
