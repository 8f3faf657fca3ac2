package listing

import (
	"encoding/json"
	"strings"
	"testing"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newShop returns a shop with two engines in the pool ci and a cluster in the pool k8s,
// whose user may exec and read nothing.
func newShop(t *testing.T) *clitest.Fixture {
	t.Helper()
	f := clitest.Shop(t, NewTargets, NewContainers, NewPods)
	for _, pool := range []string{"ci", "k8s"} {
		f.Pools = append(f.Pools, v1alpha1.ConnectionPool{
			ObjectMeta: metav1.ObjectMeta{Name: pool, Namespace: "shop"},
			Spec:       v1alpha1.ConnectionPoolSpec{TargetSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": pool}}},
		})
	}
	for name, pool := range map[string]string{"docker-1": "ci", "docker-2": "ci", "prod": "k8s"} {
		target := clitest.Target(name, pool)
		if target.Spec.Docker = new(v1alpha1.DockerTarget); pool == "k8s" {
			target.Spec.Docker, target.Spec.Kubernetes = nil, new(v1alpha1.KubernetesTarget)
		}
		f.Targets = append(f.Targets, target)
	}
	f.Places = map[string]livev1alpha1.ListingStatus{
		"docker-1": {Containers: []livev1alpha1.ListedContainer{
			{Name: "db", ID: "0123456789abcdef", Image: "postgres:17", State: "running", Status: "Up 2 hours", CreationTime: clitest.MinutesAgo(130)},
			{Name: "web\x1b[31m", ID: "fedcba9876543210", Image: "nginx", State: "running", Status: "Up 3 minutes", CreationTime: clitest.MinutesAgo(3)},
		}},
		"docker-2": {},
		"prod": {
			Pods: []livev1alpha1.ListedPod{{
				Name: "web-0", Namespace: "shop", Phase: "Running", Containers: []string{"app", "mesh"}, ContainerCount: 2, ReadyCount: 1,
				Node: "node-1", CreationTime: clitest.MinutesAgo(50),
			}},
			Truncated: true,
		},
	}
	for _, what := range []string{"get", "list"} {
		f.Denied[what+" connpool.dev/connectionpools"] = true
		f.Denied[what+" connpool.dev/connectiontargets"] = true
	}
	return f
}

func TestTargetsContainersAndPodsAreListedWithTheRightToExecOnly(t *testing.T) {
	f := newShop(t)
	clitest.Want(t, f.Run("targets", "web"), 0, `
NAME    TYPE   READY   REASON
web-1   ssh    True    -
web-2   ssh    False   AuthenticationFailed
`)
	clitest.Want(t, f.Run("targets", "connectionpool.connpool.dev/ci", "-o", "name"), 0, "ci/docker-1\nci/docker-2\n")
	clitest.Want(t, f.Run("containers", "ci"), 0, `
TARGET     NAME      IMAGE         STATUS         AGE
docker-1   db        postgres:17   Up 2 hours     130m
docker-1   web[31m   nginx         Up 3 minutes   3m
`)
	clitest.Want(t, f.Run("containers", "ci/docker-1", "-o", "wide"), 0, `
NAME      IMAGE         STATUS         AGE    ID
db        postgres:17   Up 2 hours     130m   0123456789ab
web[31m   nginx         Up 3 minutes   3m     fedcba987654
`)
	clitest.Want(t, f.Run("containers", "ci", "--target", "docker-1", "-o", "name"), 0, "container/db\ncontainer/web[31m\n")
	clitest.Want(t, f.Run("pods", "k8s/prod"), 0, `
NAME    READY   STATUS    CONTAINERS   AGE
web-0   1/2     Running   app,mesh     50m
`)
	clitest.Want(t, f.Run("pods", "k8s", "-A", "-o", "wide"), 0, `
TARGET   NAMESPACE   NAME    READY   STATUS    CONTAINERS   AGE   NODE
prod     shop        web-0   1/2     Running   app,mesh     50m   node-1
`)
	for _, request := range f.Requests() {
		if !strings.HasPrefix(request, "POST "+clitest.LivePools+"/") || !strings.HasSuffix(request, "/exec") {
			t.Errorf("asked %s", request)
		}
	}
}

func TestListsForProgramsHaveAListingForEachTarget(t *testing.T) {
	f := newShop(t)
	var got struct {
		Kind  string
		Items []livev1alpha1.Listing
	}
	if err := json.Unmarshal([]byte(f.Run("containers", "ci", "-o", "json").Stdout), &got); err != nil {
		t.Fatal(err)
	}
	if got.Kind != "List" || len(got.Items) != 2 || got.Items[0].Kind != "Listing" || got.Items[1].Status.Target != "docker-2" {
		t.Errorf("got %+v", got)
	}
	yaml := f.Run("pods", "k8s", "-o", "yaml").Stdout
	if !strings.Contains(yaml, "name: web-0") || !strings.Contains(yaml, "kind: List\n") {
		t.Errorf("got %s", yaml)
	}
}

func TestListsSayWhatIsMissing(t *testing.T) {
	f := newShop(t)
	clitest.WantStderr(t, f.Run("pods", "k8s"), 0, "there are more than are shown here")
	clitest.WantStderr(t, f.Run("containers", "ci/docker-2"), 0, "No container runs on target docker-2", "--all")
	clitest.WantStderr(t, f.Run("targets", "ci", "-l", "app=none"), 0, "No target of pool ci has these labels")
	clitest.WantStderr(t, f.Run("containers", "web"), 1, "no target of type docker")
	clitest.WantStderr(t, f.Run("containers", "ci/none"), 1, "none")
	clitest.WantStderr(t, f.Run("containers", "none"), 1, "none")
	clitest.WantStderr(t, f.Run("targets", "ci/docker-1"), 1, "write only its name, ci")
	clitest.WantStderr(t, f.Run("pods", "k8s", "-A", "--pod-namespace", "x"), 1, "cannot be used together")
	clitest.WantStderr(t, f.Run("pods", "k8s", "-l", "a=b=c"), 1, "-l")
	clitest.WantStderr(t, f.Run("pods"), 1, "POOL[/TARGET] is missing", "Usage: kubectl connpool pods POOL[/TARGET]")
	delete(f.Places, "docker-2")
	got := f.Run("containers", "ci")
	clitest.WantStderr(t, got, 1, "target docker-2 cannot be reached")
	if !strings.Contains(got.Stdout, "postgres") {
		t.Errorf("the other target is not listed: %s", got.Stdout)
	}
	f.Denied["create live.connpool.dev/connectionpools/exec"] = true
	clitest.WantStderr(t, f.Run("targets", "web"), 1, "kind: Role", `resources: ["connectionpools/exec"]`, "verbs: [create]")
}

func TestCompletionOffersTargetsContainersAndPodsToWhoMayExec(t *testing.T) {
	f := newShop(t)
	f.Places["docker-1"] = livev1alpha1.ListingStatus{Containers: []livev1alpha1.ListedContainer{{Name: "db"}, {Name: "web"}}}
	for name, test := range map[string]struct {
		words []string
		want  string
	}{
		"a target":             {[]string{"containers", "ci/"}, "ci/docker-1\nci/docker-2\n"},
		"a target by its flag": {[]string{"containers", "ci", "--target", "docker-2"}, "docker-2\n"},
		"a namespace of pods":  {[]string{"pods", "k8s", "--pod-namespace", ""}, "shop\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got := f.Run(append([]string{"__completeNoDesc"}, test.words...)...)
			if words, _, _ := strings.Cut(got.Stdout, ":4\n"); words != test.want {
				t.Errorf("completed %q, want %q", got.Stdout, test.want)
			}
		})
	}
}
