{{- define "spandrel.labels" -}}
{{ include "spandrel.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "spandrel.selector" -}}
app.kubernetes.io/name: spandrel
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "spandrel.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (ternary .Release.Name "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "spandrel.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "spandrel.tlsSecret" -}}
{{- if .Values.tls.secretName }}{{ .Values.tls.secretName }}{{ else if .Values.tls.certManager.enabled }}{{ .Release.Name }}-tls{{ end }}
{{- end }}

{{- /* Where the other replicas reach this one. Only the pods of a StatefulSet have names. */ -}}
{{- define "spandrel.replicaUrl" -}}
{{- $scheme := ternary "https" "http" (ne "" (include "spandrel.get" (list .Values.config "listen.tls.cert"))) }}
{{- $host := ternary (printf "$(POD_NAME).%s-replicas" .Release.Name) "$(POD_IP)" (eq .Values.kind "StatefulSet") }}
{{- printf "%s://%s:%v" $scheme $host .Values.config.listen.port }}
{{- end }}

{{- /* The value at a path like listen.tls.cert, as text; none if something on the way is missing or null. */ -}}
{{- define "spandrel.get" -}}
{{- $value := first . }}
{{- range splitList "." (last .) }}
{{- if kindIs "map" $value }}{{ $value = get $value . }}{{ else }}{{ $value = "" }}{{ end }}
{{- end }}
{{- if kindIs "float64" $value }}{{ printf "%.0f" $value }}
{{- else if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}{{ $value }}
{{- end }}
{{- end }}
