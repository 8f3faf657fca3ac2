package connectiontarget

import (
	"runtime"
	"testing"
	"weak"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/poolset"
)

// The pace keeps the last status of each target.
func TestAStatusDoesNotKeepItsTargetInMemory(t *testing.T) {
	next, target := func() (v1alpha1.ConnectionTargetStatus, weak.Pointer[v1alpha1.ConnectionTarget]) {
		f := complete()
		return report(f, decide(f, sshOnly), observation(seenBy("p", poolset.HealthUp, 1)), wasReady(), "replica"), weak.Make(f.target)
	}()
	runtime.GC()
	if target.Value() != nil {
		t.Error("the target is kept")
	}
	runtime.KeepAlive(next)
}
