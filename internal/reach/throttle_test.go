package reach

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

func TestThrottlesThatAreOverAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttled := &driver.Error{Reason: driver.ThrottledByServer, RetryAfter: time.Minute}
		known := throttles{servers: map[server]refusal{}}
		known.learn(server{address: "gone:22"}, throttled)
		time.Sleep(2 * time.Minute)
		known.learn(server{address: "new:22"}, throttled)
		if len(known.servers) != 1 || known.refusal(server{address: "new:22"}) == nil {
			t.Errorf("throttles of %v, want that of the new server only", known.servers)
		}
	})
}
