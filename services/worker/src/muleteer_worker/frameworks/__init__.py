"""Frameworks: how a version's artifact becomes something that predicts."""

from muleteer_worker.frameworks.base import Adapter, import_libraries, make_adapter

__all__ = ["Adapter", "import_libraries", "make_adapter"]
