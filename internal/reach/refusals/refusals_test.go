package refusals

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

func TestARefusalTellsTheTimeThatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if (refusal{}).holds() {
			t.Error("the zero value holds")
		}
		told := &driver.Error{Reason: driver.ThrottledByServer, RetryAfter: time.Hour}
		r := refusal{told, time.Now().Add(time.Minute)}
		time.Sleep(50 * time.Second)
		if left := r.left(); !r.holds() || left.Reason != told.Reason || left.RetryAfter != 10*time.Second {
			t.Errorf("holds %t, %s left for %s, want 10s for %s", r.holds(), left.RetryAfter, left.Reason, told.Reason)
		}
		time.Sleep(10 * time.Second)
		if r.holds() || r.left().RetryAfter != 0 {
			t.Errorf("holds %t with %s left after its time", r.holds(), r.left().RetryAfter)
		}
		if told.RetryAfter != time.Hour {
			t.Error("the error itself was changed")
		}
	})
}
