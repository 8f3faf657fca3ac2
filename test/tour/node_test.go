//go:build e2e

package tour

import "testing"

// TestTheTourWithContainers takes the sections that need root, and what comes before them.
func TestTheTourWithContainers(t *testing.T) {
	newTour(t).take(func(s step) bool { return s.document == tutorial && (needsNode.MatchString(s.section) || s.isSetUp()) })
}
