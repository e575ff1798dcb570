{{/* What values.schema.json cannot say: values that do not go together, each refused with a sentence. */}}
{{- define "gateway.checks" -}}
{{- $config := .Values.config -}}
{{- if not $config.public_url -}}
{{- fail "\nconfig.public_url is not set: give the address at which visitors reach the gateway, such as https://binder.example.org/" -}}
{{- end -}}
{{- if not (regexMatch "^https?://[^/?#@]+(/[^?#]*)?$" $config.public_url) -}}
{{- fail (printf "\nconfig.public_url is %q: it must be an http or https address without query or user" $config.public_url) -}}
{{- end -}}
{{- range $key := list "schema" "data_dir" "signing_key" "signing_key_file" "drain" -}}
{{- if hasKey $config $key -}}
{{- fail (printf "\nconfig.%s is set by the chart: take it out%s" $key (eq $key "drain" | ternary ", and use the value drain" "")) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "host" "port" "reuse_port" -}}
{{- if hasKey ($config.listen | default dict) $key -}}
{{- fail (printf "\nconfig.listen.%s is set by the chart: take it out" $key) -}}
{{- end -}}
{{- end -}}
{{- include "gateway.checks.secrets" (dict "path" "config" "value" $config) -}}
{{- if and .Values.redis.enabled $config.redis -}}
{{- fail "\nconfig.redis names a Redis, and the chart runs one of its own: set redis.enabled to false, or take config.redis out" -}}
{{- end -}}
{{- $many := or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled -}}
{{- if and $many (not (or .Values.redis.enabled $config.redis)) -}}
{{- fail "\nmore than one replica, and no Redis in which they meet: set redis.enabled to true, or config.redis, or replicas to 1 (without autoscaling)" -}}
{{- end -}}
{{- if and $many .Values.persistence.enabled -}}
{{- fail "\npersistence.enabled is for one gateway without Redis: with more, each keeps what Redis holds; set it to false, or replicas to 1" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail "\nautoscaling.minReplicas is more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "\nhttpRoute.enabled needs httpRoute.parentRefs: the Gateways to attach to" -}}
{{- end -}}
{{- end -}}

{{/* A ConfigMap is no place for a secret: each may stand in a file, whose name is the setting's with "_file". */}}
{{- define "gateway.checks.secrets" -}}
{{- $secrets := list "access_token" "app_private_key" "build_token_secret" "client_secret" "git_credentials" "other_signing_key" "password" "private_token" "report_key" "sentinel_password" "signing_key" "token" -}}
{{- $path := .path -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- if and (has $key $secrets) $value -}}
{{- fail (printf "\n%s.%s would stand in a ConfigMap, where it is not secret: put it into a Secret, and name its file in %s.%s_file (see secretName)" $path $key $path $key) -}}
{{- end -}}
{{- include "gateway.checks.secrets" (dict "path" (printf "%s.%s" $path $key) "value" $value) -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range $number, $value := .value -}}
{{- include "gateway.checks.secrets" (dict "path" (printf "%s[%d]" $path $number) "value" $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
