{{- define "gvList" -}}
{{- $live := false -}}
{{- range . }}{{ if hasPrefix "live." .Group }}{{ $live = true }}{{ end }}{{ end -}}
{{- if $live -}}
# Types of the live API

Generated from the comments in `api/live/v1alpha1`; `kubectl explain connection` shows the same. Where these objects are
sent, and what comes back: [The live API](live-api.md).
{{- else -}}
# API reference

Generated from the comments in `api/v1alpha1`; `kubectl explain` shows the same.
{{- end }}
{{ range . }}
{{ template "gvDetails" . }}
{{ end }}
{{- end -}}
