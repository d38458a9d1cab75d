{{/* What pods have in common. All of them pass the restricted Pod Security Standard. */}}

{{/* Identity and hardening of a pod. Context: the component's podSecurityContext. */}}
{{- define "muleteer.podSecurity" -}}
automountServiceAccountToken: false
# Kubernetes would make variables such as MULETEER_GATEWAY_PORT=tcp://… of the Services here.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  {{- range $name, $value := . }}
  {{ $name }}: {{ kindIs "slice" $value | ternary (toJson $value) (int64 $value) }}
  {{- end }}
  {{- if hasKey . "fsGroup" }}
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "muleteer.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Where pods run. Context: root, component, pool, settings. */}}
{{- define "muleteer.placement" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .settings.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .settings.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $selector := include "muleteer.selectorLabels" . }}
{{- with .settings.topologySpread }}
topologySpreadConstraints:
  {{- range . }}
  - topologyKey: {{ .topologyKey }}
    maxSkew: {{ int64 (.maxSkew | default 1) }}
    whenUnsatisfiable: {{ .whenUnsatisfiable | default "ScheduleAnyway" }}
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
    # The old pods of a rolling update do not count.
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end }}

{{/* Mounts of gateway and workers. Context: root, settings, modelsVolume. */}}
{{- define "muleteer.mounts" -}}
- name: catalog
  mountPath: /etc/muleteer
  readOnly: true
{{- if include "muleteer.mountsCa" .root }}
- name: redis-ca
  mountPath: /etc/muleteer-redis
  readOnly: true
{{- end }}
{{- with .modelsVolume }}
- name: {{ . }}
  mountPath: {{ $.root.Values.models.repository }}
  readOnly: true
{{- end }}
- name: cache
  mountPath: /var/cache/muleteer
- name: tmp
  mountPath: /tmp
{{- with .settings.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Volumes of gateway and workers. Context: root, settings, modelsVolume, cacheSize. */}}
{{- define "muleteer.volumes" -}}
# Mounted as a folder, not by subPath: only so a changed catalog reaches running pods.
- name: catalog
  configMap:
    name: {{ include "muleteer.fullname" .root }}-catalog
{{- if include "muleteer.mountsCa" .root }}
- name: redis-ca
  secret:
    secretName: {{ .root.Values.redis.external.ca.existingSecret }}
    items:
      - key: {{ .root.Values.redis.external.ca.key }}
        path: ca.crt
{{- end }}
{{- if eq .modelsVolume "models" }}
- name: models
  persistentVolumeClaim:
    claimName: {{ .root.Values.models.persistentVolumeClaim }}
    readOnly: true
{{- else if eq .modelsVolume "manifests" }}
- name: manifests
  emptyDir:
    sizeLimit: 64Mi
{{- end }}
- name: cache
  emptyDir:
    sizeLimit: {{ .cacheSize }}
- name: tmp
  emptyDir:
    sizeLimit: 1Gi
{{- with .settings.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "muleteer.mountsCa" -}}
{{- if and (not .Values.valkey.enabled) .Values.redis.external.ca.existingSecret }}true{{ end -}}
{{- end }}

{{/* Probes of gateway and workers. Context: port, startupSeconds. */}}
{{- define "muleteer.probes" -}}
# Redis is waited for before the port answers: for so long, and half a minute.
startupProbe:
  httpGet:
    path: /livez
    port: {{ .port }}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: {{ add (div (int64 .startupSeconds) 2) 15 }}
livenessProbe:
  httpGet:
    path: /livez
    port: {{ .port }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /readyz
    port: {{ .port }}
  periodSeconds: 3
  timeoutSeconds: 3
  failureThreshold: 3
{{- end }}
