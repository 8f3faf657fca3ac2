package target

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/sshhost"
	"github.com/connpool/connpool/internal/cli/target/change"
)

// pollInterval is the time between two looks at the target.
const pollInterval = 250 * time.Millisecond

// wait follows the target until it is ready, and says what to type then. It returns an
// error with the operator's sentence if the target fails.
func (p *plan) wait(ctx context.Context) error {
	if p.timeout == 0 {
		return nil
	}
	objects, err := p.Cluster.Objects()
	if err != nil {
		return err
	}
	waited, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	w := waiting{settle: p.settle, begun: time.Now(), say: func(line string) { fmt.Fprintln(p.ErrOut, line) }}
	for {
		target, err := objects.Target(waited, types.NamespacedName{Namespace: p.Namespace, Name: p.target.Name})
		switch {
		case err != nil && waited.Err() == nil:
			return p.explain(ctx, err)
		case err == nil && w.look(target, time.Now()):
			return p.end(w.failure, w.said)
		}
		select {
		case <-time.After(pollInterval):
		case <-waited.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return p.end(cmp.Or(w.last, &metav1.Condition{
				Reason: "Unknown", Message: "the operator has not looked at it; find out why: " + p.Name + " doctor",
			}), w.said)
		}
	}
}

// waiting is what was seen of the target.
type waiting struct {
	settle time.Duration
	begun  time.Time
	say    func(string)
	// last is the newest answer of the operator, and failure the one that has lasted.
	last, failure *metav1.Condition
	// said is what was said last.
	said         string
	failingSince time.Time
}

// look takes notice of a target, and reports whether the wait is over.
func (w *waiting) look(target *v1alpha1.ConnectionTarget, now time.Time) bool {
	ready := meta.FindStatusCondition(target.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.ObservedGeneration != target.Generation {
		return false
	}
	if w.last == nil || w.last.Reason != ready.Reason {
		w.said = inWords(ready)
		w.say(fmt.Sprintf("%5.1fs  %s", now.Sub(w.begun).Seconds(), w.said))
	}
	w.last = ready
	if ready.Status == metav1.ConditionTrue {
		return true
	}
	if !isFailure(target, ready) {
		w.failingSince = time.Time{}
		return false
	}
	if w.failingSince.IsZero() {
		w.failingSince = now
	}
	if now.Sub(w.failingSince) < w.settle {
		return false
	}
	w.failure = ready
	return true
}

func inWords(ready *metav1.Condition) string {
	return display.OneLine(ready.Reason) + ": " + display.OneLine(ready.Message)
}

// isFailure reports whether a target is not ready for a reason that time alone does not cure.
func isFailure(target *v1alpha1.ConnectionTarget, ready *metav1.Condition) bool {
	conditions := target.Status.Conditions
	return ready.Reason == v1alpha1.ReasonPaused ||
		meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionStalled) ||
		meta.IsStatusConditionFalse(conditions, v1alpha1.ConditionReachable) ||
		meta.IsStatusConditionFalse(conditions, v1alpha1.ConditionCredentialsReady)
}

// end says what to type next, or why the target is not ready, unless that was said last.
func (p *plan) end(failure *metav1.Condition, said string) error {
	if failure == nil {
		fmt.Fprintf(p.ErrOut, "\n%s is ready. Next:\n\n  %s exec %s -- uptime\n", p.target.Name, p.Name+p.namespaceFlag(), p.place())
		return nil
	}
	why := inWords(failure)
	if why == said {
		why = display.OneLine(failure.Reason)
	}
	err := fmt.Errorf("target %s is not ready: %s", p.target.Name, why)
	hint := fmt.Sprintf("What was made stays, and the operator goes on trying. Stage by stage: %s check %s\nTo undo it: %s",
		p.Name+p.namespaceFlag(), p.target.Name, p.undo())
	if failure.Reason == v1alpha1.ReasonAuthenticationFailed && p.key != nil {
		hint = fmt.Sprintf("Does the host know this key? ssh-copy-id -i %s -p %d %s@%s\n%s",
			sshhost.Typed(p.key.file), p.target.Port, p.target.User, p.target.Host, hint)
	}
	return exit.Hint(err, "%s", hint)
}

// place is the pool, and the target if the pool may have several.
func (p *plan) place() string {
	if p.byName {
		return p.poolName() + "/" + p.target.Name
	}
	return p.poolName()
}

func (p *plan) namespaceFlag() string {
	if namespace := p.Cluster.NamespaceFlag(); namespace != "" {
		return " -n " + namespace
	}
	return ""
}

// undo is the command that removes what was made.
func (p *plan) undo() string {
	words := []string{"kubectl", "delete", "--namespace", p.Namespace}
	for _, s := range p.steps {
		if s.State == change.Created {
			words = append(words, s.Name)
		}
	}
	return strings.Join(words, " ")
}
