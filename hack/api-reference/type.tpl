{{- define "type" -}}
{{- $type := . -}}
{{- if markdownShouldRenderType $type }}
### {{ $type.Name }}

{{ $type.Doc }}
{{ if $type.References }}
Used by:
{{- range $i, $reference := $type.SortedReferences }}{{ if $i }},{{ end }} {{ markdownRenderTypeLink $reference }}{{ end }}.
{{ end }}
{{- if $type.Members }}
| Field | Meaning | Default | Bounds |
| --- | --- | --- | --- |
{{- if $type.GVK }}
| `apiVersion` _string_ | `{{ $type.GVK.Group }}/{{ $type.GVK.Version }}` | | required |
| `kind` _string_ | `{{ $type.GVK.Kind }}` | | required |
{{- end }}
{{- range $type.Members }}
| `{{ .Name }}` _{{ markdownRenderType .Type }}_ | {{ template "type_members" . }} | {{ template "default" . }} | {{ template "bounds" . }} |
{{- end }}
{{ end }}
{{- if $type.EnumValues }}
| Value | Meaning |
| --- | --- |
{{- range $type.EnumValues }}
| `{{ .Name }}` | {{ markdownRenderFieldDoc .Doc | trimSuffix "<br />" }} |
{{- end }}
{{ end }}
{{- end -}}
{{- end -}}

{{- define "default" -}}
{{- if and .Default (ne .Default "{  }") (ne .Default "{ }") (ne .Default "{}") -}}`{{ .Default }}`{{- end -}}
{{- end -}}

{{- define "bounds" -}}
{{- $shown := list -}}
{{- range .Validation -}}
{{- if hasPrefix "Required" . -}}{{- $shown = prepend $shown "required" -}}
{{- else if not (or (hasPrefix "Optional" .) (hasPrefix "MinProperties" .) (hasPrefix "items:XValidation" .) (hasPrefix "Type:" .)) -}}{{- $shown = append $shown . -}}
{{- end -}}
{{- end -}}
{{ join ", " $shown }}
{{- end -}}
