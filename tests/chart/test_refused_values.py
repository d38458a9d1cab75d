"""Wrong values never reach a cluster: the schema and the templates say which value is wrong, and what to do."""

from typing import Any

import pytest
import yaml

from muleteer.catalog.model import OWN_PATHS
from support.chart import refusal, render, template

DIGEST = "sha256:" + "1" * 64

BY_SCHEMA = {
    # Keys that nobody reads.
    "unknown key": ("replicas: 3", "additional properties 'replicas' not allowed"),
    "unknown key in a section": ("gateway: {replicaCount: 3}", "/gateway", "replicaCount"),
    "unknown key deep down": ("gateway: {drain: {preStop: 3}}", "/gateway/drain", "preStop"),
    "unknown key of the workers": ("worker: {image: {tags: a}}", "/worker/image", "tags"),
    "unknown key in a pool": ("pools: {gpu: {gpus: 1}}", "/pools/gpu", "gpus"),
    "unknown key deep in a pool": ("pools: {gpu: {autoscaling: {keda: {target: 1}}}}", "/pools/gpu", "target"),
    "unknown key in a model": ("models: {catalog: {m: {versions: {a: {}}, batch: 1}}}", "/models/catalog/m", "batch"),
    "unknown key in a version": ("models: {catalog: {m: {versions: {a: {url: x}}}}}", "versions/a", "url"),
    "unknown setting": ("gateway: {settings: {maxWait: 3}}", "/gateway/settings", "maxWait"),
    "setting that the chart makes": ("worker: {settings: {leaseSeconds: 3}}", "/worker/settings", "leaseSeconds"),
    "unknown key in a security context": (
        "gateway: {podSecurityContext: {runAsNonRoot: false}}",
        "/gateway/podSecurityContext",
        "runAsNonRoot",
    ),
    # Things of the wrong kind.
    "text for a number": ('gateway: {replicas: "2"}', "/gateway/replicas", "want integer"),
    "half a pod": ("worker: {replicas: 1.5}", "/worker/replicas", "want integer"),
    "number for a text": ("image: {tag: 1.0}", "/image/tag", "want string"),
    "text for true": ('valkey: {enabled: "false"}', "/valkey/enabled", "want boolean"),
    "list for a map": ("gateway: {nodeSelector: [a]}", "/gateway/nodeSelector", "want object"),
    "map for a list": ("gateway: {tolerations: {key: a}}", "/gateway/tolerations", "want array"),
    "list of variables": ("worker: {extraEnv: [{name: A, value: b}]}", "/worker/extraEnv", "want object"),
    "number as a variable": ("worker: {extraEnv: {A: 1}}", "/worker/extraEnv/A", "got number"),
    "number as an annotation": ("gateway: {podAnnotations: {a: 1}}", "/gateway/podAnnotations/a", "want string"),
    "number as a version": ("models: {catalog: {m: {versions: {a: {}}, default: 1}}}", "m/default", "want string"),
    "nothing where something must be": ("gateway: {image: null}", "/gateway", "'image'"),
    # Words that mean nothing.
    "way to scale": ("worker: {autoscaling: {type: memory}}", "autoscaling/type", "'none', 'cpu', 'keda'"),
    "way to scale the gateway": ("gateway: {autoscaling: {type: keda}}", "/gateway/autoscaling/type", "'none', 'cpu'"),
    "pull policy": ("image: {pullPolicy: Sometimes}", "/image/pullPolicy", "'Always', 'IfNotPresent', 'Never'"),
    "type of a service": ("gateway: {service: {type: ExternalName}}", "/gateway/service/type", "LoadBalancer"),
    "log level": ("gateway: {settings: {logLevel: loud}}", "logLevel", "'debug'"),
    "access mode": ("valkey: {persistence: {accessModes: [ReadOnlyMany]}}", "accessModes/0", "ReadWriteOnce"),
    # Quantities and sizes.
    "quantity with a space": ("worker: {resources: {limits: {memory: 2 Gi}}}", "resources/limits/memory", "2 Gi"),
    "quantity in bytes": ("worker: {resources: {limits: {memory: 2GB}}}", "resources/limits/memory", "2GB"),
    "negative quantity": ("worker: {resources: {requests: {cpu: -1}}}", "resources/requests/cpu", "-1"),
    "size of a volume": ("valkey: {persistence: {size: big}}", "/valkey/persistence/size", "big"),
    "memory of Valkey": ("valkey: {maxmemory: 512Mi}", "/valkey/maxmemory", "512Mi"),
    # Numbers out of bounds.
    "negative pods": ("gateway: {replicas: -1}", "/gateway/replicas", "minimum: got -1, want 0"),
    "no pod at most": ("worker: {autoscaling: {maxReplicas: 0}}", "maxReplicas", "minimum: got 0, want 1"),
    "no lease": ("pools: {a: {leaseSeconds: 0}}", "/pools/a/leaseSeconds", "minimum: got 0, want 1"),
    "no timeout": ("models: {catalog: {m: {versions: {a: {}}, timeout: 0}}}", "m/timeout", "exclusiveMinimum"),
    "negative share": ("models: {catalog: {m: {versions: {a: {}}, traffic: {a: -1}}}}", "m/traffic/a", "minimum"),
    "port too high": ("gateway: {service: {port: 65536}}", "/gateway/service/port", "maximum"),
    "port of nothing": ("redis: {external: {port: 0}}", "/redis/external/port", "minimum"),
    "retired before pods see it": ("worker: {retireSeconds: 60}", "/worker/retireSeconds", "want 120"),
    "root": ("gateway: {podSecurityContext: {runAsUser: 0}}", "/gateway/podSecurityContext/runAsUser", "minimum"),
    "root's group": ("valkey: {podSecurityContext: {fsGroup: 0}}", "/valkey/podSecurityContext/fsGroup", "minimum"),
    # Names.
    "name of a model": ("models: {catalog: {My_Model: {versions: {a: {}}}}}", "/models/catalog", "My_Model"),
    "name of a version": ("models: {catalog: {m: {versions: {a/b: {}}}}}", "m/versions", "a/b"),
    "name of an alias": ("models: {catalog: {m: {versions: {a: {}}, aliases: {A: a}}}}", "m/aliases", "'A'"),
    "name of a pool": ("pools: {GPU: {}}", "/pools", "GPU"),
    "long name of a pool": (f"pools: {{{'a' * 41}: {{}}}}", "/pools", "a" * 41),
    "no version": ("models: {catalog: {m: {versions: {}}}}", "m/versions", "minProperties"),
    "route without a slash": ("models: {catalog: {m: {versions: {a: {}}, route: predict}}}", "m/route", "predict"),
    "relative repository": ("models: {repository: models}", "/models/repository", "models"),
    "name of a secret": ("gateway: {apiKeys: {existingSecret: My_Secret}}", "/gateway/apiKeys/existingSecret"),
    "name of a variable": ("gateway: {extraEnv: {A-B: c}}", "/gateway/extraEnv", "A-B"),
    "label": ("commonLabels: {team: a b}", "/commonLabels/team", "a b"),
    "host": ("gateway: {ingress: {hosts: [{host: Models.Example.Com}]}}", "hosts/0/host"),
    "volume that the chart has": ("worker: {extraVolumes: [{name: tmp, emptyDir: {}}]}", "extraVolumes/0/name"),
    # Images.
    "digest": ("gateway: {image: {digest: sha256:123}}", "/gateway/image/digest", "sha256:123"),
    "tag in the name": ("gateway: {image: {repository: gateway:1.0}}", "/gateway/image/repository", "gateway:1.0"),
    "tag": ("image: {tag: 'a b'}", "/image/tag", "a b"),
    # Secrets in plain sight.
    "password in a URL": ("redis: {external: {url: 'redis://:secret@r:6379'}}", "/redis/external/url"),
    "password behind a URL": ("redis: {external: {url: 'redis://r:6379?password=secret'}}", "/redis/external/url"),
    "user behind a URL": ("redis: {external: {url: 'redis://r/0?db=1&username=me'}}", "/redis/external/url"),
    "other scheme": ("redis: {external: {url: 'http://r'}}", "/redis/external/url", "http://r"),
    # Others.
    "cidr": ("networkPolicy: {redisTo: [{ipBlock: {cidr: 10.0.0.1}}]}", "ipBlock/cidr", "10.0.0.1"),
    "peer that is nobody": ("networkPolicy: {metricsFrom: [{}]}", "/networkPolicy/metricsFrom/0", "minProperties"),
    "keda from anywhere": ("networkPolicy: {kedaFrom: []}", "/networkPolicy/kedaFrom", "minItems"),
    "two sources": (
        "worker: {extraEnv: {A: {valueFrom: {fieldRef: {fieldPath: b}, secretKeyRef: {name: c, key: d}}}}}",
        "/worker/extraEnv/A/valueFrom",
        "maxProperties",
    ),
    "half a fallback": ("worker: {autoscaling: {keda: {fallback: {replicas: 2}}}}", "fallback", "failureThreshold"),
    "duration": ("monitoring: {podMonitor: {interval: 15}}", "/monitoring/podMonitor/interval", "want string"),
    "object of no kind": ("extraObjects: [{metadata: {name: a}}]", "/extraObjects/0", "'apiVersion', 'kind'"),
    "no pool": ("pools: {default: null}", "/pools", "minProperties"),
}

BY_TEMPLATES = {
    "two servers": (
        "redis: {external: {host: r}}",
        "set valkey.enabled to false to use the Redis in redis.external.",
    ),
    "no server": ("valkey: {enabled: false}", "set redis.external.url or redis.external.host."),
    "a server by two names": (
        "{valkey: {enabled: false}, redis: {external: {host: r, url: 'redis://r'}}}",
        "redis.external.url and redis.external.host are both set: give one of them.",
    ),
    "TLS that the URL denies": (
        "{valkey: {enabled: false}, redis: {external: {tls: true, url: 'redis://r'}}}",
        "redis.external.tls is true, but redis.external.url does not begin with rediss://: change the URL.",
    ),
    "authority without TLS": (
        "{valkey: {enabled: false}, redis: {external: {host: r, ca: {existingSecret: ca}}}}",
        "set redis.external.tls to true, or let redis.external.url begin with rediss://.",
    ),
    "authority without TLS in the URL": (
        "{valkey: {enabled: false}, redis: {external: {url: 'redis://r', ca: {existingSecret: ca}}}}",
        "set redis.external.tls to true, or let redis.external.url begin with rediss://.",
    ),
    "password of no external server": ("redis: {external: {existingSecret: a}}", "valkey.enabled", "redis.external"),
    "no bound of memory": (
        "valkey: {resources: {limits: {memory: null}}}",
        "valkey.resources.limits.memory is missing: set it, or say in valkey.maxmemory",
    ),
    "more data than memory": (
        "valkey: {maxmemory: 1gb, resources: {limits: {memory: 1Gi}}}",
        "valkey.maxmemory (1gb) leaves nothing of valkey.resources.limits.memory (1Gi)",
    ),
    "no memory at all": ("valkey: {resources: {limits: {memory: 0}}}", "valkey.resources.limits.memory"),
    "milli-bytes of memory": ("valkey: {resources: {limits: {memory: 512m}}}", "valkey.resources.limits.memory"),
    "image of Valkey without a tag": ("valkey: {image: {tag: ''}}", "valkey.image.tag"),
    "volume for a URL": (
        "models: {persistentVolumeClaim: a, repository: 's3://b', catalog: {m: {versions: {a: {}}}}}",
        "models.persistentVolumeClaim is mounted at models.repository, which must then be a folder",
    ),
    "examples from elsewhere": ("models: {repository: 's3://bucket'}", "models.catalog is empty", "name the models"),
    "examples on a volume": ("models: {persistentVolumeClaim: a}", "models.catalog is empty", "name the models"),
    "one route for two": (
        "models: {catalog: {a: {versions: {x: {}}, route: /r}, b: {versions: {x: {}}, route: /r}}}",
        "models.catalog.a.route and models.catalog.b.route are both /r: each model needs its own.",
    ),
    "route of the API": (
        "models: {catalog: {m: {versions: {a: {}}, route: /v1/models/m}}}",
        "models.catalog.m.route is /v1/models/m, which belongs to Muleteer's own API: choose another path.",
    ),
    "pool that is not there": (
        "models: {catalog: {m: {versions: {a: {}}, pool: gpu}}}",
        "models.catalog.m.pool is gpu, which is not among pools: default.",
    ),
    "no pool for what names none": (
        "{pools: {default: null, gpu: {}}, models: {catalog: {m: {versions: {a: {}}}}}}",
        "models.catalog.m.pool is default, which is not among pools: gpu.",
    ),
    "default and traffic": (
        "models: {catalog: {m: {versions: {a: {}, b: {}}, default: a, traffic: {a: 1}}}}",
        "models.catalog.m.default and models.catalog.m.traffic are both set: give one of them.",
    ),
    "nothing answers": (
        "models: {catalog: {m: {versions: {a: {}, b: {}}}}}",
        "say in models.catalog.m.default or models.catalog.m.traffic which one answers.",
    ),
    "default that is not there": (
        "models: {catalog: {m: {versions: {a: {}}, default: c}}}",
        "models.catalog.m.default names version c, which is not among models.catalog.m.versions: a.",
    ),
    "traffic to nowhere": (
        "models: {catalog: {m: {versions: {a: {}}, traffic: {c: 1}}}}",
        "models.catalog.m.traffic.c names version c, which is not among models.catalog.m.versions: a.",
    ),
    "alias of nothing": (
        "models: {catalog: {m: {versions: {a: {}}, aliases: {best: c}}}}",
        "models.catalog.m.aliases.best names version c, which is not among models.catalog.m.versions: a.",
    ),
    "no share": (
        "models: {catalog: {m: {versions: {a: {}}, traffic: {a: 0}}}}",
        "models.catalog.m.traffic gives no version a share: one must be above 0.",
    ),
    "folder that gateways lack": (
        "models: {catalog: {m: {versions: {a: {uri: /elsewhere/m}}}}}",
        "models.catalog.m.versions.a.uri is /elsewhere/m, which gateways do not have",
    ),
    "models over what the chart mounts": ("models: {repository: /tmp}", "models.repository"),
    "models over the cache": ("models: {repository: /var/cache/muleteer}", "models.repository"),
    "models over the catalog": ("models: {repository: /etc/muleteer}", "models.repository"),
    "models over everything": ("models: {repository: /}", "models.repository"),
    "ingress and route": (
        "gateway: {ingress: {enabled: true, hosts: [{host: a}]}, httpRoute: {enabled: true, parentRefs: [{name: b}]}}",
        "gateway.ingress.enabled and gateway.httpRoute.enabled are both true: choose one of them.",
    ),
    "ingress to nowhere": ("gateway: {ingress: {enabled: true}}", "gateway.ingress.hosts is empty: name at least one"),
    "route of no gateway": (
        "gateway: {httpRoute: {enabled: true}}",
        "gateway.httpRoute.parentRefs is empty: name the Gateway that the route belongs to.",
    ),
    "node port of none": (
        "gateway: {service: {nodePort: 30080}}",
        "gateway.service.nodePort is set, but gateway.service.type is ClusterIP: set it to NodePort or LoadBalancer.",
    ),
    "gateways fewer than fewest": (
        "gateway: {autoscaling: {type: cpu, minReplicas: 9}}",
        "gateway.autoscaling.minReplicas (9) is more than maxReplicas (8): change one of them.",
    ),
    "workers fewer than fewest": (
        "pools: {gpu: {autoscaling: {minReplicas: 9}}}",
        "pools.gpu.autoscaling.minReplicas (9) is more than maxReplicas (4): change one of them.",
    ),
    "no worker on CPU": (
        "worker: {autoscaling: {minReplicas: 0}}",
        "pools.default.autoscaling.minReplicas is 0, but type cpu cannot scale to zero: set it to 1, or the type to",
    ),
    "percent of nothing": (
        "worker: {resources: {requests: {cpu: null}}}",
        "in percent of pools.default.resources.requests.cpu: set that, or the type to none.",
    ),
    "percent of nothing in gateways": (
        "gateway: {autoscaling: {type: cpu}, resources: {requests: {cpu: null}}}",
        "in percent of gateway.resources.requests.cpu: set that, or the type to none.",
    ),
    "backlog of nothing": (
        "pools: {spare: {autoscaling: {type: keda}}}",
        "pools.spare.autoscaling.type is keda, but no model is in this pool, so that there is no backlog to read",
    ),
    "name of a pool that does not fit": (
        f"{{fullnameOverride: {'f' * 30}, pools: {{{'p' * 30}: {{}}}}}}",
        "which is longer than 58 characters: shorten the pool's name, or set fullnameOverride.",
    ),
    "accounts of one name in pools": (
        "pools: {a: {serviceAccount: {name: x, annotations: {k: v}}}, b: {serviceAccount: {name: x}}}",
        "pools.a.serviceAccount and pools.b.serviceAccount differ, but have the same name",
    ),
    "accounts of one name": (
        "{gateway: {serviceAccount: {name: x}}, worker: {serviceAccount: {name: x}}}",
        "gateway.serviceAccount.name",
    ),
    "variable of the chart": (
        "gateway: {extraEnv: {MULETEER_CATALOG: x}}",
        "gateway.extraEnv.MULETEER_CATALOG is a variable that the chart sets itself: use the value that it comes from.",
    ),
    "variable of a setting": (
        "gateway: {settings: {logLevel: info}, extraEnv: {MULETEER_LOG_LEVEL: debug}}",
        "gateway.extraEnv.MULETEER_LOG_LEVEL is a variable that the chart sets itself",
    ),
    "variable of the chart in a pool": (
        "pools: {gpu: {extraEnv: {MULETEER_POOL: x}}}",
        "pools.gpu.extraEnv.MULETEER_POOL is a variable that the chart sets itself",
    ),
    "scrape longer than its interval": (
        "monitoring: {podMonitor: {enabled: true, interval: 15s, scrapeTimeout: 1m}}",
        "monitoring.podMonitor.scrapeTimeout",
    ),
}


@pytest.mark.parametrize("case", BY_SCHEMA, ids=str)
def test_the_schema_refuses(case: str) -> None:
    values, *words = BY_SCHEMA[case]
    said = refusal(yaml.safe_load(values))
    assert "values don't meet the specifications of the schema(s)" in said
    for word in words:
        assert word in said


@pytest.mark.parametrize("case", BY_TEMPLATES, ids=str)
def test_the_templates_refuse(case: str) -> None:
    values, *words = BY_TEMPLATES[case]
    said = refusal(yaml.safe_load(values))
    for word in words:
        assert word in said
    sentence = said.partition("validate.yaml:1:4): ")[2].removesuffix(" Use --debug flag to render out invalid YAML")
    assert sentence, f"not one of the chart's own sentences: {said}"
    assert sentence.endswith(".")
    assert sentence.count(". ") == 0, "one sentence"


ACCEPTED: dict[str, Any] = {
    "no pod": "{gateway: {replicas: 0}, worker: {autoscaling: {type: none}, replicas: 0}}",
    "one pod at least and at most": "worker: {autoscaling: {minReplicas: 4, maxReplicas: 4}}",
    "fewest above most where nothing scales": "gateway: {autoscaling: {type: none, minReplicas: 9}}",
    "no CPU request where none is needed": "worker: {autoscaling: {type: none}, resources: {requests: {cpu: null}}}",
    "a bound of memory without a limit": "valkey: {maxmemory: 1gb, resources: {limits: {memory: null}}}",
    "names of versions that look like numbers and dates": (
        'models: {catalog: {m: {versions: {"1.10": null, "2025-01-01": {}, "1e3": {}, "null": {}}, default: "1.10"}}}'
    ),
    "a pool by name only": "{pools: {gpu: null}, models: {catalog: {m: {versions: {a: {}}, pool: gpu}}}}",
    "a registry with a port": "{image: {registry: 'registry:5000/team'}, gateway: {image: {repository: a/b_c/d-e}}}",
    "a registry in the name": "gateway: {image: {repository: 'registry:5000/muleteer-gateway'}}",
    "a tag with its digest": f"image: {{tag: 'v1@{DIGEST}'}}",
    "users given by the namespace": (
        "gateway: {podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}}"
    ),
    "an external server by URL": "{valkey: {enabled: false}, redis: {external: {url: 'rediss://r:1/2?ssl_min_version=TLSv1_3'}}}",
    "an external server by IPv6 address": "{valkey: {enabled: false}, redis: {external: {host: '[fd00::1]'}}}",
    "an account of nobody's making in one pool": "pools: {gpu: {serviceAccount: {create: false}}}",
    "one account for all that exists": (
        "{gateway: {serviceAccount: {create: false, name: x}}, worker: {serviceAccount: {create: false, name: x}}}"
    ),
    "versions anywhere": "models: {catalog: {m: {versions: {a: {uri: 's3://b/a'}, b: {uri: /models/x}}, default: a}}}",
    "an address of any kind": "gateway: {ingress: {enabled: true, hosts: [{paths: [{}]}, {host: '*.example.com'}]}}",
    "a route of one's own beside the API's": "models: {catalog: {m: {versions: {a: {}}, route: /v1/predict}}}",
}


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_is_not_refused(case: str) -> None:
    done = template(yaml.safe_load(ACCEPTED[case]))
    assert done.code == 0, done.stderr


@pytest.mark.parametrize("path", OWN_PATHS)
def test_no_route_may_be_the_gateways_own(path: str) -> None:
    for route in (path, f"{path}/below"):
        said = refusal({"models": {"catalog": {"m": {"versions": {"a": {}}, "route": route}}}})
        assert f"models.catalog.m.route is {route}, which belongs to Muleteer's own API" in said


def test_no_example_need_be_served() -> None:
    render({"models": {"examples": {"fancy": None}}})
