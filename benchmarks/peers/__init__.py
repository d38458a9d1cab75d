"""Muleteer beside what people would use instead: the same models, the same load, all in one run."""
