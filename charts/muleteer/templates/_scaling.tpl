{{/* Spec of a HorizontalPodAutoscaler on CPU. Context: target (a Deployment's name), scaling. */}}
{{- define "muleteer.hpaSpec" -}}
scaleTargetRef:
  apiVersion: apps/v1
  kind: Deployment
  name: {{ .target }}
minReplicas: {{ int64 .scaling.minReplicas }}
maxReplicas: {{ int64 .scaling.maxReplicas }}
metrics:
  - type: Resource
    resource:
      name: cpu
      target:
        type: Utilization
        averageUtilization: {{ int64 .scaling.targetCPUUtilization }}
{{- with .scaling.behavior }}
behavior:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Spec of a PodDisruptionBudget: valid with one pod too, which a minAvailable of 1 would keep on its node for ever. */}}
{{- define "muleteer.pdbSpec" -}}
maxUnavailable: 1
# A pod that is not ready serves nobody: it must not hold up a node's drain.
unhealthyPodEvictionPolicy: AlwaysAllow
selector:
  matchLabels:
    {{- include "muleteer.selectorLabels" . | nindent 4 }}
{{- end }}
