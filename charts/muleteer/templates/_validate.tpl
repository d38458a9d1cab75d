{{/* What a schema cannot see: values that do not fit together. Each stops the rendering with one sentence that names the
     value to change. Called from validate.yaml, and from nowhere else. */}}
{{- define "muleteer.validate" -}}
{{- include "muleteer.validateRedis" . -}}
{{- include "muleteer.validateModels" . -}}
{{- range $name, $entry := .Values.models.catalog | default .Values.models.examples -}}
{{- include "muleteer.validateModel" (dict "root" $ "name" $name "entry" $entry) -}}
{{- end -}}
{{- include "muleteer.validateGateway" . -}}
{{- include "muleteer.validateMonitoring" . -}}
{{- range $pool, $_ := .Values.pools -}}
{{- include "muleteer.validatePool" (dict "root" $ "pool" $pool) -}}
{{- end -}}
{{- end }}

{{- define "muleteer.validateRedis" -}}
{{- $valkey := .Values.valkey -}}
{{- $external := .Values.redis.external -}}
{{- if and $valkey.enabled (or $external.url $external.host) -}}
{{- fail "valkey.enabled and redis.external are both on: set valkey.enabled to false to use the Redis in redis.external." -}}
{{- end -}}
{{- range $key := list "existingSecret" "username" "tls" -}}
{{- if and $valkey.enabled (get $external $key) -}}
{{- fail (printf "redis.external.%s is set, but valkey.enabled is true: set that to false to use the Redis in redis.external." $key) -}}
{{- end -}}
{{- end -}}
{{- if and $valkey.enabled $external.ca.existingSecret -}}
{{- fail "redis.external.ca.existingSecret is set, but valkey.enabled is true: set that to false to use the Redis in redis.external." -}}
{{- end -}}
{{- if not (or $valkey.enabled $external.url $external.host) -}}
{{- fail "valkey.enabled is false, and redis.external names no server: set redis.external.url or redis.external.host." -}}
{{- end -}}
{{- if and $external.url $external.host -}}
{{- fail "redis.external.url and redis.external.host are both set: give one of them." -}}
{{- end -}}
{{- if and $external.url $external.tls (not (hasPrefix "rediss://" $external.url)) -}}
{{- fail "redis.external.tls is true, but redis.external.url does not begin with rediss://: change the URL." -}}
{{- end -}}
{{- if and $external.ca.existingSecret (not $valkey.enabled) (not (hasPrefix "rediss://" (include "muleteer.redisUrl" .))) -}}
{{- fail "redis.external.ca.existingSecret is set, but the connection is without TLS: set redis.external.tls to true, or let redis.external.url begin with rediss://." -}}
{{- end -}}
{{- if $valkey.enabled -}}
{{- $limit := dig "limits" "memory" "" $valkey.resources | toString -}}
{{- if not (or $valkey.maxmemory $limit) -}}
{{- fail "valkey.resources.limits.memory is missing: set it, or say in valkey.maxmemory how much memory the data may take." -}}
{{- end -}}
{{- if and $limit (or (hasSuffix "m" $limit) (lt (int64 (include "muleteer.bytes" $limit)) 16777216)) -}}
{{- fail (printf "valkey.resources.limits.memory is %s, which is too little for Valkey itself: give it 16Mi at least." $limit) -}}
{{- end -}}
{{- if not (or $valkey.image.tag $valkey.image.digest) -}}
{{- fail "valkey.image.tag is empty: name a tag, or pin the image by valkey.image.digest." -}}
{{- end -}}
{{- if and $valkey.maxmemory $limit (ge (int64 (include "muleteer.bytes" $valkey.maxmemory)) (int64 (include "muleteer.bytes" $limit))) -}}
{{- fail (printf "valkey.maxmemory (%s) leaves nothing of valkey.resources.limits.memory (%s): Kubernetes would kill Valkey before it is full." $valkey.maxmemory $limit) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "muleteer.validateModels" -}}
{{- $models := .Values.models -}}
{{- if and $models.persistentVolumeClaim (contains "://" $models.repository) -}}
{{- fail (printf "models.persistentVolumeClaim is mounted at models.repository, which must then be a folder such as /models, not %s." $models.repository) -}}
{{- end -}}
{{- $folder := $models.repository | trimSuffix "/" -}}
{{- if or (has $folder (list "" "/tmp" "/manifests" "/var/cache/muleteer")) (hasPrefix "/etc/muleteer" $folder) -}}
{{- fail (printf "models.repository is %s, which is in use in the pods: take another folder, such as /models." $models.repository) -}}
{{- end -}}
{{- if and (not $models.catalog) (ne (include "muleteer.repositoryKind" .) "image") -}}
{{- fail "models.catalog is empty, and the examples are only in the worker image: name the models that are in your repository." -}}
{{- end -}}
{{- $routes := dict -}}
{{- range $name, $entry := $models.catalog | default $models.examples -}}
{{- with $entry.route -}}
{{- if hasKey $routes . -}}
{{- fail (printf "models.catalog.%s.route and models.catalog.%s.route are both %s: each model needs its own." (get $routes .) $name .) -}}
{{- end -}}
{{- $_ := set $routes . $name -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* One model of the catalog, by the rules of muleteer.catalog. Context: root, name, entry. */}}
{{- define "muleteer.validateModel" -}}
{{- $entry := .entry -}}
{{- $where := printf "models.%s.%s" (empty .root.Values.models.catalog | ternary "examples" "catalog") .name -}}
{{- $pool := $entry.pool | default "default" -}}
{{- if not (hasKey .root.Values.pools $pool) -}}
{{- fail (printf "%s.pool is %s, which is not among pools: %s." $where $pool (keys .root.Values.pools | sortAlpha | join ", ")) -}}
{{- end -}}
{{- with $entry.route -}}
{{- if regexMatch "^/(v1/models|v1/jobs|v2|livez|readyz|metrics|backlog|docs|openapi\\.json)(/|$)" . -}}
{{- fail (printf "%s.route is %s, which belongs to Muleteer's own API: choose another path." $where .) -}}
{{- end -}}
{{- end -}}
{{- if and $entry.default $entry.traffic -}}
{{- fail (printf "%s.default and %s.traffic are both set: give one of them." $where $where) -}}
{{- end -}}
{{- if and (gt (len $entry.versions) 1) (not $entry.default) (not $entry.traffic) -}}
{{- fail (printf "%s has several versions: say in %s.default or %s.traffic which one answers." $where $where $where) -}}
{{- end -}}
{{- $named := dict -}}
{{- with $entry.default }}{{ $_ := set $named "default" . }}{{ end -}}
{{- range $version, $_ := $entry.traffic }}{{ $_ := set $named (printf "traffic.%s" $version) $version }}{{ end -}}
{{- range $alias, $version := $entry.aliases }}{{ $_ := set $named (printf "aliases.%s" $alias) $version }}{{ end -}}
{{- range $field, $version := $named -}}
{{- if not (hasKey $entry.versions $version) -}}
{{- fail (printf "%s.%s names version %s, which is not among %s.versions: %s." $where $field $version $where (keys $entry.versions | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- if $entry.traffic -}}
{{- $shares := 0.0 -}}
{{- range $entry.traffic }}{{ $shares = addf $shares . }}{{ end -}}
{{- if le $shares 0.0 -}}
{{- fail (printf "%s.traffic gives no version a share: one must be above 0." $where) -}}
{{- end -}}
{{- end -}}
{{- $folder := printf "%s/" (trimSuffix "/" .root.Values.models.repository) -}}
{{- range $version, $place := $entry.versions -}}
{{- $uri := dig "uri" "" ($place | default dict) -}}
{{- if and $uri (not (contains "://" $uri)) (not (hasPrefix $folder $uri)) -}}
{{- fail (printf "%s.versions.%s.uri is %s, which gateways do not have: it must be a URL, or lie in models.repository (%s)." $where $version $uri $.root.Values.models.repository) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "muleteer.validateGateway" -}}
{{- $gateway := .Values.gateway -}}
{{- if and $gateway.ingress.enabled $gateway.httpRoute.enabled -}}
{{- fail "gateway.ingress.enabled and gateway.httpRoute.enabled are both true: choose one of them." -}}
{{- end -}}
{{- if and $gateway.ingress.enabled (not $gateway.ingress.hosts) -}}
{{- fail "gateway.ingress.hosts is empty: name at least one host, or [{paths: [{path: /}]}] for any." -}}
{{- end -}}
{{- if and $gateway.httpRoute.enabled (not $gateway.httpRoute.parentRefs) -}}
{{- fail "gateway.httpRoute.parentRefs is empty: name the Gateway that the route belongs to." -}}
{{- end -}}
{{- if and $gateway.service.nodePort (eq $gateway.service.type "ClusterIP") -}}
{{- fail "gateway.service.nodePort is set, but gateway.service.type is ClusterIP: set it to NodePort or LoadBalancer." -}}
{{- end -}}
{{- include "muleteer.validateScaling" (dict "where" "gateway" "settings" $gateway) -}}
{{- include "muleteer.validateEnv" (dict "where" "gateway" "own" (include "muleteer.gatewayEnv" .) "extra" $gateway.extraEnv) -}}
{{- end }}

{{- define "muleteer.validateMonitoring" -}}
{{- with .Values.monitoring.podMonitor -}}
{{- if and .enabled (gt (int64 (include "muleteer.milliseconds" .scrapeTimeout)) (int64 (include "muleteer.milliseconds" .interval))) -}}
{{- fail (printf "monitoring.podMonitor.scrapeTimeout (%s) is longer than monitoring.podMonitor.interval (%s): the Prometheus operator refuses that, change one of them." .scrapeTimeout .interval) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Milliseconds of a duration as Prometheus writes it: 1m30s. */}}
{{- define "muleteer.milliseconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 -}}
{{- $total := 0 -}}
{{- range regexFindAll "[0-9]+[a-z]+" . -1 -}}
{{- $total = add $total (mul (regexFind "[0-9]+" . | int64) (get $units (regexFind "[a-z]+" .))) -}}
{{- end -}}
{{- $total -}}
{{- end }}

{{/* One pool. Context: root, pool. */}}
{{- define "muleteer.validatePool" -}}
{{- $pool := .pool -}}
{{- $where := printf "pools.%s" $pool -}}
{{- $settings := include "muleteer.pool" . | fromJson -}}
{{- $name := include "muleteer.poolName" . -}}
{{- if gt (len $name) 58 -}}
{{- fail (printf "%s makes the name %s, which is longer than 58 characters: shorten the pool's name, or set fullnameOverride." $where $name) -}}
{{- end -}}
{{- include "muleteer.validateScaling" (dict "where" $where "settings" $settings) -}}
{{- if eq $settings.autoscaling.type "keda" -}}
{{- $served := list -}}
{{- $models := .root.Values.models -}}
{{- range $model, $entry := $models.catalog | default $models.examples -}}
{{- if eq $pool ($entry.pool | default "default") }}{{ $served = append $served $model }}{{ end -}}
{{- end -}}
{{- if not $served -}}
{{- fail (printf "%s.autoscaling.type is keda, but no model is in this pool, so that there is no backlog to read: set it to none." $where) -}}
{{- end -}}
{{- end -}}
{{- $context := dict "root" .root "component" "worker" -}}
{{- $account := $settings.serviceAccount -}}
{{- $accountName := include "muleteer.serviceAccountName" (merge (dict "account" $account) $context) -}}
{{- range $other, $_ := .root.Values.pools -}}
{{- $theirs := (include "muleteer.pool" (dict "root" $.root "pool" $other) | fromJson).serviceAccount -}}
{{- $same := eq $accountName (include "muleteer.serviceAccountName" (merge (dict "account" $theirs) $context)) -}}
{{- if and $same $account.create $theirs.create (ne (toJson $account) (toJson $theirs)) -}}
{{- fail (printf "%s.serviceAccount and pools.%s.serviceAccount differ, but have the same name: give one its own %s.serviceAccount.name." $where $other $where) -}}
{{- end -}}
{{- end -}}
{{- $gateways := .root.Values.gateway.serviceAccount -}}
{{- if and $account.create $gateways.create (eq $accountName (include "muleteer.serviceAccountName" (dict "root" .root "component" "gateway" "account" $gateways))) -}}
{{- fail (printf "gateway.serviceAccount.name and %s.serviceAccount.name (or worker.serviceAccount.name) are both %s, and both are to be made: change one of them, or set its `create` to false." $where $accountName) -}}
{{- end -}}
{{- $own := include "muleteer.workerEnv" (dict "root" .root "pool" $pool "settings" $settings) -}}
{{- include "muleteer.validateEnv" (dict "where" $where "own" $own "extra" $settings.extraEnv) -}}
{{- end }}

{{/* Context: where, settings. */}}
{{- define "muleteer.validateScaling" -}}
{{- $scaling := .settings.autoscaling -}}
{{- if ne $scaling.type "none" -}}
{{- if gt (int64 $scaling.minReplicas) (int64 $scaling.maxReplicas) -}}
{{- fail (printf "%s.autoscaling.minReplicas (%d) is more than maxReplicas (%d): change one of them." .where (int64 $scaling.minReplicas) (int64 $scaling.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- if eq $scaling.type "cpu" -}}
{{- if eq (int64 $scaling.minReplicas) 0 -}}
{{- fail (printf "%s.autoscaling.minReplicas is 0, but type cpu cannot scale to zero: set it to 1, or the type to keda." .where) -}}
{{- end -}}
{{- if not (dig "requests" "cpu" "" .settings.resources) -}}
{{- fail (printf "%s.autoscaling.type is cpu, which is in percent of %s.resources.requests.cpu: set that, or the type to none." .where .where) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* No variable may be there twice. Context: where, own (a list in YAML), extra. */}}
{{- define "muleteer.validateEnv" -}}
{{- $names := list -}}
{{- range (fromYamlArray .own) }}{{ $names = append $names .name }}{{ end -}}
{{- range $name, $_ := .extra -}}
{{- if has $name $names -}}
{{- fail (printf "%s.extraEnv.%s is a variable that the chart sets itself: use the value that it comes from." $.where $name) -}}
{{- end -}}
{{- end -}}
{{- end }}
