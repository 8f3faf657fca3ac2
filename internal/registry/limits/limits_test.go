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

func TestSpareUsesLeaveHalfOfAPoolToOthers(t *testing.T) {
	c, ann := NewCounter(Limits{StreamsPerPool: 4}), quota.Owner{User: "ann"}
	var ends []func()
	for end, ok := c.BeginSpare(ann, "web"); ok; end, ok = c.BeginSpare(ann, "web") {
		ends = append(ends, end)
	}
	if len(ends) != 2 {
		t.Errorf("there are %d spare uses", len(ends))
	}
	for range 2 {
		end, err := c.Begin(quota.Owner{User: "bob"}, "web")
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, end)
	}
	for _, end := range ends {
		end()
	}
	<-c.Idle()
}
