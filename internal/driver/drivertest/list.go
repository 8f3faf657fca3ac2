package drivertest

import (
	"context"
	"slices"
	"testing"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/inventory"
)

// list tests a connection that lists places, among which is that of the harness.
func (s suite) list(t *testing.T) {
	t.Run("the place of commands is in it", func(t *testing.T) {
		found, err := s.places(t.Context(), s.dial(t), inventory.Query{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		if name := s.Place.Pod + s.Place.Container; !slices.Contains(found.Names(), name) {
			t.Errorf("%s is not in %v", name, found.Names())
		}
		if found.More {
			t.Error("some were left out")
		}
	})
	t.Run("it is as long as it may be", func(t *testing.T) {
		conn := s.dial(t)
		all, err := s.places(t.Context(), conn, inventory.Query{All: true})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.places(t.Context(), conn, inventory.Query{All: true, Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Names()) != 1 || got.More != (len(all.Names()) > 1) {
			t.Errorf("of %v there is %+v", all.Names(), got)
		}
	})
	t.Run("nothing is asked when the caller has given up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.places(ctx, s.dial(t), inventory.Query{})
		s.wantNotListed(t, err, driver.Timeout)
	})
	t.Run("a connection that has ended lists nothing", func(t *testing.T) {
		conn := s.dial(t)
		_ = conn.Close()
		_, err := s.places(t.Context(), conn, inventory.Query{})
		s.wantNotListed(t, err, driver.Unreachable)
	})
}

func (s suite) places(ctx context.Context, conn driver.Conn, query inventory.Query) (*inventory.Places, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return conn.(inventory.Lister).List(ctx, query)
}

func (s suite) wantNotListed(t *testing.T, err error, reason driver.Reason) {
	t.Helper()
	got, ok := driver.Classified(err)
	if !ok || got.Reason != reason || got.Started {
		t.Errorf("got %+v, want %s", err, reason)
	}
}
