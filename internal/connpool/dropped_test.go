package connpool

import (
	"errors"
	"testing"
	"testing/synctest"
)

func TestDropped(t *testing.T) {
	limits := Limits{MinWarm: 1, Max: 2}
	bubbles(t, map[string]func(*testing.T){
		"a connection that dies young is told of, with the cause": func(t *testing.T) {
			fix := newFixture(t, limits)
			fix.connect().cancel(errKilled)
			synctest.Wait()
			if got := fix.drops(); len(got) != 1 || !errors.Is(got[0], errKilled) {
				t.Errorf("told of %v, want %v", got, errKilled)
			}
		},
		"one that has lasted is not": func(t *testing.T) {
			fix := newFixture(t, limits)
			conn := fix.connect()
			after(Steady)
			conn.cancel(errKilled)
			synctest.Wait()
			if got := fix.drops(); len(got) != 0 {
				t.Errorf("told of %v, want nothing", got)
			}
		},
		"nor one that the pool closed": func(t *testing.T) {
			fix := newFixture(t, limits)
			fix.connect()
			_ = fix.pool.Close()
			synctest.Wait()
			if got := fix.drops(); len(got) != 0 {
				t.Errorf("told of %v, want nothing", got)
			}
		},
	})
}
