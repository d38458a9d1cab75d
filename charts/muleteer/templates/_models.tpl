{{/* What follows from the catalog and the pools. Helpers that return more than a text return JSON. */}}

{{/* Put the keys of "over" into "into", maps in maps. sprig's mergeOverwrite has differed on false and 0. */}}
{{- define "muleteer.overlay" -}}
{{- $into := .into -}}
{{- range $key, $value := .over -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $into $key)) -}}
{{- include "muleteer.overlay" (dict "into" (get $into $key) "over" $value) -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $_ := set $into $key $value -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The settings of a pool: `worker`, and on top of it what `pools` says. */}}
{{- define "muleteer.pool" -}}
{{- $settings := deepCopy .root.Values.worker -}}
{{- $own := get .root.Values.pools .pool | default dict -}}
{{- include "muleteer.overlay" (dict "into" $settings "over" $own) -}}
{{- /* A digest belongs to one image: a pool with another image does not have it. */ -}}
{{- $image := $own.image | default dict -}}
{{- if and (or $image.repository $image.tag) (not $image.digest) -}}
{{- $_ := set $settings.image "digest" "" -}}
{{- end -}}
{{- /* These mean something as a whole only: two sources of one variable are none. */ -}}
{{- range $name, $value := $own.extraEnv }}{{ $_ := set $settings.extraEnv $name $value }}{{ end -}}
{{- with $own.affinity }}{{ $_ := set $settings "affinity" . }}{{ end -}}
{{- toJson $settings -}}
{{- end }}

{{/* Where the version folders are: image, volume or url. */}}
{{- define "muleteer.repositoryKind" -}}
{{- if .Values.models.persistentVolumeClaim }}volume{{ else if contains "://" .Values.models.repository }}url{{ else }}image{{ end -}}
{{- end }}

{{/* "true" when any version is fetched over the network. */}}
{{- define "muleteer.fetches" -}}
{{- $places := list .Values.models.repository -}}
{{- range $entry := .Values.models.catalog | default .Values.models.examples -}}
{{- range $version := $entry.versions -}}
{{- $places = append $places (dig "uri" "" ($version | default dict)) -}}
{{- end -}}
{{- end -}}
{{- if contains "://" (join " " $places) }}true{{ end -}}
{{- end }}

{{/* The longest `timeout` in whole seconds of the models of "pool", or of all when there is none in the context. */}}
{{- define "muleteer.longestTimeout" -}}
{{- $pool := .pool -}}
{{- $models := .root.Values.models -}}
{{- $longest := 0 -}}
{{- range $entry := $models.catalog | default $models.examples -}}
{{- if or (not $pool) (eq $pool ($entry.pool | default "default")) -}}
{{- $longest = max $longest (int64 (ceil ($entry.timeout | default 30))) -}}
{{- end -}}
{{- end -}}
{{- $longest | default 30 -}}
{{- end }}

{{- define "muleteer.gatewayDrainSeconds" -}}
{{- int64 .Values.gateway.drain.requestSeconds | default (include "muleteer.longestTimeout" (dict "root" .)) -}}
{{- end }}

{{- define "muleteer.workerDrainSeconds" -}}
{{- int64 .settings.drainSeconds | default (include "muleteer.longestTimeout" .) -}}
{{- end }}

{{/* Whether any pool has this type of autoscaling: "true" or nothing. */}}
{{- define "muleteer.scalesBy" -}}
{{- $root := .root -}}
{{- $type := .type -}}
{{- range $pool, $_ := .root.Values.pools -}}
{{- $settings := include "muleteer.pool" (dict "root" $root "pool" $pool) | fromJson -}}
{{- if eq $settings.autoscaling.type $type }}true{{ end -}}
{{- end -}}
{{- end }}
