package run

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/driver"
)

// engines is a cluster with three engines in the pool ci and a cluster in the pool k8s. A
// command says where it runs, and fails in the container broken.
func engines(t *testing.T) *clitest.Fixture {
	t.Helper()
	f := clitest.Shop(t, New)
	for _, pool := range []string{"ci", "k8s"} {
		f.Pools = append(f.Pools, v1alpha1.ConnectionPool{
			ObjectMeta: metav1.ObjectMeta{Name: pool, Namespace: "shop"},
			Spec:       v1alpha1.ConnectionPoolSpec{TargetSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": pool}}},
		})
	}
	for name, pool := range map[string]string{"docker-1": "ci", "docker-2": "ci", "docker-10": "ci", "prod": "k8s"} {
		target := clitest.Target(name, pool)
		if target.Spec.Docker = new(v1alpha1.DockerTarget); pool == "k8s" {
			target.Spec.Docker, target.Spec.Kubernetes = nil, new(v1alpha1.KubernetesTarget)
		}
		f.Targets = append(f.Targets, target)
	}
	f.Places = map[string]livev1alpha1.ListingStatus{
		"docker-1":  {Containers: []livev1alpha1.ListedContainer{{Name: "db"}, {Name: "web"}}},
		"docker-2":  {Containers: []livev1alpha1.ListedContainer{{Name: "web"}}},
		"docker-10": {},
		"prod":      {Pods: []livev1alpha1.ListedPod{{Name: "web-10", Namespace: "shop"}, {Name: "web-2", Namespace: "shop"}}},
	}
	f.Remote = func(_ context.Context, o livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		fmt.Fprintln(streams.Stdout, "ran", strings.Join([]string{o.Target, o.Namespace, o.Pod, o.Container}, "/"))
		return clitest.Exits(map[bool]int{true: 3}[o.Container == "broken"], "")
	}
	return f
}

func TestRunRunsInEveryContainerThatRuns(t *testing.T) {
	f := engines(t)
	got := f.Run("run", "ci", "--all-containers", "--parallel", "1", "--", "it")
	clitest.Want(t, got, 0, "docker-1/db  | ran docker-1///db\ndocker-1/web | ran docker-1///web\ndocker-2/web | ran docker-2///web\n")
	clitest.WantStderr(t, got, 0, "CONTAINER ", "✔ docker-1/db ", "3 of 3 containers succeeded")
	for line, want := range map[string]string{
		"run ci/docker-2 --all-containers -- it":                       "docker-2/web | ran docker-2///web\n",
		"run ci -l app=ci --all-containers --parallel 1 -- it":         got.Stdout,
		"run ci --all --all-containers --parallel 1 -- it":             got.Stdout,
		"run ci --target docker-1 --all-containers --parallel 1 -- it": "docker-1/db  | ran docker-1///db\ndocker-1/web | ran docker-1///web\n",
	} {
		clitest.Want(t, f.Run(strings.Fields(line)...), 0, want)
	}
}

func TestRunRunsInEveryPodWithTheLabels(t *testing.T) {
	f := engines(t)
	clitest.Want(t, f.Run("run", "k8s", "--pod-selector", "app=web", "--parallel", "1", "--", "it"), 0,
		"prod/web-2  | ran prod/shop/web-2/\nprod/web-10 | ran prod/shop/web-10/\n")
	got := f.Run("run", "k8s", "--pod-selector", "app=web", "--pod-namespace", "shop", "-c", "app", "--parallel", "1", "--", "it")
	clitest.Want(t, got, 0, "prod/web-2  | ran prod/shop/web-2/app\nprod/web-10 | ran prod/shop/web-10/app\n")
	clitest.WantStderr(t, got, 0, "POD ", "2 of 2 pods succeeded")
}

func TestRunAsksForThePodsOfTheNamespaceAndLabels(t *testing.T) {
	f := engines(t)
	var asked []livev1alpha1.ListingSpec
	f.Answers[clitest.LivePools+"/k8s/exec"] = func(out http.ResponseWriter, r *http.Request) {
		var listing livev1alpha1.Listing
		if err := json.NewDecoder(r.Body).Decode(&listing); err != nil {
			t.Error(err)
		}
		asked = append(asked, listing.Spec)
		f.Answer(out, listing)
	}
	clitest.WantStderr(t, f.Run("run", "k8s/prod", "--pod-selector", "app=web", "--pod-namespace", "shop", "--", "it"), 1,
		"no pod with the labels app=web runs on the targets of pool k8s", "kubectl connpool pods k8s -A")
	want := []livev1alpha1.ListingSpec{{
		Of: livev1alpha1.ListPods, Target: "prod", Namespace: "shop", Selector: "app=web", Limit: livev1alpha1.MaxListingLimit,
	}}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
}

func TestRunForProgramsSaysInWhichContainerOrPod(t *testing.T) {
	f := engines(t)
	type where struct{ Target, Namespace, Pod, Container string }
	for line, want := range map[string][]where{
		"run ci/docker-1 --all-containers -o json -- it":               {{Target: "docker-1", Container: "db"}, {Target: "docker-1", Container: "web"}},
		"run k8s --pod-selector app=web -c app -o json -- it":          {{"prod", "shop", "web-2", "app"}, {"prod", "shop", "web-10", "app"}},
		"run k8s --all --pod web-2 --pod-namespace shop -o json -- it": {{"prod", "shop", "web-2", ""}},
		"run ci --target docker-2 --container web -o json -- it":       {{Target: "docker-2", Container: "web"}},
	} {
		var report struct{ Results []where }
		got := f.Run(strings.Fields(line)...)
		if err := json.Unmarshal([]byte(got.Stdout), &report); err != nil || got.Code != 0 {
			t.Fatalf("%s: code %d, %v: %s%s", line, got.Code, err, got.Stdout, got.Stderr)
		}
		if diff := cmp.Diff(want, report.Results); diff != "" {
			t.Errorf("%s: %s", line, diff)
		}
	}
}

func TestATargetThatCannotSayWhatRunsOnItFailsAndStopsNoOther(t *testing.T) {
	f := engines(t)
	delete(f.Places, "docker-1")
	f.Places["docker-10"] = livev1alpha1.ListingStatus{Truncated: true}
	got := f.Run("run", "ci", "--all-containers", "--", "it")
	clitest.Want(t, got, 1, "docker-2/web | ran docker-2///web\n")
	clitest.WantStderr(t, got, 1, "✘ docker-1       NotStarted", "target docker-1 cannot be reached",
		"✘ docker-10      NotStarted", "more than 1000 run on it", "1 of 3 succeeded, 2 failed")
	clitest.WantStderr(t, f.Run("run", "ci", "--all-containers", "--fail-fast", "--parallel", "1", "--", "it"), 1,
		"- docker-2/web   Skipped", "another container failed before")
	f.Places["docker-1"] = livev1alpha1.ListingStatus{Containers: []livev1alpha1.ListedContainer{{Name: "broken"}}}
	clitest.WantStderr(t, f.Run("run", "ci/docker-1", "--all-containers", "--", "it"), 1, "docker-1/broken   Completed   3 ", "0 of 1 container")
}

func TestRunExplainsThatNoContainerCanBeFound(t *testing.T) {
	f := engines(t)
	for line, want := range map[string]string{
		"run ci/docker-10 --all-containers -- it":               "no container runs on the targets of pool ci",
		"run web --all-containers -- it":                        "no target of type docker",
		"run ci --pod-selector app=web -- it":                   "no target of type kubernetes",
		"run ci -l app=none --all-containers -- it":             "no target of pool ci has the labels app=none",
		"run none --all-containers -- it":                       "none",
		"run ci --all-containers -c web -- it":                  "--all-containers excludes --container",
		"run ci --all-containers --pod-selector a=b -- it":      "exclude each other",
		"run k8s --pod web-2 --pod-selector a=b -- it":          "exclude each other",
		"run k8s --pod-selector= -- it":                         "--pod-selector is empty",
		"run k8s --pod-selector a=b=c -- it":                    "--pod-selector: ",
		"run ci --all --target docker-1 --all-containers -- it": "--all, --target or -l",
	} {
		clitest.WantStderr(t, f.Run(strings.Fields(line)...), 1, want)
	}
	f.Denied["create live.connpool.dev/connectionpools/exec"] = true
	clitest.WantStderr(t, f.Run("run", "ci", "--all-containers", "--", "it"), 1, `resources: ["connectionpools/exec"]`, "verbs: [create]")
	clitest.WantStderr(t, f.Run("run", "ci/docker-1", "--all-containers", "--", "it"), 1, `resources: ["connectionpools/exec"]`)
}

func TestRunNeedsOnlyTheRightToExec(t *testing.T) {
	f := engines(t)
	maps.Copy(f.Denied, map[string]bool{
		"get connpool.dev/connectionpools": true, "list connpool.dev/connectionpools": true, "list connpool.dev/connectiontargets": true,
	})
	all := "web-1 | ran web-1///\nweb-2 | ran web-2///\n"
	clitest.Want(t, f.Run("run", "web", "--all", "--parallel", "1", "--", "it"), 0, all)
	clitest.Want(t, f.Run("run", "web", "-l", "app=web", "--parallel", "1", "--", "it"), 0, all)
	clitest.WantStderr(t, f.Run("run", "web", "-l", "app=db", "--", "it"), 1, "no target of pool web has the labels app=db")
	clitest.Want(t, f.Run("run", "ci/docker-2", "--all-containers", "--", "it"), 0, "docker-2/web | ran docker-2///web\n")
	f.Denied["create live.connpool.dev/connectionpools/exec"] = true
	clitest.WantStderr(t, f.Run("run", "web", "--all", "--", "it"), 1, "forbidden", "kind: Role")
}

func TestRunSaysWhichContainerWasChosen(t *testing.T) {
	f := engines(t)
	f.OnlyContainer = "web"
	clitest.WantStderr(t, f.Run("run", "ci/docker-2", "--", "it"), 0,
		"docker-2 | Defaulted container \"web\": it is the only one that runs on \"docker-2\"\n")
	if got := f.Run("run", "ci/docker-2", "-c", "web", "--", "it"); strings.Contains(got.Stderr, "Defaulted") {
		t.Errorf("printed %s", got.Stderr)
	}
	if got := f.Run("run", "ci/docker-2", "-o", "json", "--", "it"); got.Stderr != "" || !strings.Contains(got.Stdout, `"container": "web"`) {
		t.Errorf("for programs: %+v", got)
	}
}
