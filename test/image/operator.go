package image

import (
	"fmt"
	"path"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// user runs the operator. No machine has a user with this number, and the pods of
// config/manager may run as no other than an unprivileged one.
const user = "65532:65532"

// Build is what the image of the operator is made of.
type Build struct {
	Platform v1.Platform
	// Programs are the paths of static programs. The first one is the entry point.
	Programs []string
	Labels   map[string]string
	Created  time.Time
}

// Operator returns the image of the operator: its programs in an otherwise empty file
// system, with a user without rights. The same programs give the same digest.
func Operator(build Build) (v1.Image, error) {
	files := newLayer()
	for _, program := range build.Programs {
		files.program(path.Base(program), program)
	}
	if err := files.close(); err != nil {
		return nil, fmt.Errorf("write the layer of the operator's image: %w", err)
	}
	made, err := files.image(v1.Config{Entrypoint: []string{"/" + path.Base(build.Programs[0])}, User: user, Labels: build.Labels})
	if err != nil {
		return nil, fmt.Errorf("make the operator's image: %w", err)
	}
	described, err := made.ConfigFile()
	if err != nil {
		return nil, err
	}
	described = described.DeepCopy()
	described.OS, described.Architecture = build.Platform.OS, build.Platform.Architecture
	described.Created = v1.Time{Time: build.Created}
	return mutate.ConfigFile(made, described)
}
