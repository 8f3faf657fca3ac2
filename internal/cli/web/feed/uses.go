package feed

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/web/shown"
)

const (
	// chosenFor is how long a target counts as chosen after a page has asked for it.
	chosenFor = 3 * time.Second
	// mostChosen is about how many targets uses are asked.
	mostChosen = 4
	// mostUses is how many uses of a target a page can show, the newest first.
	mostUses = 40
)

// choice is a target that a page shows in detail.
type choice struct {
	asked time.Time
	uses  []livev1alpha1.Use
	heard bool
}

// pollUses asks who uses the targets that pages have chosen.
func (f *Feed) pollUses(ctx context.Context) {
	for _, chosen := range f.choices() {
		f.uses.poll(ctx, func() error {
			list, err := f.source.Live.Uses(ctx, chosen.Namespace, metav1.ListOptions{
				Limit:         mostUses,
				FieldSelector: fields.Set{livev1alpha1.FieldPool: chosen.Pool, livev1alpha1.FieldTarget: chosen.Target}.String(),
			})
			if err == nil {
				f.learnUses(chosen, list.Items)
			}
			return err
		})
	}
}

// choices returns the targets that pages show now, and forgets the others.
func (f *Feed) choices() []shown.Choice {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []shown.Choice
	for chosen, c := range f.chosen {
		switch {
		case time.Since(c.asked) > chosenFor:
			delete(f.chosen, chosen)
		case len(all) < mostChosen:
			all = append(all, chosen)
		}
	}
	return all
}

func (f *Feed) learnUses(chosen shown.Choice, uses []livev1alpha1.Use) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.chosen[chosen]; c != nil {
		c.uses, c.heard = uses, true
	}
}

// usesOf returns the uses of a chosen target or, if they could not be read, why, and
// remembers the choice. The caller holds the lock.
func (f *Feed) usesOf(chosen shown.Choice) (uses []livev1alpha1.Use, why string) {
	if chosen.Target == "" || chosen.Pool == "" {
		return nil, ""
	}
	if f.chosen[chosen] == nil {
		f.chosen[chosen] = &choice{}
	}
	c := f.chosen[chosen]
	c.asked = time.Now()
	if refused := f.uses.lastRefusal(); refused != nil && !c.heard {
		return nil, wordsOf(refused)
	}
	return c.uses, ""
}
