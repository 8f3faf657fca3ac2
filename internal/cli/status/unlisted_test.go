package status

import (
	"testing"

	"github.com/connpool/connpool/api/v1alpha1"
)

func TestFailingTargetsThatServeCountBehindTheNamedOnes(t *testing.T) {
	report := poolReport{
		Targets: v1alpha1.TargetCounts{Total: new(int32(12)), Ready: new(int32(12)), Failing: new(int32(12))},
		Failing: make([]trouble, 10),
	}
	if got := report.unlisted(); got != 2 {
		t.Errorf("%d more fail, want 2", got)
	}
	report.Targets.Ready, report.Targets.Failing = new(int32(0)), new(int32(10))
	if got := report.unlisted(); got != 0 {
		t.Errorf("%d that are still being connected count as failing", got)
	}
}
