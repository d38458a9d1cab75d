{{/* Variables of the containers: lists of {name, value} in YAML. */}}

{{- define "muleteer.redisEnv" -}}
- name: MULETEER_REDIS_URL
  value: {{ include "muleteer.redisUrl" . | quote }}
{{- with include "muleteer.redisPasswordRef" . }}
- name: MULETEER_REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      {{- . | nindent 6 }}
{{- end }}
{{- if not .Values.valkey.enabled }}
{{- with .Values.redis.external.username }}
- name: MULETEER_REDIS_USERNAME
  value: {{ . | quote }}
{{- end }}
{{- if .Values.redis.external.ca.existingSecret }}
- name: MULETEER_REDIS_CA
  value: /etc/muleteer-redis/ca.crt
{{- end }}
{{- end }}
{{- end }}

{{- define "muleteer.commonEnv" -}}
- name: MULETEER_CATALOG
  value: /etc/muleteer/catalog.yaml
- name: MULETEER_CACHE_DIR
  value: /var/cache/muleteer
{{ include "muleteer.redisEnv" . }}
{{- end }}

{{- define "muleteer.gatewayEnv" -}}
{{- $gateway := .Values.gateway -}}
{{ include "muleteer.commonEnv" . }}
- name: MULETEER_GATEWAY_PORT
  value: "8080"
- name: MULETEER_METRICS_PORT
  value: "9090"
- name: MULETEER_STARTUP_SECONDS
  value: {{ int64 $gateway.startupSeconds | quote }}
- name: MULETEER_DRAIN_DELAY_SECONDS
  value: {{ int64 $gateway.drain.delaySeconds | quote }}
- name: MULETEER_DRAIN_SECONDS
  value: {{ include "muleteer.gatewayDrainSeconds" . | quote }}
{{- with $gateway.apiKeys }}
{{- if .existingSecret }}
- name: MULETEER_API_KEYS
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret }}
      key: {{ .key }}
{{- end }}
{{- end }}
{{- with $gateway.callbacks }}
{{- if .existingSecret }}
- name: MULETEER_CALLBACK_SECRET
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret }}
      key: {{ .key }}
{{- end }}
{{- with .hosts }}
- name: MULETEER_CALLBACK_HOSTS
  value: {{ join "," . | quote }}
{{- end }}
{{- end }}
{{- include "muleteer.settingsEnv" $gateway.settings }}
{{- end }}

{{/* Context: root, pool, settings (the pool's). */}}
{{- define "muleteer.workerEnv" -}}
{{ include "muleteer.commonEnv" .root }}
- name: MULETEER_WORKER_PORT
  value: "9090"
- name: MULETEER_POOL
  value: {{ .pool | quote }}
- name: MULETEER_PROCESSES
  value: {{ int64 .settings.processes | quote }}
- name: MULETEER_THREADS
  value: {{ int64 .settings.threads | quote }}
{{- $bytes := .settings.maxResidentBytes }}
- name: MULETEER_MAX_RESIDENT_BYTES
  value: {{ kindIs "string" $bytes | ternary $bytes (int64 $bytes | toString) | quote }}
- name: MULETEER_LEASE_SECONDS
  value: {{ int64 .settings.leaseSeconds | quote }}
- name: MULETEER_STARTUP_SECONDS
  value: {{ int64 .settings.startupSeconds | quote }}
- name: MULETEER_DRAIN_SECONDS
  value: {{ include "muleteer.workerDrainSeconds" . | quote }}
- name: MULETEER_RETIRE_SECONDS
  value: {{ int64 .settings.retireSeconds | quote }}
{{- include "muleteer.settingsEnv" .settings.settings }}
{{- end }}

{{/* Settings in camelCase as variables: maxWaitSeconds is MULETEER_MAX_WAIT_SECONDS. JSON writes a large number plainly. */}}
{{- define "muleteer.settingsEnv" -}}
{{- range $name, $value := . }}
- name: MULETEER_{{ regexReplaceAll "([A-Z])" $name "_${1}" | upper }}
  value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end }}

{{/* `extraEnv`: a text, or a map with valueFrom. */}}
{{- define "muleteer.extraEnv" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  {{- if kindIs "map" $value }}
  {{- toYaml $value | nindent 2 }}
  {{- else }}
  value: {{ $value | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* A whole secret as variables, for repositories that are URLs. */}}
{{- define "muleteer.envFrom" -}}
{{- with .Values.models.credentials.existingSecret }}
envFrom:
  - secretRef:
      name: {{ . }}
{{- end }}
{{- end }}
