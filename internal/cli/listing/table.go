package listing

import (
	"fmt"
	"strings"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/plugin"
)

func (o *options) names(all []*livev1alpha1.Listing) (names []string) {
	for _, listing := range all {
		for _, target := range listing.Status.Targets {
			names = append(names, target.Name)
		}
		for _, container := range listing.Status.Containers {
			names = append(names, container.Name)
		}
		for _, pod := range listing.Status.Pods {
			names = append(names, pod.Name)
		}
	}
	return names
}

func (o *options) table(all []*livev1alpha1.Listing) *display.Table {
	t := map[livev1alpha1.ListingOf]*display.Table{
		livev1alpha1.ListTargets:    {Columns: []string{"NAME", "TYPE", "READY", "REASON"}},
		livev1alpha1.ListContainers: {Columns: []string{"TARGET", "NAME", "IMAGE", "STATUS", "AGE", "ID"}},
		livev1alpha1.ListPods:       {Columns: []string{"TARGET", "NAMESPACE", "NAME", "READY", "STATUS", "CONTAINERS", "AGE", "NODE"}},
	}[o.spec.Of]
	wide := o.Output.Form == plugin.Wide
	switch o.spec.Of {
	case livev1alpha1.ListContainers:
		t.ShowOnlyIf(o.command.Target == "", "TARGET")
		t.ShowOnlyIf(wide, "ID")
	case livev1alpha1.ListPods:
		t.ShowOnlyIf(o.command.Target == "", "TARGET")
		t.ShowOnlyIf(o.spec.AllNamespaces || wide, "NAMESPACE")
		t.ShowOnlyIf(wide, "NODE")
	case livev1alpha1.ListTargets:
	}
	for _, listing := range all {
		o.rows(t, &listing.Status)
	}
	return t
}

func (o *options) rows(t *display.Table, found *livev1alpha1.ListingStatus) {
	now := o.Now()
	for i := range found.Targets {
		target := &found.Targets[i]
		ready := map[bool]string{true: "True", false: "False"}[target.Ready]
		t.Add(target.Name, target.Type, ready, display.OrNone(target.Reason))
	}
	for i := range found.Containers {
		c := &found.Containers[i]
		t.Add(found.Target, c.Name, c.Image, c.Status, display.Ago(c.CreationTime, now), short(c.ID))
	}
	for i := range found.Pods {
		p := &found.Pods[i]
		t.Add(found.Target, p.Namespace, p.Name, fmt.Sprintf("%d/%d", p.ReadyCount, p.ContainerCount), p.Phase,
			strings.Join(p.Containers, ","), display.Ago(p.CreationTime, now), display.OrNone(p.Node))
	}
}

// short returns an ID as docker shows it.
func short(id string) string { return id[:min(len(id), 12)] }
