package clitest

import (
	"encoding/json"
	"io"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/cluster"
)

// post answers a request that is not upgraded: a listing, or a command on many targets.
func (a *api) post(out http.ResponseWriter, r *http.Request, namespace, pool string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		a.t.Error(err)
	}
	var of metav1.TypeMeta
	if err := json.Unmarshal(body, &of); err != nil {
		a.t.Error(err)
	}
	if of.Kind == "Exec" {
		a.execMany(out, r, body, namespace, pool)
		return
	}
	a.listing(out, body, namespace, pool)
}

// listing answers with the targets of a pool, or what one of them has.
func (a *api) listing(out http.ResponseWriter, body []byte, namespace, pool string) {
	var asked livev1alpha1.Listing
	if err := json.Unmarshal(body, &asked); err != nil {
		a.t.Error(err)
	}
	members := cluster.TargetsOf(&in(a.Pools, namespace, pool)[0], in(a.Targets, namespace, ""))
	if asked.Spec.Of == livev1alpha1.ListTargets {
		asked.Status.Targets = listed(members, asked.Spec.Selector)
		a.Answer(out, asked)
		return
	}
	target := asked.Spec.Target
	if target != "" && len(in(members, "", target)) == 0 {
		a.Refuse(out, notFound("connectiontargets", target))
		return
	}
	status, ok := a.Places[target]
	if !ok {
		a.Refuse(out, metav1.Status{Code: http.StatusServiceUnavailable, Message: "target " + target + " cannot be reached"})
		return
	}
	asked.Status = status
	a.Answer(out, asked)
}

func listed(members []v1alpha1.ConnectionTarget, selector string) (targets []livev1alpha1.ListedTarget) {
	selected, _ := labels.Parse(selector)
	for i := range members {
		if !selected.Matches(labels.Set(members[i].Labels)) {
			continue
		}
		target := livev1alpha1.ListedTarget{Name: members[i].Name, Type: string(members[i].Spec.Type())}
		for _, condition := range members[i].Status.Conditions {
			if condition.Type == v1alpha1.ConditionReady {
				target.Ready = condition.Status == metav1.ConditionTrue
				target.Reason = map[bool]string{false: condition.Reason}[target.Ready]
			}
		}
		targets = append(targets, target)
	}
	return targets
}
