{{/* What values.schema.json cannot say: values that do not go together, each refused with a sentence. */}}
{{- define "member.checks" -}}
{{- include "member.checks.config" . -}}
{{- include "member.checks.registry" . -}}
{{- include "member.checks.hub" . -}}
{{- if and (include "member.several" .) .Values.persistence.enabled -}}
{{- fail "\nreplicas is more than 1, and a volume is one pod's: set persistence.enabled to false" -}}
{{- end -}}
{{- if eq (include "member.buildsNamespace" .) .Release.Namespace -}}
{{- fail (printf "\nbuilds.namespace is the release's own, %q: builds need a namespace of their own, so that this one can keep the restricted Pod Security Standard" .Release.Namespace) -}}
{{- end -}}
{{- $image := dig "builder" "image" "" .Values.config | default "quay.io/jupyterhub/repo2docker" -}}
{{- if and (eq (include "member.engine" .) "pink") (regexMatch "^((quay|docker)\\.io/)?jupyterhub/repo2docker([:@]|$)" $image) (not (regexMatch ":(0\\.|20(1[0-9]|2[0-4])\\.)" $image)) -}}
{{- fail "\nconfig.builder.engine is \"pink\", and config.builder.image is repo2docker's own, which builds by Docker's buildx: Podman does not serve that; give quay.io/jupyterhub/repo2docker:2024.07.0, or an image with repo2docker and a client of Podman" -}}
{{- end -}}
{{- if and .Values.join.token .Values.join.tokenSecret -}}
{{- fail "\njoin.token and join.tokenSecret are both set: give the join token, or the Secret that holds it" -}}
{{- end -}}
{{- if ne (empty .Values.join.gateway) (empty (or .Values.join.token .Values.join.tokenSecret)) -}}
{{- fail "\njoin.gateway and a join token go together: give the federation's address, and join.token, or as join.tokenSecret a Secret that holds the token in its key \"token\"" -}}
{{- end -}}
{{- if and .Values.check.repo (not .Values.check.commit) -}}
{{- fail "\ncheck.repo is set, and check.commit is not: give the commit that is to be built" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "\nhttpRoute.enabled needs httpRoute.parentRefs: the Gateways to attach to" -}}
{{- end -}}
{{- if le (int64 .Values.imageCleaner.thresholdHigh) (int64 .Values.imageCleaner.thresholdLow) -}}
{{- fail "\nimageCleaner.thresholdHigh must be above imageCleaner.thresholdLow" -}}
{{- end -}}
{{- end -}}

{{- define "member.checks.config" -}}
{{- $config := .Values.config -}}
{{- $hub := $config.hub | default dict -}}
{{- if not $config.name -}}
{{- fail "\nconfig.name is not set: give the member's name in its federation, such as member-1" -}}
{{- end -}}
{{- range $name, $url := dict "config.public_url" $config.public_url "config.hub.public_url" $hub.public_url -}}
{{- if not $url -}}
{{- fail (printf "\n%s is not set: give the address at which %s" $name (eq $name "config.public_url" | ternary "the gateway and visitors reach the member, such as https://member-1.example.org/" "browsers reach the sessions, such as https://hub.member-1.example.org/")) -}}
{{- end -}}
{{- if not (regexMatch "^https?://[^/?#@]+(/[^?#]*)?$" $url) -}}
{{- fail (printf "\n%s is %q: it must be an http or https address without query or user" $name $url) -}}
{{- end -}}
{{- end -}}
{{- $set := dict
  "" (list "schema" "data_dir")
  "listen" (list "host" "port")
  "hub" (list "url" "api_token" "api_token_file" "managed")
  "builder" (list "kind" "kubeconfig" "namespace")
  "joined" (list "secret") -}}
{{- range $section, $keys := $set -}}
{{- $given := $section | empty | ternary $config (get $config $section | default dict) -}}
{{- range $key := $keys -}}
{{- if hasKey $given $key -}}
{{- fail (printf "\nconfig.%s is set by the chart: take it out" (list $section $key | compact | join ".")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $key := list "namespace" "memory" "cpu" "memory_limit" "cpu_limit" "node_selector" "tolerations" "placeholders_are_free" "image_pull_secrets" "priority_class" -}}
{{- if hasKey (dig "builder" "sessions" dict $config) $key -}}
{{- fail (printf "\nconfig.builder.sessions.%s is what jupyterhub's values say of sessions: take it out" $key) -}}
{{- end -}}
{{- end -}}
{{- include "member.checks.secrets" (dict "path" "config" "value" $config) -}}
{{- if and (contains "/etc/manybinder/secrets/" (toJson $config)) (not .Values.secretName) -}}
{{- fail "\nconfig names a file in /etc/manybinder/secrets, and secretName is not set: name the Secret that holds it" -}}
{{- end -}}
{{- end -}}

{{- define "member.checks.registry" -}}
{{- $config := .Values.config -}}
{{- if not .Values.registry.url -}}
{{- fail "\nregistry.url is not set: give the address of the registry that images go to, such as https://registry.example.org" -}}
{{- end -}}
{{- range $key := list "url" "username" "password" "password_file" -}}
{{- if hasKey ($config.registry | default dict) $key -}}
{{- fail (printf "\nconfig.registry.%s is set by the chart: use the value registry" $key) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.registry.password (not .Values.registry.username) -}}
{{- fail "\nregistry.password is set, and registry.username is not: who is to log in?" -}}
{{- end -}}
{{- if .Values.registry.username -}}
{{- if and .Values.registry.createSecrets (not .Values.registry.password) -}}
{{- fail "\nregistry.username is set, and registry.password is not: give it, or make the Secrets yourself and set registry.createSecrets to false" -}}
{{- end -}}
{{- if and (not .Values.registry.createSecrets) .Values.registry.password -}}
{{- fail "\nregistry.password is for registry.createSecrets: with Secrets of your own, take it out" -}}
{{- end -}}
{{- if hasKey ($config.builder | default dict) "push_secret" -}}
{{- fail (printf "\nconfig.builder.push_secret is set by the chart where registry.username is: take it out, builds push with the Secret %s" (include "member.registrySecret" .)) -}}
{{- end -}}
{{- if not (has (include "member.registrySecret" .) (dig "singleuser" "image" "pullSecrets" list .Values.jupyterhub)) -}}
{{- fail (printf "\njupyterhub.singleuser.image.pullSecrets lacks %s, the Secret with which nodes pull the images of sessions: add it" (include "member.registrySecret" .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A parent chart cannot compute the values of the charts it depends on: what must be there is looked for. */}}
{{- define "member.checks.hub" -}}
{{- $hub := .Values.jupyterhub.hub -}}
{{- if ne (eq (toString .Values.config.auth_enabled) "true") (eq (toString (dig "config" "BinderSpawner" "auth_enabled" false $hub)) "true") -}}
{{- fail "\nconfig.auth_enabled and jupyterhub.hub.config.BinderSpawner.auth_enabled go together: both are true where visitors log in" -}}
{{- end -}}
{{- if and $hub.existingSecret (not $hub.services.binder.apiToken) -}}
{{- fail (printf "\njupyterhub.hub.existingSecret is %q: a token of the member in it (hub.services.binder.apiToken) goes before the one in the Hub's own Secret, which is what the member reads; give the same one as jupyterhub.hub.services.binder.apiToken, or take existingSecret out" $hub.existingSecret) -}}
{{- end -}}
{{- $role := dig "loadRoles" "binder" dict $hub -}}
{{- if not (has "binder" ($role.services | default list)) -}}
{{- fail "\njupyterhub.hub.loadRoles.binder.services lacks binder: the member would have no rights at the Hub" -}}
{{- end -}}
{{- range $scope := list "servers" "admin:users" "read:users" "list:users" -}}
{{- if not (has $scope ($role.scopes | default list)) -}}
{{- fail (printf "\njupyterhub.hub.loadRoles.binder.scopes lacks %s, which the member needs" $scope) -}}
{{- end -}}
{{- end -}}
{{- $files := dict
  "manybinder-config" "jupyterhub_config.d/manybinder.py"
  "manybinder-binder" "manybinder/member/hub/binder.py"
  "manybinder-ended" "manybinder/member/hub/ended.py"
  "manybinder-kubernetes" "manybinder/member/hub/kubernetes.py" -}}
{{- range $key, $path := $files -}}
{{- $file := get ($hub.extraFiles | default dict) $key | default dict -}}
{{- if or (not $file.stringData) (ne $file.mountPath (printf "/usr/local/etc/jupyterhub/%s" $path)) -}}
{{- fail (printf "\njupyterhub.hub.extraFiles.%s is a part of the spawner, and another than the chart's: take it out" $key) -}}
{{- end -}}
{{- end -}}
{{- $user := .Values.jupyterhub.singleuser -}}
{{- $policy := $user.networkPolicy | default dict -}}
{{- if not (dig "cloudMetadata" "blockWithIptables" false $user) -}}
{{- if or (not $policy.enabled) (dig "egressAllowRules" "cloudMetadataServer" false $policy) -}}
{{- fail "\nnothing keeps sessions away from the cloud's metadata: set jupyterhub.singleuser.networkPolicy.enabled to true and its egressAllowRules.cloudMetadataServer to false (or cloudMetadata.blockWithIptables to true, for which sessions get a privileged container)" -}}
{{- end -}}
{{- end -}}
{{- if eq (include "member.capacity" .) "cluster" -}}
{{- $advice := "the member would tell of room that is not there; set config.builder.capacity to limit, where sessions.limit alone counts" -}}
{{- if dig "extraNodeAffinity" "required" list $user -}}
{{- fail (printf "\njupyterhub.singleuser.extraNodeAffinity.required is not counted: %s, or choose the nodes by jupyterhub.singleuser.nodeSelector" $advice) -}}
{{- end -}}
{{- if dig "extraResource" "guarantees" dict $user -}}
{{- fail (printf "\njupyterhub.singleuser.extraResource.guarantees is not counted: %s" $advice) -}}
{{- end -}}
{{- end -}}
{{- $api := dig "security" "cors_allow_origin" "" .Values.config -}}
{{- $sessions := dig "config" "BinderSpawner" "cors_allow_origin" "" $hub -}}
{{- if and $api (not (has $sessions (list $api "*"))) -}}
{{- fail (printf "\nconfig.security.cors_allow_origin lets pages of %s launch, and jupyterhub.hub.config.BinderSpawner.cors_allow_origin is %q: they could not use what they have launched; give both the same" $api $sessions) -}}
{{- end -}}
{{- end -}}

{{/* A ConfigMap is no place for a secret: each may stand in a file, whose name is the setting's with "_file". */}}
{{- define "member.checks.secrets" -}}
{{- $secrets := list "access_token" "api_token" "app_private_key" "build_token_secret" "client_secret" "git_credentials" "password" "private_token" "report_key" "secret" -}}
{{- $path := .path -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- if and (has $key $secrets) $value -}}
{{- fail (printf "\n%s.%s would stand in a ConfigMap, where it is not secret: put it into a Secret, and name its file in %s.%s_file (see secretName)" $path $key $path $key) -}}
{{- end -}}
{{- include "member.checks.secrets" (dict "path" (printf "%s.%s" $path $key) "value" $value) -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range $number, $value := .value -}}
{{- include "member.checks.secrets" (dict "path" (printf "%s[%d]" $path $number) "value" $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
