"""scikit-learn's own random forests, for those who are measured beside Muleteer. Imports only what loads a model."""

from muleteer_worker.readiness import LoadedVersion


def with_own_forests(version: LoadedVersion) -> LoadedVersion:
    """Let forests predict as scikit-learn has them: that is what somebody calls who calls a model in-process.

    A worker's adapter asks their trees itself, which gives the same answers sooner (docs/decisions/0008).
    """
    called = getattr(getattr(version.adapter, "_call", None), "__self__", None)
    for _, step in getattr(called, "steps", ()):
        for name in ("predict", "predict_proba"):
            vars(step).pop(name, None)
    return version
