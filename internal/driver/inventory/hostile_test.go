package inventory

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// watchful is an entry that sees whether another one is decoded at the same time.
type watchful struct{}

var (
	_        json.Unmarshaler = (*watchful)(nil)
	meeting                   = make(chan struct{})
	together atomic.Int32
)

// UnmarshalJSON implements json.Unmarshaler.
func (*watchful) UnmarshalJSON([]byte) error {
	select {
	case meeting <- struct{}{}:
		together.Add(1)
	case <-meeting:
	case <-time.After(50 * time.Millisecond):
	}
	return nil
}

func TestEntriesOfSeveralListsAreDecodedOneAtATime(t *testing.T) {
	var reading sync.WaitGroup
	for range 4 {
		reading.Go(func() {
			err := Read(&endless{`[{}]`, " "}, "", func(*watchful) bool { return false })
			if err != nil {
				t.Error(err)
			}
		})
	}
	reading.Wait()
	if together.Load() > 0 {
		t.Errorf("%d entries were decoded while another one was", together.Load())
	}
}
