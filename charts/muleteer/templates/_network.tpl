{{/* Parts of the NetworkPolicies. */}}

{{- define "muleteer.tcpPorts" -}}
{{- range . }}
- port: {{ int64 . }}
  protocol: TCP
{{- end }}
{{- end }}

{{/* DNS, wherever it is: also the cache on the node itself. */}}
{{- define "muleteer.dnsEgress" -}}
- ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - port: {{ int64 . }}
      protocol: UDP
    - port: {{ int64 . }}
      protocol: TCP
    {{- end }}
{{- end }}

{{/* What gateway and workers both reach: DNS, Redis, the model repository. */}}
{{- define "muleteer.egress" -}}
{{- $policy := .Values.networkPolicy -}}
{{ include "muleteer.dnsEgress" . }}
- ports:
    {{- if .Values.valkey.enabled }}
    - port: 6379
      protocol: TCP
    {{- else }}
    - port: {{ include "muleteer.redisPort" . }}
      protocol: TCP
    {{- end }}
  {{- if .Values.valkey.enabled }}
  to:
    - podSelector:
        matchLabels:
          {{- include "muleteer.selectorLabels" (dict "root" . "component" "valkey") | nindent 10 }}
  {{- else }}
  {{- with $policy.redisTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
{{- if include "muleteer.fetches" . }}
- ports:
    {{- include "muleteer.tcpPorts" $policy.repositoryPorts | trim | nindent 4 }}
  {{- with $policy.repositoryTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- with $policy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}
