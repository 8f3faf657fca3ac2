package chart_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// deploymentKey is the key of the operator's Deployment.
const deploymentKey = "Deployment connpool-system connpool-manager"

// setting is what values change. Objects have at least the fields of wants.
type setting struct {
	values string
	wants  map[string]string
	absent []string // keys
}

// ofPod is a part of the pod's spec, and ofContainer of its only container.
func ofPod(text string) map[string]string {
	return map[string]string{deploymentKey: "spec: {template: {spec: {" + text + "}}}"}
}

func ofContainer(text string) map[string]string { return ofPod("containers: [{" + text + "}]") }

// args are the container's arguments with the default values, and more.
func args(more string) map[string]string {
	return ofContainer("args: [--leader-elect, '--metrics-bind-address=:8443', '--health-probe-bind-address=:8081', " +
		"'--live-bind-address=:9443', --live-service=connpool-live, " + more + "]")
}

func podSettings() map[string]setting {
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	return map[string]setting{
		"extraArgs": {values: "extraArgs: [--max-streams=9, --zap-log-level=debug]", wants: args("--max-streams=9, --zap-log-level=debug")},
		"extraEnv": {
			values: "extraEnv: [{name: OTEL_EXPORTER_OTLP_ENDPOINT, value: 'http://collector.tracing:4317'}]",
			wants: ofContainer("env: [{name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}, " +
				"{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}, " +
				"{name: POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}, " +
				"{name: OTEL_EXPORTER_OTLP_ENDPOINT, value: 'http://collector.tracing:4317'}]"),
		},
		"image.digest": {
			values: "image: {repository: registry.example.com/connpool, tag: v1, digest: '" + digest + "', pullPolicy: Always}",
			wants:  ofContainer("image: registry.example.com/connpool@" + digest + ", imagePullPolicy: Always"),
		},
		"imagePullSecrets":  {values: "imagePullSecrets: [{name: pull}]", wants: ofPod("imagePullSecrets: [{name: pull}]")},
		"priorityClassName": {values: "priorityClassName: system-cluster-critical", wants: ofPod("priorityClassName: system-cluster-critical")},
		"topologySpreadConstraints": {
			values: "topologySpreadConstraints: [{topologyKey: topology.kubernetes.io/zone, maxSkew: 2, whenUnsatisfiable: DoNotSchedule}]",
			wants: ofPod("topologySpreadConstraints: [{topologyKey: topology.kubernetes.io/zone, maxSkew: 2, whenUnsatisfiable: DoNotSchedule, " +
				"labelSelector: {matchLabels: {app.kubernetes.io/name: connpool, app.kubernetes.io/component: manager}}}]"),
		},
		"affinity": {
			values: "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: x, operator: Exists}]}]}}}",
			wants:  ofPod("affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: x, operator: Exists}]}]}}}"),
		},
		"nodeSelector and tolerations": {
			values: "nodeSelector: {pool: infra}\ntolerations: [{key: infra, operator: Exists}]",
			wants:  ofPod("nodeSelector: {pool: infra}, tolerations: [{key: infra, operator: Exists}]"),
		},
		"resources": {
			values: "resources: {limits: {memory: 2Gi}}",
			wants:  ofContainer("resources: {requests: {cpu: 50m, memory: 128Mi}, limits: {memory: 2Gi}}"),
		},
		"volumes": {
			values: "volumes: [{name: extra, emptyDir: {}}]\nvolumeMounts: [{name: extra, mountPath: /extra}]",
			wants: map[string]string{deploymentKey: "spec: {template: {spec: {volumes: [{name: extra, emptyDir: {}}], " +
				"containers: [{volumeMounts: [{name: extra, mountPath: /extra}]}]}}}"},
		},
		"labels and annotations": {
			values: "podLabels: {team: platform}\npodAnnotations: {note: x}\ncommonLabels: {cost: a}",
			wants: map[string]string{
				deploymentKey:                           "metadata: {labels: {cost: a}}\nspec: {template: {metadata: {labels: {team: platform}, annotations: {note: x}}}}",
				"Service connpool-system connpool-live": "metadata: {labels: {cost: a}}",
			},
		},
		"allowCIDRs and denyCIDRs": {
			values: "allowCIDRs: [169.254.10.0/24, '::1/128']\ndenyCIDRs: [10.0.0.0/28]",
			wants:  args("'--allow-cidrs=169.254.10.0/24,::1/128', --deny-cidrs=10.0.0.0/28"),
		},
		"watchNamespaces": {
			values: "watchNamespaces: [team-a, team-b]",
			wants: map[string]string{
				deploymentKey:                         args("'--watch-namespaces=team-a,team-b'")[deploymentKey],
				"RoleBinding team-b connpool-manager": "roleRef: {name: connpool-manager}",
			},
		},
	}
}

func objectSettings() map[string]setting {
	const policy, budget = "NetworkPolicy connpool-system connpool-manager", "PodDisruptionBudget connpool-system connpool-manager"
	monitored := "tlsConfig: {ca: {secret: {name: connpool-live-certs, key: ca.crt}}, serverName: connpool-metrics.connpool-system.svc}"
	return map[string]setting{
		"serviceMonitor": {
			values: "serviceMonitor: {enabled: true, interval: 15s, labels: {release: prometheus}}",
			wants: map[string]string{"ServiceMonitor connpool-system connpool-manager": "metadata: {labels: {release: prometheus}}\nspec: {endpoints: [" +
				"{port: https, scheme: https, path: /metrics, interval: 15s, honorLabels: true, " +
				"bearerTokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token, " + monitored + "}]}"},
		},
		"podMonitor": {
			values: "podMonitor: {enabled: true, tokenSecret: {name: scraper, key: token}}",
			wants: map[string]string{"PodMonitor connpool-system connpool-manager": "spec: {podMetricsEndpoints: [{port: metrics, scheme: https, path: /metrics, " +
				"honorLabels: true, authorization: {credentials: {name: scraper, key: token}}, " + monitored + "}]}"},
		},
		"prometheusRule": {
			values: "prometheusRule: {enabled: true, labels: {role: alerts}}",
			wants:  map[string]string{"PrometheusRule connpool-system connpool": "metadata: {labels: {role: alerts}}"},
		},
		"extraObjects": {
			values: "extraObjects:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: more, namespace: connpool-system}, data: {of: '{{ .Release.Name }}'}}\n" +
				"- |\n  {apiVersion: v1, kind: ConfigMap, metadata: {name: text, namespace: connpool-system}, data: {of: '{{ .Chart.Name }}'}}",
			wants: map[string]string{
				"ConfigMap connpool-system more": "data: {of: connpool}", "ConfigMap connpool-system text": "data: {of: connpool}",
			},
		},
		"podDisruptionBudget":    {values: "podDisruptionBudget: {maxUnavailable: 50%}", wants: map[string]string{budget: "spec: {maxUnavailable: 50%}"}},
		"no podDisruptionBudget": {values: "podDisruptionBudget: {enabled: false}", absent: []string{budget}},
		"networkPolicy closed": {
			values: "networkPolicy: {metricsFrom: [], liveFrom: [{ipBlock: {cidr: 10.0.0.1/32}}], egress: [" +
				"{to: [{ipBlock: {cidr: 10.0.0.1/32}}], ports: [{port: 6443}]}, " + // kube-apiserver
				"{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}], ports: [{port: 53, protocol: UDP}, {port: 53}]}, " +
				"{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: tracing}}}], ports: [{port: 4317}]}, " +
				"{to: [{ipBlock: {cidr: 10.7.0.0/16}}], ports: [{port: 22}]}]}",
			wants: map[string]string{policy: "spec: {policyTypes: [Ingress, Egress], " +
				"ingress: [{ports: [{protocol: TCP, port: live}], from: [{ipBlock: {cidr: 10.0.0.1/32}}]}, {ports: [{protocol: TCP, port: health}]}], " +
				"egress: [{to: [{ipBlock: {cidr: 10.0.0.1/32}}], ports: [{port: 6443}]}, " +
				"{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}], ports: [{port: 53, protocol: UDP}, {port: 53}]}, " +
				"{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: tracing}}}], ports: [{port: 4317}]}, " +
				"{to: [{ipBlock: {cidr: 10.7.0.0/16}}], ports: [{port: 22}]}]}"},
		},
		"networkPolicy with metrics for a peer": {
			values: "networkPolicy: {metricsFrom: [{podSelector: {matchLabels: {app: prometheus}}}]}",
			wants: map[string]string{policy: "spec: {ingress: [{from: [{podSelector: {matchLabels: {app: prometheus}}}], ports: [{protocol: TCP, port: metrics}]}, " +
				"{ports: [{protocol: TCP, port: live}]}, {ports: [{protocol: TCP, port: health}]}], egress: [{}]}"},
		},
		"no networkPolicy": {values: "networkPolicy: {enabled: false}", absent: []string{policy}},
		"cert-manager's issuer": {
			values: "certManager: {enabled: true, issuerRef: {kind: ClusterIssuer, name: corporate}}",
			wants: map[string]string{
				"Certificate connpool-system connpool-live": "spec: {secretName: connpool-live-tls, issuerRef: {kind: ClusterIssuer, name: corporate}}",
			},
			absent: []string{
				"Certificate connpool-system connpool-live-ca", "Issuer connpool-system connpool-live",
				"Role connpool-system connpool-serving-certificate-role", "ClusterRole  connpool-api-service-role",
			},
		},
		"crds.enabled=false": {
			values: "crds: {enabled: false}", absent: []string{"CustomResourceDefinition  connectionpools.connpool.dev", "CustomResourceDefinition  connectiontargets.connpool.dev"},
		},
		"another name and namespace": {
			values: "fullnameOverride: pools\nnamespace: elsewhere",
			wants: map[string]string{
				"Deployment elsewhere pools-manager":            "spec: {template: {spec: {serviceAccountName: pools-manager}}}",
				"APIService  v1alpha1.live.connpool.dev":        "spec: {service: {name: pools-live, namespace: elsewhere}}",
				"ClusterRoleBinding  pools-manager-rolebinding": "subjects: [{kind: ServiceAccount, name: pools-manager, namespace: elsewhere}]",
			},
		},
		"a ServiceAccount of others": {
			values: "serviceAccount: {create: false, name: given}", absent: []string{"ServiceAccount connpool-system connpool-manager"},
			wants: map[string]string{"ClusterRoleBinding  connpool-manager-rolebinding": "subjects: [{kind: ServiceAccount, name: given, namespace: connpool-system}]"},
		},
		"no aggregated roles": {
			values: "rbac: {aggregateClusterRoles: false}",
			wants:  map[string]string{"ClusterRole  connpool-edit": "metadata: {name: connpool-edit}"},
		},
		"no admission policy": {
			values: "admissionPolicy: {enabled: false}", absent: []string{"ValidatingAdmissionPolicy  connpool-health-command"},
		},
	}
}

func TestEveryValueDoesWhatItSays(t *testing.T) {
	for _, name := range []string{space, "team-a", "team-b", "elsewhere"} {
		makeNamespace(t, name)
	}
	for _, all := range []map[string]setting{podSettings(), objectSettings()} {
		for name, tc := range all {
			t.Run(name, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "values.yaml")
				if err := os.WriteFile(file, []byte(tc.values), 0o600); err != nil {
					t.Fatal(err)
				}
				rendered := render(t, "--values="+file)
				for key, text := range tc.wants {
					wantFields(t, rendered, key, text)
				}
				for _, key := range tc.absent {
					if rendered[key] != nil {
						t.Errorf("%s is there", key)
					}
				}
				admitAll(t, rendered)
			})
		}
	}
}

// wantFields complains if an object lacks fields of a YAML text.
func wantFields(t *testing.T, rendered objects, key, text string) {
	t.Helper()
	var want any
	if err := yaml.Unmarshal([]byte(text), &want); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if rendered[key] == nil {
		t.Fatalf("%s is not there, but:\n%s", key, strings.Join(slices.Sorted(maps.Keys(rendered)), "\n"))
	}
	if diff := cmp.Diff(want, common(want, rendered[key].Object)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", key, diff)
	}
}

// common returns what got has of the fields of want.
func common(want, got any) any {
	switch want := want.(type) {
	case map[string]any:
		fields, _ := got.(map[string]any)
		found := map[string]any{}
		for name := range want {
			if value, ok := fields[name]; ok {
				found[name] = common(want[name], value)
			}
		}
		return found
	case []any:
		items, _ := got.([]any)
		if len(items) != len(want) {
			return got
		}
		found := []any{}
		for i := range want {
			found = append(found, common(want[i], items[i]))
		}
		return found
	default:
		return got
	}
}

// admitAll asks the real server whether it accepts every object whose kind it has.
func admitAll(t *testing.T, all objects) {
	t.Helper()
	for key, object := range all {
		err := cluster.admin.Create(t.Context(), object, client.DryRunAll)
		if err != nil && !apierrors.IsAlreadyExists(err) && !meta.IsNoMatchError(err) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestDashboardsAreTheFilesOfTheConfiguration(t *testing.T) {
	files, err := filepath.Glob("../../config/grafana/*.json")
	if err != nil {
		t.Fatal(err)
	}
	rendered := render(t, "--set=dashboards.enabled=true,dashboards.annotations.folder=connpool")
	got := map[string]string{}
	for key, object := range rendered {
		if object.GetLabels()["grafana_dashboard"] != "1" {
			continue
		}
		for file, text := range object.Object["data"].(map[string]any) {
			got[file] = strings.TrimSpace(text.(string))
		}
		wantFields(t, rendered, key, "metadata: {annotations: {folder: connpool}}")
	}
	want := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want[filepath.Base(file)] = strings.TrimSpace(string(text))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dashboards (-config/grafana +chart):\n%s", diff)
	}
}

func TestTheRolesOfANamespaceAreThoseOfTheKustomization(t *testing.T) {
	want := kustomize(t, "../../config/namespaced/tenant")
	chart := render(t, "--set=watchNamespaces={team-a}")
	for key, object := range want {
		object.SetNamespace("team-a")
		got := chart[strings.Replace(key, "  ", " team-a ", 1)]
		if got == nil {
			t.Errorf("the chart lacks %s", key)
			continue
		}
		if object.GetKind() == "Role" {
			if diff := cmp.Diff(rights(t, object), rights(t, got)); diff != "" {
				t.Errorf("%s (-kustomize +chart):\n%s", key, diff)
			}
			continue
		}
		for _, field := range []string{"roleRef", "subjects"} {
			if diff := cmp.Diff(object.Object[field], got.Object[field]); diff != "" {
				t.Errorf("%s of %s (-kustomize +chart):\n%s", field, key, diff)
			}
		}
	}
}
