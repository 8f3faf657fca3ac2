{{- define "gvList" -}}
# API reference

Generated from the comments in `api/v1alpha1`; `kubectl explain` shows the same.
{{ range . }}
{{ template "gvDetails" . }}
{{ end }}
{{- end -}}
