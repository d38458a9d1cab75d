"""``muleteer check``: tell whether a worker would serve a version folder."""

import importlib.util
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from muleteer.cli.output import print_table
from muleteer.errors import ModelLoadError, SettingsError
from muleteer.repository.manifest import Manifest, read_manifest

CHECKS = {
    "manifest": ("manifest",),
    "checksum": ("checksum", "repository"),
    "libraries": ("library",),
    "loads": ("load", "unsafe"),
    "schema": ("schema",),
    "golden examples": ("golden",),
}
"""The checks in the order in which a worker makes them, with the reasons that it gives when they fail."""


def check(
    folder: Annotated[Path, typer.Argument(help="The version folder, with model.yaml and the artifact.")],
    allow_unsafe: Annotated[
        bool, typer.Option(help="Load a joblib or pickle artifact: it can run any code, so only your own.")
    ] = False,
) -> None:
    """Make every check that a worker makes before a version takes traffic: exit code 1 if one fails."""
    if importlib.util.find_spec("muleteer_worker") is None:
        raise SettingsError("muleteer check loads the model as a worker does: pip install muleteer-worker")
    manifest, failure = None, None
    try:
        manifest = read_manifest(folder)
        try_version(folder, manifest, allow_unsafe=allow_unsafe)
    except ModelLoadError as error:
        failure = error
    print_table(["CHECK", "RESULT", "REASON"], report(manifest, failure))
    if failure is not None:
        raise typer.Exit(1)


def try_version(folder: Path, manifest: Manifest, *, allow_unsafe: bool) -> None:
    """Make the version ready as a worker does, and let it go. Raises ModelLoadError."""
    # the worker and its model libraries are no dependency of this package
    from muleteer_worker.readiness import prepare  # noqa: PLC0415 - see above

    allowed = frozenset({manifest.sha256}) if allow_unsafe else frozenset()
    with tempfile.TemporaryDirectory() as cache:
        prepare(manifest.name, manifest.version, str(folder.resolve()), Path(cache), allowed).unload()


def report(manifest: Manifest | None, failure: ModelLoadError | None) -> list[list[str]]:
    """Return a row for each check: ok, FAILED with the reason, or not reached."""
    notes = {}
    if manifest is not None:
        notes["manifest"] = f"{manifest.name} version {manifest.version}, {manifest.framework}"
        notes["golden examples"] = f"{len(manifest.examples)} of {len(manifest.examples)} hold"
        if not manifest.examples:
            notes["golden examples"] = "there are none: nothing shows that the predictions are right"
        schemas = [name for name in ("instance_schema", "prediction_schema") if not getattr(manifest, name)]
        if schemas:
            notes["schema"] = f"no {' and no '.join(schemas)}: anything is accepted"
    rows, reached = [], True
    for name, reasons in CHECKS.items():
        if failure is not None and failure.reason in reasons:
            rows.append([name, "FAILED", failure.message])
            reached = False
        else:
            rows.append([name, "ok", notes.get(name, "")] if reached else [name, "not reached", ""])
    if failure is not None and reached:
        rows.append([failure.reason, "FAILED", failure.message])
    return rows
