package terminal

import (
	"testing"
	"testing/synctest"

	"github.com/connpool/connpool/client"
)

func TestOnlyASizeThatDiffersIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		small, large := client.Size{Columns: 80, Rows: 24}, client.Size{Columns: 120, Rows: 40}
		looks := []client.Size{small, small, large, large, small}
		changes, sizes := make(chan struct{}), make(chan client.Size, len(looks))
		look := func() client.Size {
			next := looks[0]
			looks = looks[1:]
			return next
		}
		go watchSize(t.Context(), changes, small, look, sizes)
		for range looks {
			changes <- struct{}{}
		}
		synctest.Wait()
		if len(sizes) != 2 || <-sizes != large || <-sizes != small {
			t.Errorf("%d sizes are told, want the large one and the small one again", len(sizes))
		}
	})
}
