package crd

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/wait"
	acmetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
	acv1alpha1 "github.com/connpool/connpool/client/applyconfiguration/api/v1alpha1"
	"github.com/connpool/connpool/test/controlplane"
)

// settle bounds how long the API server may take to serve a new definition.
const settle = 30 * time.Second

// TestServer asks a real API server for everything that users see of the API. Its
// parts share one server, and each removes what it created.
func TestServer(t *testing.T) {
	plane, err := controlplane.Start(t.Context(), controlplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	config := rest.CopyConfig(plane.Config)
	config.QPS = -1 // no waiting between requests
	config.WarningHandler = rest.NoWarnings{}
	api := newClient(t, config)
	t.Run("admission", func(t *testing.T) {
		install(t, api, nil)
		validate := dryRun(api)
		checkRefusals(t, validate)
		checkAccepted(t, validate)
	})
	t.Run("samples", func(t *testing.T) {
		for _, objects := range samples(t) {
			for _, sample := range objects {
				if err := api.Create(t.Context(), &sample, client.DryRunAll); err != nil {
					t.Error(err)
				}
			}
		}
	})
	t.Run("a second apply of a manifest changes nothing", func(t *testing.T) { testNoDrift(t, api) })
	t.Run("defaults", func(t *testing.T) { testDefaults(t, api) })
	t.Run("scale", func(t *testing.T) { testScale(t, api) })
	t.Run("pool columns", func(t *testing.T) { testPoolColumns(t, api, config) })
	t.Run("target columns", func(t *testing.T) { testTargetColumns(t, api, config) })
	t.Run("names", func(t *testing.T) { testNames(t, config) })
	t.Run("waiting", func(t *testing.T) { testWaiting(t, api) })
	t.Run("ratcheting", func(t *testing.T) { testRatcheting(t, api) })
}

// dryRun validates by creating the object without storing it.
func dryRun(api client.Client) validator {
	return func(t *testing.T, object *unstructured.Unstructured) []metav1.StatusCause {
		t.Helper()
		err := api.Create(t.Context(), object, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict))
		return causes(t, err)
	}
}

var unknownField = regexp.MustCompile(`unknown field "([^"]+)"`)

func causes(t *testing.T, err error) []metav1.StatusCause {
	t.Helper()
	if err == nil {
		return nil
	}
	if match := unknownField.FindStringSubmatch(err.Error()); match != nil && apierrors.IsBadRequest(err) {
		return []metav1.StatusCause{{Field: match[1], Message: err.Error()}}
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsInvalid(err) || status.Status().Details == nil {
		t.Fatalf("not a refusal that names fields: %v", err)
	}
	var named []metav1.StatusCause
	for _, cause := range status.Status().Details.Causes {
		if cause.Field == "<nil>" { // "some rules were not checked"
			continue
		}
		cause.Field = strings.TrimPrefix(cause.Field, ".") // the scale subresource writes a dot
		named = append(named, cause)
	}
	return named
}

func testDefaults(t *testing.T, api client.Client) {
	stored := create(t, api, object(t, scheduledPool, change{
		"spec.warming.schedules.0.timeZone": nil, "spec.warming.prediction": map[string]any{},
	}))
	want := map[string]any{
		"targetSelector": map[string]any{"matchLabels": map[string]any{"app": "web"}},
		"routing":        "ByName",
		"size":           map[string]any{"minWarm": int64(1), "max": int64(4)},
		"acquire":        map[string]any{"timeoutSeconds": int64(10), "maxPending": int64(100)},
		"lifecycle": map[string]any{
			"maxAgeSeconds": int64(3600), "maxIdleSeconds": int64(300), "maxUses": int64(0), "drainTimeoutSeconds": int64(300),
		},
		"health": map[string]any{
			"keepaliveSeconds": int64(15), "periodSeconds": int64(60), "timeoutSeconds": int64(5),
			"failureThreshold": int64(3), "successThreshold": int64(2),
		},
		"warming": map[string]any{
			"schedules": items(map[string]any{
				"name": "office", "start": "0 8 * * 1-5", "end": "0 18 * * 1-5", "minWarm": int64(3),
			}),
			"prediction": map[string]any{"mode": "Off", "maxWarm": int64(50)},
		},
		"state": "Active",
	}
	if diff := cmp.Diff(want, stored.Object["spec"]); diff != "" {
		t.Errorf("pool (-want +stored):\n%s", diff)
	}
	target := create(t, api, object(t, sshTarget, nil))
	if port, _, _ := unstructured.NestedInt64(target.Object, "spec", "ssh", "port"); port != 22 {
		t.Errorf("port is %d, want 22", port)
	}
}

func testScale(t *testing.T, api client.Client) {
	stored := create(t, api, object(t, scheduledPool, nil))
	status := acv1alpha1.ConnectionPoolStatus().
		WithSelector("connpool.dev/connectionpool-uid=1").
		WithConnections(acv1alpha1.PoolConnectionCounts().WithWarm(12).WithWarmPerTarget(1))
	applyStatus(t, api, acv1alpha1.ConnectionPool("web", "default").WithStatus(status))

	scale := &unstructured.Unstructured{}
	scale.SetAPIVersion("autoscaling/v1")
	scale.SetKind("Scale")
	if err := api.SubResource("scale").Get(t.Context(), stored, scale); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"replicas": int64(1)}, scale.Object["spec"]); diff != "" {
		t.Errorf("spec of scale (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"replicas": int64(1), "selector": "connpool.dev/connectionpool-uid=1"}, scale.Object["status"]); diff != "" {
		t.Errorf("status of scale (-want +got):\n%s", diff)
	}

	if err := rescale(t, api, stored, scale, 3); err != nil {
		t.Fatalf("scale to 3: %v", err)
	}
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(stored), stored); err != nil {
		t.Fatal(err)
	}
	if warm, _, _ := unstructured.NestedInt64(stored.Object, "spec", "size", "minWarm"); warm != 3 {
		t.Errorf("minWarm is %d after scaling, want 3", warm)
	}
	err := rescale(t, api, stored, scale, 5)
	if err == nil || !strings.Contains(err.Error(), "must not be greater than max") {
		t.Errorf("scaling above max: %v, want the rule", err)
	}
}

func rescale(t *testing.T, api client.Client, pool, scale *unstructured.Unstructured, replicas int64) error {
	t.Helper()
	next := scale.DeepCopy()
	next.SetResourceVersion("")
	if err := unstructured.SetNestedField(next.Object, replicas, "spec", "replicas"); err != nil {
		t.Fatal(err)
	}
	return api.SubResource("scale").Update(t.Context(), pool, client.WithSubResourceBody(next))
}

func testPoolColumns(t *testing.T, api client.Client, config *rest.Config) {
	create(t, api, object(t, pool, nil))
	now := metav1.Now()
	applyStatus(t, api, acv1alpha1.ConnectionPool("web", "default").WithStatus(acv1alpha1.ConnectionPoolStatus().
		WithType(v1alpha1.PoolType(v1alpha1.TargetTypeSSH)).
		WithSummary("Degraded").
		WithTargets(acv1alpha1.TargetCounts().WithTotal(12).WithReady(11).WithFailing(1)).
		WithConnections(acv1alpha1.PoolConnectionCounts().WithWarm(24).WithInUse(3)).
		WithUseCount(10423).
		WithOldestConnectionTime(metav1.NewTime(now.Add(-52*time.Minute))).
		WithConditions(condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonDegraded, now)).
		WithFailingTargets(acv1alpha1.FailingTarget().WithName("web-7").WithReason(v1alpha1.ReasonTimeout).WithSince(now))))

	checkTable(t, config, "connectionpools", []column{
		{"Name", "web"},
		{"Type", "ssh"},
		{"Targets", 12.0},
		{"Ready-Targets", 11.0},
		{"Warm", 24.0},
		{"In-Use", 3.0},
		{"Uses", 10423.0},
		{"Oldest", "52m"},
		{"Ready", "True"},
		{"Status", "Degraded"},
		{"Age", anyAge},
	})
}

func testTargetColumns(t *testing.T, api client.Client, config *rest.Config) {
	create(t, api, object(t, sshTarget, nil))
	now := metav1.Now()
	counts := acv1alpha1.ConnectionCounts().WithWarm(2).WithInUse(1).WithDialing(0).WithDraining(0)
	applyStatus(t, api, acv1alpha1.ConnectionTarget("web-1", "default").WithStatus(acv1alpha1.ConnectionTargetStatus().
		WithType(v1alpha1.TargetTypeSSH).
		WithSummary("Warming,CredentialsInvalid").
		WithEndpoint("deploy@web-1.example.com:22").
		WithServerVersion("SSH-2.0-OpenSSH_10.0").
		WithReplica("connpool-0").
		WithConnections(counts).
		WithUseCount(7).
		WithOldestConnectionTime(metav1.NewTime(now.Add(-3*time.Hour))).
		WithConditions(condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonWarming, now)).
		WithPools(acv1alpha1.TargetPoolStatus().
			WithName("web").WithUID("1").WithReady(false).WithReason(v1alpha1.ReasonWarming).
			WithMinWarm(3).WithDesired(3).WithConnections(counts).WithUseCount(7)).
		WithLastError(acv1alpha1.TargetError().
			WithReason(v1alpha1.ReasonTimeout).WithMessage("No answer.").WithStage("connect"))))

	checkTable(t, config, "connectiontargets", []column{
		{"Name", "web-1"},
		{"Type", "ssh"},
		{"Endpoint", "deploy@web-1.example.com:22"},
		{"Warm", 2.0},
		{"In-Use", 1.0},
		{"Uses", 7.0},
		{"Oldest", "3h"},
		{"Ready", "False"},
		{"Status", "Warming,CredentialsInvalid"},
		{"Age", anyAge},
		{"Server", "SSH-2.0-OpenSSH_10.0"},
	})
}

// column is the name of a column and its cell in the only row.
type column struct {
	head string
	cell any
}

// anyAge stands for the age of an object that was just created.
const anyAge = "any age"

// checkTable checks what `kubectl get -o wide` shows.
func checkTable(t *testing.T, config *rest.Config, resource string, want []column) {
	t.Helper()
	table := &metav1.Table{}
	raw, err := restClient(t, config).Get().Namespace("default").Resource(resource).
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, table); err != nil {
		t.Fatal(err)
	}
	if len(table.Rows) != 1 {
		t.Fatalf("%d rows, want 1", len(table.Rows))
	}
	var got []column
	for i, definition := range table.ColumnDefinitions {
		cell := table.Rows[0].Cells[i]
		if definition.Name == "In-Use" && definition.Priority == 0 {
			t.Error("kubectl get shows a figure by default that is wrong most of the time")
		}
		if definition.Name == "Age" {
			cell = anyAge
		}
		got = append(got, column{definition.Name, cell})
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(column{})); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func testNames(t *testing.T, config *rest.Config) {
	raw, err := restClient(t, config).Get().DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	served := metav1.APIResourceList{}
	if err := json.Unmarshal(raw, &served); err != nil {
		t.Fatal(err)
	}
	short := map[string]string{}
	for _, resource := range served.APIResources {
		if strings.Contains(resource.Name, "/") {
			continue
		}
		short[resource.Name] = strings.Join(resource.ShortNames, ",")
		if diff := cmp.Diff([]string{"connpool"}, resource.Categories); diff != "" {
			t.Errorf("categories of %s (-want +got):\n%s", resource.Name, diff)
		}
	}
	want := map[string]string{"connectionpools": "cpool", "connectiontargets": "ctarget"}
	if diff := cmp.Diff(want, short); diff != "" {
		t.Errorf("short names (-want +got):\n%s", diff)
	}
}

// testRatcheting checks that an object which breaks a newer rule can still be changed
// in other fields, so that a new rule locks no user out.
func testRatcheting(t *testing.T, api client.Client) {
	install(t, api, func(definition *apiextensionsv1.CustomResourceDefinition) {
		if definition.Spec.Names.Kind != "ConnectionTarget" {
			return
		}
		spec := definition.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
		host := spec.Properties["ssh"].Properties["host"]
		host.XValidations = nil
		spec.Properties["ssh"].Properties["host"] = host
	})
	bad := object(t, sshTarget, change{"spec.ssh.host": "web-1:22"})
	eventually(t, func(ctx context.Context) bool {
		return api.Create(ctx, bad.DeepCopy(), client.DryRunAll) == nil
	})
	stored := create(t, api, bad)
	install(t, api, nil)
	eventually(t, func(ctx context.Context) bool {
		another := bad.DeepCopy()
		another.SetName("another")
		return api.Create(ctx, another, client.DryRunAll) != nil
	})

	set(t, stored.Object, []string{"spec", "ssh", "user"}, "root")
	if err := api.Update(t.Context(), stored); err != nil {
		t.Errorf("change of another field: %v", err)
	}
	set(t, stored.Object, []string{"spec", "ssh", "host"}, "web-1:23")
	if err := api.Update(t.Context(), stored); err == nil {
		t.Error("a changed host is accepted against the rule")
	}
}

func condition(kind string, status metav1.ConditionStatus, reason string, now metav1.Time) *acmetav1.ConditionApplyConfiguration {
	return acmetav1.Condition().WithType(kind).WithStatus(status).WithReason(reason).
		WithMessage("One plain sentence.").WithObservedGeneration(1).WithLastTransitionTime(now)
}

// create stores an object until the end of the test.
func create(t *testing.T, api client.Client, object *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	if err := api.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := api.Delete(context.Background(), object); err != nil {
			t.Error(err)
		}
	})
	return object
}

func applyStatus(t *testing.T, api client.Client, object runtime.ApplyConfiguration) {
	t.Helper()
	if err := api.Status().Apply(t.Context(), object, client.FieldOwner("connpool"), client.ForceOwnership); err != nil {
		t.Fatal(err)
	}
}

// install creates or updates the CRDs, after change if it is not nil, and waits until
// they are served.
func install(t *testing.T, api client.Client, change func(*apiextensionsv1.CustomResourceDefinition)) {
	t.Helper()
	for _, definition := range definitions(t) {
		if change != nil {
			change(definition)
		}
		wanted := definition.Spec
		err := api.Get(t.Context(), client.ObjectKeyFromObject(definition), definition)
		switch {
		case apierrors.IsNotFound(err):
			err = api.Create(t.Context(), definition)
		case err == nil:
			definition.Spec = wanted
			err = api.Update(t.Context(), definition)
		}
		if err != nil {
			t.Fatal(err)
		}
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(definition.Spec.Names.ListKind))
		eventually(t, func(ctx context.Context) bool { return api.List(ctx, list) == nil })
	}
}

func eventually(t *testing.T, condition func(context.Context) bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, settle, true,
		func(ctx context.Context) (bool, error) { return condition(ctx), nil })
	if err != nil {
		t.Fatal(err)
	}
}

func newClient(t *testing.T, config *rest.Config) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	api, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return api
}

// restClient speaks to the API group.
func restClient(t *testing.T, config *rest.Config) *rest.RESTClient {
	t.Helper()
	config = rest.CopyConfig(config)
	config.APIPath = "/apis"
	config.GroupVersion = &schema.GroupVersion{Group: v1alpha1.GroupName, Version: v1alpha1.GroupVersion.Version}
	config.NegotiatedSerializer = serializer.NewCodecFactory(runtime.NewScheme()).WithoutConversion()
	api, err := rest.RESTClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	return api
}
