{{/* The beginning of all names: the release's name, with "connpool" in it once. */}}
{{- define "connpool.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "connpool.namespace" -}}
{{- .Values.namespace | default .Release.Namespace -}}
{{- end -}}

{{/* What selects the operator's pods. There is one operator in a cluster. */}}
{{- define "connpool.selectorLabels" -}}
app.kubernetes.io/name: connpool
app.kubernetes.io/component: manager
{{- end -}}

{{/* Labels of every object. */}}
{{- define "connpool.labels" -}}
app.kubernetes.io/name: connpool
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of the objects that are about the operator's pods. */}}
{{- define "connpool.componentLabels" -}}
{{ include "connpool.labels" . }}
app.kubernetes.io/component: manager
{{- end -}}

{{- define "connpool.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (printf "%s-manager" (include "connpool.fullname" .)) -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* A digest decides alone: beside it a tag has no meaning. */}}
{{- define "connpool.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The subject of every binding. */}}
{{- define "connpool.subjects" -}}
subjects:
- kind: ServiceAccount
  name: {{ include "connpool.serviceAccountName" . }}
  namespace: {{ include "connpool.namespace" . }}
{{- end -}}

{{/* The rules of a role in files/rbac, which are those of config/rbac. */}}
{{- define "connpool.rules" -}}
rules:
{{ toYaml (.context.Files.Get (printf "files/rbac/%s" .file) | fromYaml).rules }}
{{- end -}}

{{/* The Secret with the certificate of the live API and its authority. */}}
{{- define "connpool.certificateSecret" -}}
{{- printf "%s-live-%s" (include "connpool.fullname" .) (ternary "tls" "certs" .Values.certManager.enabled) -}}
{{- end -}}

{{/* How a Prometheus reaches the metrics: they have the certificate of the live API. */}}
{{- define "connpool.metricsTLS" -}}
tlsConfig:
  ca:
    secret:
      name: {{ include "connpool.certificateSecret" . }}
      key: ca.crt
  serverName: {{ include "connpool.fullname" . }}-metrics.{{ include "connpool.namespace" . }}.svc
{{- end -}}

{{/* terminationGracePeriodSeconds: drainTimeout and 30 seconds to end the requests. */}}
{{- define "connpool.gracePeriod" -}}
{{- $rest := .Values.drainTimeout -}}
{{- $seconds := 0 -}}
{{- range $unit, $factor := dict "h" 3600 "m" 60 "s" 1 -}}
{{- $part := regexFind (printf "[0-9]+%s" $unit) $rest -}}
{{- $seconds = add $seconds (mul (trimSuffix $unit $part | int) $factor) -}}
{{- end -}}
{{- add $seconds 30 -}}
{{- end -}}

{{/* A role for people. Its labels add it to Kubernetes' own role of that name and to the
wider ones. */}}
{{- define "connpool.userRole" -}}
{{- $source := .context.Files.Get (printf "files/rbac/%s_role.yaml" .role) | fromYaml -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ include "connpool.fullname" .context }}-{{ .role }}
  labels:
    {{- include "connpool.labels" .context | nindent 4 }}
    {{- if .context.Values.rbac.aggregateClusterRoles }}
    {{- toYaml $source.metadata.labels | nindent 4 }}
    {{- end }}
rules:
{{ toYaml $source.rules }}
{{- end -}}

{{/* Metadata of what `helm test` makes. */}}
{{- define "connpool.testMetadata" -}}
name: {{ include "connpool.fullname" .context }}-test
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- include "connpool.labels" .context | nindent 2 }}
  app.kubernetes.io/component: test
annotations:
  helm.sh/hook: test
  helm.sh/hook-weight: {{ .weight | default "0" | quote }}
  # A pod that has failed stays for its log until the next test.
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{- define "connpool.testSubjects" -}}
subjects:
- kind: ServiceAccount
  name: {{ include "connpool.fullname" . }}-test
  namespace: {{ include "connpool.namespace" . }}
{{- end -}}

{{/* What the containers of the test have in common. The operator's image has no shell. */}}
{{- define "connpool.testContainer" -}}
image: {{ include "connpool.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
resources:
  requests: {cpu: 10m, memory: 32Mi}
  limits: {memory: 128Mi}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}
