{{/* Where Redis is and how one gets in. */}}

{{- define "muleteer.redisUrl" -}}
{{- $external := .Values.redis.external -}}
{{- if .Values.valkey.enabled -}}
redis://{{ include "muleteer.fullname" . }}-valkey:6379/0
{{- else if $external.url -}}
{{- $external.url -}}
{{- else -}}
{{- $external.tls | ternary "rediss" "redis" }}://{{ $external.host }}:{{ int64 $external.port }}/{{ int64 $external.db -}}
{{- end -}}
{{- end }}

{{- define "muleteer.redisPort" -}}
{{- $authority := (urlParse (include "muleteer.redisUrl" .)).host -}}
{{- regexFind ":[0-9]+$" $authority | trimPrefix ":" | default "6379" -}}
{{- end }}

{{/* Secret and key with the password, as a secretKeyRef; nothing when the server wants none. */}}
{{- define "muleteer.redisPasswordRef" -}}
{{- if .Values.valkey.enabled -}}
name: {{ .Values.valkey.auth.existingSecret | default (printf "%s-valkey" (include "muleteer.fullname" .)) }}
key: {{ empty .Values.valkey.auth.existingSecret | ternary "password" .Values.valkey.auth.key }}
{{- else if .Values.redis.external.existingSecret -}}
name: {{ .Values.redis.external.existingSecret }}
key: {{ .Values.redis.external.passwordKey }}
{{- end -}}
{{- end }}

{{/* "true" when the chart makes the password itself. */}}
{{- define "muleteer.makesPassword" -}}
{{- if and .Values.valkey.enabled (not .Values.valkey.auth.existingSecret) }}true{{ end -}}
{{- end }}

{{/* The password that the chart made at the first installation, encoded as in a Secret. It is drawn once a rendering:
     the Secret and the checksums of the pods must see the same. */}}
{{- define "muleteer.madePassword" -}}
{{- if not (hasKey .Values "madePassword") -}}
{{- $kept := lookup "v1" "Secret" .Release.Namespace (printf "%s-valkey" (include "muleteer.fullname" .)) -}}
{{- $password := dig "data" "password" "" ($kept | default dict) | default (randAlphaNum 40 | b64enc) -}}
{{- $_ := set .Values "madePassword" $password -}}
{{- end -}}
{{- .Values.madePassword -}}
{{- end }}

{{/* Pods read the password when they start: a new one must start them anew. */}}
{{- define "muleteer.passwordChecksum" -}}
{{- if include "muleteer.makesPassword" . -}}
checksum/redis-password: {{ include "muleteer.madePassword" . | sha256sum }}
{{- end -}}
{{- end }}

{{- define "muleteer.valkeyConfig" -}}
bind * -::*
port 6379
# Without a password nobody but the pod itself would get in.
protected-mode yes
tcp-keepalive 60
dir /data

# Every job is on disk within a second; there are no snapshots beside the append-only file.
appendonly yes
appendfsync everysec
save ""

# A full server refuses new jobs. It never throws any away.
maxmemory {{ include "muleteer.maxmemory" . }}
maxmemory-policy noeviction
{{- with .Values.valkey.extraConfig }}

{{ trim . }}
{{- end }}
{{- end }}

{{/* `valkey.maxmemory`, or 60 % of the memory limit in bytes; nothing when there is neither. */}}
{{- define "muleteer.maxmemory" -}}
{{- $limit := dig "limits" "memory" "" .Values.valkey.resources | toString -}}
{{- if .Values.valkey.maxmemory -}}
{{- .Values.valkey.maxmemory -}}
{{- else if $limit -}}
{{- divf (mulf (float64 (include "muleteer.bytes" $limit)) 60) 100 | floor | int64 -}}
{{- end -}}
{{- end }}

{{/* A script that asks Valkey for PONG and takes the answers in the context. Old clients read REDISCLI_AUTH. */}}
{{- define "muleteer.valkeyProbe" -}}
export VALKEYCLI_AUTH="$VALKEY_PASSWORD" REDISCLI_AUTH="$VALKEY_PASSWORD"; case $(valkey-cli -h 127.0.0.1 ping 2>&1) in {{ . }}) exit 0;; esac; exit 1
{{- end }}

{{/* Bytes of a Kubernetes quantity (512Mi) or of a size as Valkey writes it (512mb). */}}
{{- define "muleteer.bytes" -}}
{{- $units := dict "" 1 "b" 1 "k" 1000 "m" 1000000 "g" 1000000000 "kb" 1024 "mb" 1048576 "gb" 1073741824 -}}
{{- $units = merge $units (dict "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776) -}}
{{- $size := toString . -}}
{{- $unit := regexFind "[A-Za-z]*$" $size -}}
{{- mulf (float64 (trimSuffix $unit $size)) (get $units (hasKey $units $unit | ternary $unit (lower $unit))) | floor | int64 -}}
{{- end }}
