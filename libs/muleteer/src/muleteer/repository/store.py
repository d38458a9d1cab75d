"""Model repositories in one place: fetch, check, write and push version folders."""

from muleteer.repository.checksums import artifact_sha256, verify_checksums
from muleteer.repository.fetch import evict_version, fetch_manifest, fetch_version
from muleteer.repository.push import push_version
from muleteer.repository.write import write_manifest

__all__ = [
    "artifact_sha256",
    "evict_version",
    "fetch_manifest",
    "fetch_version",
    "push_version",
    "verify_checksums",
    "write_manifest",
]
