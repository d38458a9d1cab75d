"""Frameworks: how a version's artifact becomes something that predicts."""

from muleteer_worker.frameworks.base import Adapter, make_adapter

__all__ = ["Adapter", "make_adapter"]
