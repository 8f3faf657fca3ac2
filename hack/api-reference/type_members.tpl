{{- define "type_members" -}}
{{- if eq .Name "metadata" -}}
Name, namespace, labels and annotations.
{{- else -}}
{{ markdownRenderFieldDoc .Doc | replace "<br />" " " }}
{{- end -}}
{{- end -}}
