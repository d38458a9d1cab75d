"""Muleteer serves machine-learning models: the package that gateway, worker, client and CLI share."""

__version__ = "0.1.0"
