{{/* What the release's objects are called.  A chart with the release's name in it keeps that one. */}}
{{- define "member.fullname" -}}
{{- if contains "member" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-member" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Names of the cluster, where another namespace may have a release of the same name. */}}
{{- define "member.clusterName" -}}
{{ .Release.Namespace }}-{{ include "member.fullname" . }}
{{- end -}}

{{- define "member.buildsNamespace" -}}
{{ .Values.builds.namespace | default (printf "%s-builds" .Release.Namespace | trunc 63 | trimSuffix "-") }}
{{- end -}}

{{/* Fixed: jupyterhub's values name it too, and cannot be computed. */}}
{{- define "member.registrySecret" -}}
manybinder-registry
{{- end -}}

{{/* Labels to select by: they never change. */}}
{{- define "member.matchLabels" -}}
app.kubernetes.io/name: manybinder-member
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of pods, which a new version of the chart alone does not start anew. */}}
{{- define "member.podLabels" -}}
{{ include "member.matchLabels" . }}
app.kubernetes.io/part-of: manybinder
{{- end -}}

{{- define "member.labels" -}}
{{ include "member.matchLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: manybinder
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "member.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* Checked before it is read, whatever is rendered first. */}}
{{- define "member.publicUrl" -}}
{{- include "member.checks" . -}}
{{- .Values.config.public_url -}}
{{- end -}}

{{/* The host of the public URL, without a port. */}}
{{- define "member.publicHost" -}}
{{ regexReplaceAll ":[0-9]+$" (urlParse (include "member.publicUrl" .)).host "" }}
{{- end -}}

{{/* The path of the public URL, with a slash at its end: where all routes begin. */}}
{{- define "member.basePath" -}}
{{ (urlParse (include "member.publicUrl" .)).path | trimSuffix "/" }}/
{{- end -}}

{{/* Fixed too: who has it of another release, or restores it, finds it by its name. */}}
{{- define "member.federationsSecret" -}}
manybinder-federations
{{- end -}}

{{/* The Secret with the join token: the operator's, or this chart's. */}}
{{- define "member.joinSecret" -}}
{{- .Values.join.tokenSecret | default "manybinder-join-token" -}}
{{- end -}}

{{/* Whether there are several replicas; nothing where there is one. */}}
{{- define "member.several" -}}
{{- if gt (int .Values.replicas) 1 }}true{{ end -}}
{{- end -}}

{{/* The address to listen on: both families need none, for one of IPv6 serves no IPv4. */}}
{{- define "member.listenHost" -}}
{{- if ne .Values.service.ipFamilyPolicy "SingleStack" -}}
{{- else if eq (first .Values.service.ipFamilies | default "IPv4") "IPv6" -}}
::
{{- else -}}
0.0.0.0
{{- end -}}
{{- end -}}

{{/* The Hub itself, not its proxy, which may speak TLS. */}}
{{- define "member.hubUrl" -}}
http://{{ include "jupyterhub.hub.fullname" . }}:8081{{ .Values.jupyterhub.hub.baseUrl | default "/" | trimSuffix "/" }}/
{{- end -}}

{{/* The engine whose DaemonSet the chart runs; nothing for any other. */}}
{{- define "member.engine" -}}
{{- $engine := dig "builder" "engine" "host" .Values.config -}}
{{- if has $engine (list "dind" "pink") -}}{{ $engine }}{{- end -}}
{{- end -}}

{{/* Where the node has the engine's socket. */}}
{{- define "member.socket" -}}
{{- $usual := dict "dind" "/var/run/dind/docker.sock" "pink" "/var/run/pink/podman.sock" -}}
{{ dig "builder" "socket" "" .Values.config | default (get $usual (include "member.engine" .)) }}
{{- end -}}

{{- define "member.capacity" -}}
{{ dig "builder" "capacity" "cluster" .Values.config }}
{{- end -}}

{{/* Secure as the restricted Pod Security Standard asks, and with a root file system that nobody writes to. */}}
{{- define "member.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Nodes for builds, as the build pods choose them. */}}
{{- define "member.buildNodes" -}}
{{- $builder := .Values.config.builder | default dict -}}
{{- with $builder.node_selector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
tolerations:
  - {key: hub.jupyter.org/dedicated, operator: Equal, value: user, effect: NoSchedule}
  - {key: hub.jupyter.org_dedicated, operator: Equal, value: user, effect: NoSchedule}
  {{- with $builder.tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Every address but the networks of a list; one family's exceptions do not belong into the other's block. */}}
{{- define "member.internetExcept" -}}
{{- range $family, $block := dict "IPv4" "0.0.0.0/0" "IPv6" "::/0" }}
- ipBlock:
    cidr: {{ $block | quote }}
    {{- $except := list }}
    {{- range $ }}
    {{- if eq (contains ":" .) (eq $family "IPv6") }}
    {{- $except = append $except . }}
    {{- end }}
    {{- end }}
    {{- with $except }}
    except:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
{{- end -}}

{{/* A size of JupyterHub's, whose units are binary ones, as the member reads it. */}}
{{- define "member.size" -}}
{{- if kindIs "string" . -}}
{{ regexReplaceAll "^([0-9.]+)([KMGT])$" . "${1}${2}i" }}
{{- else -}}
{{ printf "%.0f" (float64 .) }}
{{- end -}}
{{- end -}}

{{/* What each session asks of the cluster: what jupyterhub's values say of it. */}}
{{- define "member.sessions" -}}
{{- $user := .Values.jupyterhub.singleuser -}}
{{- $memory := $user.memory | default dict -}}
{{- $cpu := $user.cpu | default dict -}}
{{- $selector := $user.nodeSelector | default dict -}}
{{- if eq (dig "scheduling" "userPods" "nodeAffinity" "matchNodePurpose" "prefer" .Values.jupyterhub) "require" -}}
{{- $selector = merge (dict "hub.jupyter.org/node-purpose" "user") $selector -}}
{{- end -}}
{{- $tolerations := list -}}
{{- range $user.extraTolerations -}}
{{- $tolerations = append $tolerations (pick . "key" "operator" "value" "effect") -}}
{{- end -}}
namespace: {{ .Release.Namespace }}
memory: {{ with $memory.guarantee }}{{ include "member.size" . | quote }}{{ else }}0{{ end }}
cpu: {{ $cpu.guarantee | default 0 }}
{{- with $memory.limit }}
memory_limit: {{ include "member.size" . | quote }}
{{- end }}
{{- with $cpu.limit }}
cpu_limit: {{ . }}
{{- end }}
{{- $pull := list -}}
{{- range dig "image" "pullSecrets" list $user -}}
{{- $pull = append $pull (kindIs "string" . | ternary . (get (kindIs "map" . | ternary . dict) "name")) -}}
{{- end }}
image_pull_secrets: {{ $pull | toJson }}
node_selector: {{ $selector | toJson }}
tolerations: {{ $tolerations | toJson }}
{{- $given := dig "config" dict .Values.jupyterhub.hub -}}
{{- $usual := dig "scheduling" "podPriority" "enabled" false .Values.jupyterhub | ternary (include "jupyterhub.priority.fullname" .) "" -}}
{{- range $spawner := list "KubeSpawner" "BinderSpawner" -}}
{{- $usual = dig $spawner "priority_class_name" $usual $given -}}
{{- end }}
priority_class: {{ $usual | quote }}
placeholders_are_free: {{ dig "scheduling" "podPriority" "enabled" false .Values.jupyterhub }}
{{- end -}}

{{/* The member's settings: the operator's, with what only the chart knows. */}}
{{- define "member.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $listen := merge (dict "host" (include "member.listenHost" .) "port" 9001) ($config.listen | default dict) -}}
{{- $hub := merge (dict "url" (include "member.hubUrl" .) "api_token_file" "/etc/manybinder/hub/token") $config.hub -}}
{{- $builder := dict "kind" "kubernetes" "namespace" (include "member.buildsNamespace" .) "sessions" (include "member.sessions" . | fromYaml) -}}
{{- $registry := dict "url" .Values.registry.url -}}
{{- if .Values.registry.username -}}
{{- $_ := set $builder "push_secret" (include "member.registrySecret" .) -}}
{{- $registry = merge $registry (dict "username" .Values.registry.username "password_file" "/etc/manybinder/registry/password") -}}
{{- end -}}
{{- $joined := $config.joined | default dict -}}
{{- if not .Values.persistence.enabled -}}
{{- $joined = merge (dict "secret" (include "member.federationsSecret" .)) $joined -}}
{{- end -}}
{{- $own := dict "schema" 1 "data_dir" "/var/lib/manybinder" "listen" $listen "hub" $hub "builder" $builder "registry" $registry "joined" $joined -}}
{{- merge $own $config | toYaml -}}
{{- end -}}
