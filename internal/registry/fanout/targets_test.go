package fanout

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
)

func TestTargetsThatAreWrongAreRefusedWithTheirField(t *testing.T) {
	all := &live.ExecTargets{All: true}
	many := make([]string, live.MaxExecTargets+1)
	for i := range many {
		many[i] = fmt.Sprint("web-", i)
	}
	for name, test := range map[string]struct {
		spec live.ExecSpec
		want []string
	}{
		"none is one target":                  {spec: live.ExecSpec{Target: "web-1"}},
		"all":                                 {spec: live.ExecSpec{Targets: all, Container: "app", Pod: "web-0"}},
		"names":                               {spec: live.ExecSpec{Targets: &live.ExecTargets{Names: []string{"a", "b"}, Parallelism: live.MaxParallelism}}},
		"a selector":                          {spec: live.ExecSpec{Targets: &live.ExecTargets{Selector: metav1.SetAsLabelSelector(map[string]string{"a": "b"})}}},
		"no choice":                           {live.ExecSpec{Targets: &live.ExecTargets{}}, []string{"spec.targets"}},
		"two choices":                         {live.ExecSpec{Targets: &live.ExecTargets{All: true, Names: []string{"a"}}}, []string{"spec.targets"}},
		"one target beside many":              {live.ExecSpec{Targets: all, Target: "a"}, []string{"spec.target"}},
		"a subsystem":                         {live.ExecSpec{Targets: all, Subsystem: "sftp"}, []string{"spec.subsystem"}},
		"an empty selector":                   {live.ExecSpec{Targets: &live.ExecTargets{Selector: &metav1.LabelSelector{}}}, []string{"spec.targets.selector"}},
		"a label that is none":                {live.ExecSpec{Targets: &live.ExecTargets{Selector: metav1.SetAsLabelSelector(map[string]string{"a b": "c"})}}, []string{"spec.targets.selector.matchLabels"}},
		"a name that is there twice":          {live.ExecSpec{Targets: &live.ExecTargets{Names: []string{"a", "b", "a"}}}, []string{"spec.targets.names[2]"}},
		"an empty name":                       {live.ExecSpec{Targets: &live.ExecTargets{Names: []string{""}}}, []string{"spec.targets.names[0]"}},
		"more names than there may be":        {live.ExecSpec{Targets: &live.ExecTargets{Names: many}}, []string{"spec.targets.names"}},
		"a negative parallelism":              {live.ExecSpec{Targets: &live.ExecTargets{All: true, Parallelism: -1}}, []string{"spec.targets.parallelism"}},
		"a parallelism beyond the largest":    {live.ExecSpec{Targets: &live.ExecTargets{All: true, Parallelism: live.MaxParallelism + 1}}, []string{"spec.targets.parallelism"}},
		"more output than a command may have": {live.ExecSpec{Targets: &live.ExecTargets{All: true, OutputBytes: live.MaxExecOutputBytes + 1}}, []string{"spec.targets.outputBytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, problem := range Validate(field.NewPath("spec"), &test.spec) {
				got = append(got, problem.Field)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTargetsAreChosenInTheOrderInWhichPeopleCount(t *testing.T) {
	var members []v1alpha1.ConnectionTarget
	for _, name := range []string{"web-10", "web-2", "db-1"} {
		member := v1alpha1.ConnectionTarget{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"tier": name[:2]}}}
		members = append(members, member)
	}
	for name, test := range map[string]struct {
		targets live.ExecTargets
		want    []string
	}{
		"all":                               {live.ExecTargets{All: true}, []string{"db-1", "web-2", "web-10"}},
		"those whose labels match":          {live.ExecTargets{Selector: metav1.SetAsLabelSelector(map[string]string{"tier": "we"})}, []string{"web-2", "web-10"}},
		"those named, which may be missing": {live.ExecTargets{Names: []string{"web-10", "gone", "web-2"}}, []string{"gone", "web-2", "web-10"}},
	} {
		t.Run(name, func(t *testing.T) {
			asked := slices.Clone(test.targets.Names)
			got, err := Names(&test.targets, members)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(asked, test.targets.Names); diff != "" {
				t.Errorf("the request was changed (-want +got):\n%s", diff)
			}
		})
	}
}
