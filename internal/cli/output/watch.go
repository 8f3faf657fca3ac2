package output

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/connpool/connpool/internal/cli/exit"
)

const (
	// pause is between two looks of a watch.
	pause = 2 * time.Second
	// longestPause is how long the pause may get while the cluster does not answer.
	longestPause = 30 * time.Second
	// rest is how many times as long as a look the pause after it is at least.
	rest = 10
)

// shown is an item as it was printed.
type shown[T any] struct {
	item  T
	state string
}

// watch looks again and again, and prints the items that have changed.
func (l *List[T]) watch(ctx context.Context, printed printer[T], items []T) error {
	known := map[types.NamespacedName]shown[T]{}
	l.changes(known, printed, items)
	wait, failing := pause, false
	for {
		select {
		case <-ctx.Done():
			return exit.With(exit.Interrupted)
		case <-time.After(wait):
		}
		start := time.Now()
		items, err := l.Read(ctx)
		switch {
		case ctx.Err() != nil:
			return exit.With(exit.Interrupted)
		case err != nil && isFinal(err):
			return err
		case err != nil:
			if !failing {
				exit.Print(l.factory.ErrOut, fmt.Errorf("%w; trying again", err))
			}
			failing, wait = true, min(2*wait, longestPause)
			continue
		}
		failing, wait = false, max(pause, rest*time.Since(start))
		if changed := l.changes(known, printed, items); len(changed) > 0 {
			if err := printed.changed(changed); err != nil {
				return err
			}
		}
	}
}

// isFinal reports whether asking again would get the same error.
func isFinal(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	code := status.Status().Code
	return code >= http.StatusBadRequest && code < http.StatusInternalServerError && code != http.StatusTooManyRequests
}

// changes returns the items that are not as they were printed, and notes how they
// are now.
func (l *List[T]) changes(known map[types.NamespacedName]shown[T], printed printer[T], items []T) (changed []T) {
	present := make(map[types.NamespacedName]bool, len(items))
	for i := range items {
		key, state := l.Key(&items[i]), printed.state(&items[i])
		present[key] = true
		if before, ok := known[key]; !ok || before.state != state {
			changed = append(changed, items[i])
			known[key] = shown[T]{items[i], state}
		}
	}
	return append(changed, l.gone(known, present)...)
}

// gone returns the items that are no longer present, and forgets them.
func (l *List[T]) gone(known map[types.NamespacedName]shown[T], present map[types.NamespacedName]bool) (gone []T) {
	byName := func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) }
	for _, key := range slices.SortedFunc(maps.Keys(known), byName) {
		if present[key] {
			continue
		}
		item := known[key].item
		delete(known, key)
		if l.Gone != nil {
			l.Gone(&item)
			gone = append(gone, item)
		}
	}
	return gone
}
