package refusals

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

func TestThrottlesThatAreOverAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttled := &driver.Error{Reason: driver.ThrottledByServer, RetryAfter: time.Minute}
		known := NewThrottles()
		known.Learn(Server{Address: "gone:22"}, throttled)
		time.Sleep(2 * time.Minute)
		known.Learn(Server{Address: "new:22"}, throttled)
		if len(known.servers) != 1 || known.Refusal(Server{Address: "new:22"}) == nil {
			t.Errorf("throttles of %v, want that of the new server only", known.servers)
		}
	})
}
