"""Muleteer's two Grafana dashboards, written with grafana-foundation-sdk."""
