package limits

import (
	"testing"

	"github.com/connpool/connpool/internal/registry/quota"
)

func TestCountsThatComeToZeroAreForgotten(t *testing.T) {
	c := NewCounter(Limits{StreamsPerUser: 1})
	end, err := c.Begin(quota.Owner{User: "ann"}, "web")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Begin(quota.Owner{User: "ann"}, "web"); err == nil {
		t.Error("ann has one more than the limit")
	}
	joined, _ := c.Join()
	end()
	if len(c.pools) != 0 || c.streams.Take(quota.Owner{User: "ann"}, 1) != quota.Free {
		t.Errorf("pools %v, or ann, are left", c.pools)
	}
	if c.total != 1 {
		t.Errorf("%d uses are counted, want the one that joined", c.total)
	}
	joined()
	<-c.Idle()
}
