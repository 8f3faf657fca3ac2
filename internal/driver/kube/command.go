package kube

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/inventory"
	"github.com/connpool/connpool/internal/driver/runtimeerr"
)

// completePlace checks the names of a pod, which become parts of a path, and fills in
// the namespace.
func completePlace(place driver.Place, namespace string) (driver.Place, *driver.Error) {
	place.Namespace = cmp.Or(place.Namespace, namespace)
	if place.Pod == "" {
		return place, driver.Errorf(driver.NotFound, driver.StageStart, "a cluster runs commands in pods only; name the pod")
	}
	for kind, name := range map[string]string{"pod": place.Pod, "namespace": place.Namespace} {
		if problems := content.IsPathSegmentName(name); len(problems) > 0 || !utf8.ValidString(name) {
			return place, driver.Errorf(driver.NotFound, driver.StageStart, "%s",
				driver.Sanitize("no "+kind+" can be called "+strconv.Quote(name)+"; correct the name"))
		}
	}
	return place, nil
}

func commandArgv(command driver.Command) ([]string, *driver.Error) {
	if command.Subsystem != "" {
		return nil, driver.Errorf(driver.ProtocolError, driver.StageStart, "pods have no subsystems; run a command instead")
	}
	var argv []string
	if len(command.Env) > 0 {
		argv = append(argv, "env")
		for _, name := range slices.Sorted(maps.Keys(command.Env)) {
			argv = append(argv, name+"="+command.Env[name])
		}
	}
	switch {
	case len(command.Argv) > 0:
		argv = append(argv, command.Argv...)
	case command.Shell != "":
		argv = append(argv, "sh", "-c", command.Shell)
	default:
		argv = append(argv, "sh")
	}
	return argv, checkArgv(command)
}

func checkArgv(command driver.Command) *driver.Error {
	for name := range command.Env {
		if name == "" || strings.ContainsAny(name, "=") || strings.HasPrefix(name, "-") {
			return driver.Errorf(driver.ProtocolError, driver.StageStart,
				"an environment variable's name is empty, or has = or a leading - in it, which env cannot set; rename it")
		}
	}
	if len(command.Env) > 0 && len(command.Argv) > 0 && strings.Contains(command.Argv[0], "=") {
		return driver.Errorf(driver.ProtocolError, driver.StageStart,
			"a program with = in its name cannot be given environment variables; give none, or run it by a shell")
	}
	return command.CheckText("which Kubernetes cannot carry; pass such bytes by standard input")
}

// isAboutContainer reports whether the server refuses because of the container: it wants
// one of several to be named, or the pod has none of that name.
func isAboutContainer(refused *answer) bool {
	if refused.status != http.StatusBadRequest {
		return false
	}
	said := messageOf(refused)
	return strings.Contains(said, "container name must be specified") ||
		strings.HasPrefix(said, "container ") && strings.Contains(said, " is not valid for pod ")
}

// defaultContainerAnnotation is the annotation of a pod that names its default
// container.
const defaultContainerAnnotation = "kubectl.kubernetes.io/default-container"

// maxPodBytes bounds the description of a pod, whose annotations alone may have 256 KiB.
const maxPodBytes = 2 << 20

// look returns what is known of a pod, or nil if there is none or it may not be read.
func look(ctx context.Context, c *client, place driver.Place) (found *knownPod) {
	ctx, cancel := context.WithTimeout(ctx, c.options.StageTimeout)
	defer cancel()
	header := http.Header{"Accept": {"application/json"}}
	got, err := c.get(ctx, c.transport, podPath(place), header, maxPodBytes, driver.StageStart)
	if err != nil || got.status != http.StatusOK {
		return nil
	}
	_ = inventory.Decode(got.body, func(p *pod) { found = p.known() }) // or nothing is known of it
	return found
}

func exitCode(said *metav1.Status) (int, bool) {
	if said.Details == nil {
		return 0, false
	}
	for _, cause := range said.Details.Causes {
		if cause.Type == remotecommand.ExitCodeCauseType {
			code, err := strconv.Atoi(cause.Message)
			return code, err == nil && code > 0
		}
	}
	return 0, false
}

// What kubelets and runtimes say when they started no process. Each pattern is
// anchored, or so long that no failure of a running command matches it.
var (
	refusedByKubelet = regexp.MustCompile(`^(Internal error occurred: )*(unable to upgrade connection: |container not found \()`)
	noKubelet        = regexp.MustCompile(`^(Internal error occurred: )*error (dialing backend|sending request: \w+ "[^"]*"): ` +
		`(dial tcp|proxy error from|No agent available|tls: failed to verify certificate|x509: )`)
	notStartedByRuntime = regexp.MustCompile(`^.*OCI runtime exec failed: exec failed: .*unable to start container process: `)
	noContainer         = regexp.MustCompile(`^(Internal error occurred: )*error executing command in container: ` +
		`(container is not created or running|failed to exec in container: failed to get container: |` +
		`rpc error: code = NotFound desc = |.*container is in CONTAINER_EXITED state)`)
)

// neverRan recognizes a command that was not started. It returns the exit code that a
// shell would give it, or an error. It returns neither if the command may have run.
func neverRan(said string, place driver.Place) (code int, err *driver.Error) {
	where := "pod " + place.Pod + " in namespace " + place.Namespace
	if code, known := runtimeerr.ExitCode(said); known && notStartedByRuntime.MatchString(said) {
		return code, nil
	}
	switch {
	case refusedByKubelet.MatchString(said), noContainer.MatchString(said):
		return 0, driver.Errorf(driver.NotFound, driver.StageStart, "%s", driver.Sanitize(
			where+" does not run this container, or its kubelet refuses; check it with kubectl describe: "+said))
	case noKubelet.MatchString(said):
		return 0, driver.Errorf(driver.Unreachable, driver.StageStart, "%s", driver.Sanitize(
			"the cluster does not reach the node of "+where+"; check the node: "+said))
	}
	return 0, nil
}
