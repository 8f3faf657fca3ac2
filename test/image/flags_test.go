package image

import (
	"os"
	"strings"
	"testing"
)

// The image is built in three ways, which have to write the same programs.
func TestEveryWayToBuildTheImageHasTheSameFlags(t *testing.T) {
	for path, flags := range map[string][]string{
		"../../hack/compile/compile.go": {`"-trimpath", "-buildvcs=auto"`, `"-s -w -X main.set="+p.Version`, `"CGO_ENABLED=0"`},
		"../../Dockerfile":              {`-trimpath -buildvcs=auto -ldflags "-s -w -X main.set=$VERSION"`, "CGO_ENABLED=0", "USER " + user, `ENTRYPOINT ["/manager"]`},
		"../../Makefile":                {"LDFLAGS := -s -w -X main.set=$(VERSION)", "CGO_ENABLED=0 go build -trimpath -buildvcs=auto -ldflags"},
		// The end-to-end test tells two builds apart by the version in them.
		"../installed/fixture_test.go": {`"-s -w -X main.set="+version`, `"CGO_ENABLED=0"`},
	} {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, each := range flags {
			if !strings.Contains(string(content), each) {
				t.Errorf("%s does not build with %s", path, each)
			}
		}
	}
}
