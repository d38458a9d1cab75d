"""The catalog: which models are served, and how."""

from muleteer.catalog.model import Batching, Catalog, Limits, ModelEntry, VersionEntry
from muleteer.catalog.source import CatalogSource, read_catalog

__all__ = ["Batching", "Catalog", "CatalogSource", "Limits", "ModelEntry", "VersionEntry", "read_catalog"]
