{{/* What the release's objects are called.  A chart with the release's name in it keeps that one. */}}
{{- define "gateway.fullname" -}}
{{- if contains "gateway" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-gateway" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "gateway.redis.fullname" -}}
{{ include "gateway.fullname" . }}-redis
{{- end -}}

{{/* Labels to select by: they never change. */}}
{{- define "gateway.matchLabels" -}}
app.kubernetes.io/name: manybinder-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of pods, which a new version of the chart alone does not start anew. */}}
{{- define "gateway.podLabels" -}}
{{ include "gateway.matchLabels" . }}
app.kubernetes.io/part-of: manybinder
{{- end -}}

{{- define "gateway.labels" -}}
{{ include "gateway.matchLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: manybinder
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "gateway.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* Checked before it is read, whatever is rendered first. */}}
{{- define "gateway.publicUrl" -}}
{{- include "gateway.checks" . -}}
{{- .Values.config.public_url -}}
{{- end -}}

{{/* The host of the public URL, without a port. */}}
{{- define "gateway.publicHost" -}}
{{ regexReplaceAll ":[0-9]+$" (urlParse (include "gateway.publicUrl" .)).host "" }}
{{- end -}}

{{/* The path of the public URL, with a slash at its end: where all routes begin. */}}
{{- define "gateway.basePath" -}}
{{ (urlParse (include "gateway.publicUrl" .)).path | trimSuffix "/" }}/
{{- end -}}

{{/* The address to listen on: both families need none, for one of IPv6 serves no IPv4. */}}
{{- define "gateway.listenHost" -}}
{{- if ne .Values.service.ipFamilyPolicy "SingleStack" -}}
{{- else if eq (first .Values.service.ipFamilies | default "IPv4") "IPv6" -}}
::
{{- else -}}
0.0.0.0
{{- end -}}
{{- end -}}

{{/* Secure as the restricted Pod Security Standard asks, and with a root file system that nobody writes to. */}}
{{- define "gateway.podSecurityContext" -}}
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- end -}}
{{- define "gateway.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The gateway's settings: the operator's, with what only the chart knows. */}}
{{- define "gateway.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $secrets := "/etc/manybinder/secrets" -}}
{{- $listen := merge (dict "host" (include "gateway.listenHost" .) "port" 8585) ($config.listen | default dict) -}}
{{- $security := merge ($config.security | default dict) (dict "build_token_secret_file" (printf "%s/build-token-secret" $secrets)) -}}
{{- $drain := dict "notice" (printf "%vs" (int .Values.drain.noticeSeconds)) "timeout" (printf "%vs" (int .Values.drain.timeoutSeconds)) -}}
{{- $own := dict "schema" 1 "data_dir" "/var/lib/manybinder" "signing_key_file" (printf "%s/launch-signing-key.pem" $secrets) "listen" $listen "security" $security "drain" $drain -}}
{{- if .Values.redis.enabled -}}
{{- $_ := set $own "redis" (dict "url" (printf "redis://%s:6379/0" (include "gateway.redis.fullname" .)) "password_file" (printf "%s/redis-password" $secrets)) -}}
{{- end -}}
{{- merge $own $config | toYaml -}}
{{- end -}}
