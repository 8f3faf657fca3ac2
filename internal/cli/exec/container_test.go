package exec

import (
	"context"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/driver"
)

func TestTheContainerThatWasChosenIsSaidUnlessQuiet(t *testing.T) {
	f := clitest.Shop(t, New)
	f.Remote = func(context.Context, livev1alpha1.ExecOptions, driver.Streams, <-chan driver.WindowSize) *metav1.Status {
		return clitest.Exits(0, "")
	}
	f.OnlyContainer = "web"
	const said = "Defaulted container \"web\": it is the only one that runs on \"web-1\"\n"
	clitest.WantStderr(t, f.Run("exec", "web/web-1", "--", "true"), 0, said)
	for _, line := range []string{"exec web/web-1 -q -- true", "exec web/web-1 -c web -- true"} {
		if got := f.Run(strings.Fields(line)...); got.Code != 0 || got.Stderr != "" {
			t.Errorf("%s: %+v", line, got)
		}
	}
}
