"""Golden examples: comparing what a model predicts with what its manifest says it must."""

from math import isclose
from typing import Any


def difference(expected: Any, got: Any, tolerance: float, path: str = "prediction") -> str | None:
    """Return where two JSON values first differ, as one line, or None when they agree.

    Numbers agree when they differ by no more than ``tolerance``, absolute or relative; 1 and 1.0 are the same number,
    while true and 1 are not.
    """
    if _is_number(expected) and _is_number(got):
        same = isclose(expected, got, rel_tol=tolerance, abs_tol=tolerance)
        return None if same else _differ(path, expected, got)
    if type(expected) is not type(got):
        return _differ(path, expected, got)
    if isinstance(expected, dict):
        return _difference_of_objects(expected, got, tolerance, path)
    if isinstance(expected, list):
        if len(expected) != len(got):
            return f"{path}: expected {len(expected)} items, got {len(got)}"
        found = (difference(a, b, tolerance, f"{path}.{i}") for i, (a, b) in enumerate(zip(expected, got, strict=True)))
        return next((line for line in found if line), None)
    return None if expected == got else _differ(path, expected, got)


def _difference_of_objects(expected: dict[str, Any], got: dict[str, Any], tolerance: float, path: str) -> str | None:
    for name, value in expected.items():
        if name not in got:
            return f"{path}.{name}: expected {value!r:.200}, got nothing"
        line = difference(value, got[name], tolerance, f"{path}.{name}")
        if line:
            return line
    extra = [name for name in got if name not in expected]
    return f"{path}.{extra[0]}: expected nothing, got {got[extra[0]]!r:.200}" if extra else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _differ(path: str, expected: Any, got: Any) -> str:
    return f"{path}: expected {expected!r:.200}, got {got!r:.200}"
