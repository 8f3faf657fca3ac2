package use

import "testing"

func TestCountsThatComeToZeroAreForgotten(t *testing.T) {
	c := newCounter(Limits{StreamsPerUser: 1})
	end, err := c.begin("ann", PoolName{Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.begin("ann", PoolName{Name: "web"}); err == nil {
		t.Error("ann has one more than the limit")
	}
	joined, _ := c.Join()
	end()
	if len(c.users)+len(c.pools) != 0 {
		t.Errorf("users %v and pools %v are left", c.users, c.pools)
	}
	if c.total != 1 {
		t.Errorf("%d uses are counted, want the one that joined", c.total)
	}
	joined()
	<-c.Idle()
}
