{{/* Names, labels and images. A context is a dict: root (the chart's own context), component, for workers pool,
     and where it is needed settings (of the component, or of the pool). */}}

{{- define "muleteer.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* 40 characters leave room for the longest ending, and for what a StatefulSet adds in a label. What is longer is cut,
     with a checksum behind it, so that two long releases do not get one name. */}}
{{- define "muleteer.fullname" -}}
{{- $name := include "muleteer.name" . -}}
{{- $full := .Values.fullnameOverride -}}
{{- if not $full -}}
{{- $full = contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- end -}}
{{- if gt (len $full) 40 -}}
{{- printf "%s-%s" ($full | trunc 33 | trimSuffix "-") ($full | sha256sum | trunc 6) -}}
{{- else -}}
{{- $full -}}
{{- end -}}
{{- end }}

{{- define "muleteer.poolName" -}}
{{- printf "%s-worker-%s" (include "muleteer.fullname" .root) .pool -}}
{{- end }}

{{- define "muleteer.selectorLabels" -}}
app.kubernetes.io/name: {{ include "muleteer.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .pool }}
muleteer.dev/pool: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Labels of an object: the selector's, the chart's, commonLabels, and those in "more". */}}
{{- define "muleteer.labels" -}}
{{- $own := include "muleteer.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "muleteer" -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63) -}}
{{- $labels := merge $own (deepCopy (.more | default dict)) (deepCopy (.root.Values.commonLabels | default dict)) -}}
{{- toYaml $labels -}}
{{- end }}

{{/* Labels of a pod. The chart's version is not among them: a new one must not restart pods that stay as they are. */}}
{{- define "muleteer.podLabels" -}}
{{- $own := include "muleteer.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "muleteer" -}}
{{- $more := .settings.podLabels | default dict -}}
{{- toYaml (merge $own (deepCopy $more) (deepCopy (.root.Values.commonLabels | default dict))) -}}
{{- end }}

{{- define "muleteer.serviceAccountName" -}}
{{- $account := .account -}}
{{- if $account.create -}}
{{- $account.name | default (printf "%s-%s" (include "muleteer.fullname" .root) .component) -}}
{{- else -}}
{{- $account.name | default "default" -}}
{{- end -}}
{{- end }}

{{/* Reference of an image: "image" of a component, with what all share. */}}
{{- define "muleteer.image" -}}
{{- $shared := .root.Values.image -}}
{{- $tag := .image.tag | default $shared.tag | default .root.Chart.AppVersion -}}
{{- $registry := hasKey .image "registry" | ternary .image.registry $shared.registry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ $tag }}{{ end -}}
{{- end }}
