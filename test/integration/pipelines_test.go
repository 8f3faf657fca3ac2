package integration

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/connpool/connpool/internal/cli"
)

// image is that of the page about pipelines.
const image = "registry.example.com/connpool:dev"

// pipelines returns the manifests in the page, by their kinds: what is indented there and
// is YAML. The workflow of GitHub has no kind.
func pipelines(t *testing.T) map[string][]byte {
	t.Helper()
	page, err := os.ReadFile("../../docs/how-to/pipelines.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]byte{}
	for block := range strings.SplitSeq(string(page), "\n\n") {
		if !strings.HasPrefix(block, "    apiVersion: ") && !strings.HasPrefix(block, "    on: ") {
			continue
		}
		text := []byte(strings.ReplaceAll("\n"+block, "\n    ", "\n"))
		var named struct{ Kind string }
		if err := yaml.Unmarshal(text, &named); err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		found[named.Kind] = text
	}
	return found
}

// read decodes a manifest, in which every field must be one of the type.
func read[T any](t *testing.T, text []byte) T {
	t.Helper()
	var object T
	if err := yaml.UnmarshalStrict(text, &object); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return object
}

// task, workflowTemplate and workflow are what the page uses of Tekton, of Argo Workflows
// and of GitHub, with the names of their documentation.
type (
	task struct {
		manifest
		Spec struct {
			Params []struct{ Name, Type string }
			Steps  []corev1.Container
		}
	}
	workflowTemplate struct {
		manifest
		Spec struct {
			Entrypoint, ServiceAccountName string
			Arguments                      parameters
			Templates                      []struct {
				Name          string
				Inputs        parameters
				RetryStrategy struct {
					Limit, RetryPolicy, Expression string
					Backoff                        struct{ Duration, Factor, MaxDuration string }
				}
				Container corev1.Container
			}
		}
	}
	workflow struct {
		On   string `json:"true"` // in YAML 1.1 that is what it is
		Jobs map[string]struct {
			RunsOn         string `json:"runs-on"`
			TimeoutMinutes int    `json:"timeout-minutes"`
			Steps          []struct {
				Env map[string]string
				Run string
			}
		}
	}
	manifest struct {
		APIVersion, Kind string
		Metadata         struct{ Name string }
	}
	parameters struct {
		Parameters []struct{ Name, Value string }
	}
)

// deployer applies the right of the page in a namespace and returns its account's
// kubeconfig.
func deployer(t *testing.T, space string) string {
	t.Helper()
	sample, err := os.ReadFile("../../config/samples/access/exec-one-pool.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(sample), "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			t.Fatal(err)
		}
		object.SetNamespace(space)
		if object.GetKind() == "RoleBinding" {
			binding := read[rbacv1.RoleBinding](t, []byte(document))
			binding.Namespace, binding.Subjects[0].Namespace = space, space
			create(t, &binding)
			continue
		}
		create(t, object)
	}
	account, err := env.plane.ServiceAccount(t.Context(), space, "deploy-web")
	if err != nil {
		t.Fatal(err)
	}
	return kubeconfig(t, account, space)
}

// pluginAs runs a command line of the page, which begins with the plugin.
func pluginAs(kubeconfig string, line []string) (int, string) {
	args := append([]string{"connpool", "--kubeconfig", kubeconfig}, line[1:]...)
	var printed bytes.Buffer
	code := cli.Main(args, "test", genericiooptions.IOStreams{In: &bytes.Buffer{}, Out: &printed, ErrOut: &printed})
	return code, printed.String()
}

func TestThePipelinesOfThePageRunTheirCommand(t *testing.T) {
	f := warm(t, startSSHD(t))
	kubeconfig, found := deployer(t, f.pool.Namespace), pipelines(t)

	job := read[batchv1.Job](t, found["Job"])
	job.Namespace = f.pool.Namespace
	if err := env.client.Create(t.Context(), &job, client.DryRunAll, client.FieldValidation("Strict")); err != nil {
		t.Errorf("the Job: %v", err)
	}
	tekton, argo := read[task](t, found["Task"]), read[workflowTemplate](t, found["WorkflowTemplate"])
	step, container := tekton.Spec.Steps[0], argo.Spec.Templates[0].Container
	if argo.Spec.Entrypoint != argo.Spec.Templates[0].Name || argo.Spec.ServiceAccountName != job.Spec.Template.Spec.ServiceAccountName {
		t.Errorf("the WorkflowTemplate: %+v", argo.Spec)
	}
	given := strings.NewReplacer("$(params.argv[*])", "uname", "web/$(params.target)", "web/web", "web/{{inputs.parameters.target}}", "web/web", "web/web-1", "web/web")
	containers := map[string]corev1.Container{"Job": job.Spec.Template.Spec.Containers[0], "Tekton": step, "Argo": container}
	for name, c := range containers {
		line := slices.Concat(c.Command, c.Args)
		for i := range line {
			line[i] = given.Replace(line[i])
		}
		if line[0] != "/kubectl-connpool" || c.Image != image {
			t.Errorf("%s: %s of %s is not the plugin of the image", name, line[0], c.Image)
		}
		eventually(t, 15*time.Second, name, func() (bool, string) { // until the right is known
			code, printed := pluginAs(kubeconfig, line)
			return code == 0 && strings.Contains(printed, "Linux"), printed
		})
	}
}

func TestTheWorkflowOfThePageTriesAgainOnlyWhatWasNotStarted(t *testing.T) {
	f := warm(t, startSSHD(t))
	kubeconfig, found := deployer(t, f.pool.Namespace), pipelines(t)
	script := read[workflow](t, found[""]).Jobs["deploy"].Steps[0].Run
	_, rest, _ := strings.Cut(script, image)
	words, _, _ := strings.Cut(rest, ";")
	eventually(t, 15*time.Second, "the command of the workflow", func() (bool, string) {
		line := strings.Fields(strings.Replace(words, "web/web-1", "web/web", 1))
		code, printed := pluginAs(kubeconfig, append([]string{"plugin"}, line...))
		return code == 0, printed
	})
	for name, tc := range map[string]struct {
		codes []string
		runs  int
		fails bool
	}{
		"success":                      {[]string{"0"}, 1, false},
		"a failure":                    {[]string{"3", "0"}, 1, true},
		"an unknown outcome":           {[]string{"255", "0"}, 1, true},
		"not started, and then it was": {[]string{"254", "254", "0"}, 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			// Programs that end with one code after the other, and that do not wait.
			docker := "#!/bin/sh\ncd " + folder + "\necho >>runs\nexit $(echo " + strings.Join(tc.codes, " ") + " | cut -d' ' -f$(wc -l <runs))\n"
			for program, text := range map[string]string{"docker": docker, "sleep": "#!/bin/sh\n"} {
				if err := os.WriteFile(folder+"/"+program, []byte(text), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			command := exec.CommandContext(t.Context(), "bash", "-e", "-o", "pipefail", "-c", script)
			command.Env = []string{"PATH=" + folder + ":" + os.Getenv("PATH"), "RUNNER_TEMP=" + folder, "CONFIG=x"}
			output, err := command.CombinedOutput()
			runs, _ := os.ReadFile(folder + "/runs")
			if (err != nil) != tc.fails || len(runs) != tc.runs {
				t.Errorf("%d runs, %v: %s", len(runs), err, output)
			}
		})
	}
}
