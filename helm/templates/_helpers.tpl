{{/* Name of everything that the release makes. */}}
{{- define "gateway.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels by which the pod is found; they never change. */}}
{{- define "gateway.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gateway.labels" -}}
{{ include "gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "gateway.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "gateway.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "gateway.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* One value as TOML: what JSON and TOML write alike, and tables on one line. */}}
{{- define "gateway.toml" -}}
{{- if kindIs "map" . -}}
{ {{- $first := true -}}
{{- range $key, $value := . -}}
{{- if not $first }},{{ end }} {{ toJson $key }} = {{ include "gateway.toml" $value }}
{{- $first = false -}}
{{- end }} }
{{- else if kindIs "slice" . -}}
[
{{- range $index, $value := . -}}
{{- if $index }}, {{ end }}{{ include "gateway.toml" $value }}
{{- end -}}
]
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end -}}

{{/* The settings file. */}}
{{- define "gateway.settings" -}}
{{- $own := dict "port" 8080 "metrics_access" .Values.metrics.access -}}
{{- if .Values.tls.secret -}}
{{- $own = merge $own (dict "tls_cert" "/etc/registry-gateway/tls/tls.crt" "tls_key" "/etc/registry-gateway/tls/tls.key") -}}
{{- end -}}
{{- if .Values.metrics.token.secret -}}
{{- $own = merge $own (dict "metrics_token_file" (printf "/etc/registry-gateway/metrics/%s" .Values.metrics.token.key)) -}}
{{- end -}}
{{- $settings := merge $own .Values.settings -}}
{{- range $name, $value := $settings -}}
{{- if not (kindIs "map" $value) }}
{{ $name }} = {{ include "gateway.toml" $value }}
{{- end }}
{{- end }}
{{- range $name, $table := $settings -}}
{{- if kindIs "map" $table }}

[{{ $name }}]
{{- range $key, $value := $table }}
{{ toJson $key }} = {{ include "gateway.toml" $value }}
{{- end }}
{{- end }}
{{- end }}
{{- range .Values.listeners }}

[[listener]]
{{- range $key, $value := merge (dict "host" "0.0.0.0") (omit . "name") }}
{{ $key }} = {{ include "gateway.toml" $value }}
{{- end }}
{{- end }}
{{- range .Values.virtualHosts }}

[[virtual_host]]
{{- range $key, $value := . }}
{{ $key }} = {{ include "gateway.toml" $value }}
{{- end }}
{{- end }}
{{ end -}}

{{/* Host names under which clients reach the main port, as a JSON list. */}}
{{- define "gateway.hosts" -}}
{{- $hosts := list -}}
{{- range list .Values.settings.external_url (.Values.settings.registry_url | default "") -}}
{{- if . -}}
{{- $hosts = append $hosts (regexReplaceAll ":[0-9]+$" (urlParse .).host "") -}}
{{- end -}}
{{- end -}}
{{- range .Values.virtualHosts -}}
{{- $hosts = append $hosts .name -}}
{{- end -}}
{{- toJson (uniq $hosts) -}}
{{- end -}}
