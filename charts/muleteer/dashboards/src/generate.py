"""Write the dashboards' JSON beside this folder, or find out whether it has drifted from its source.

``python charts/muleteer/dashboards/src/generate.py`` writes; with ``--check`` it writes nothing and ends with exit code
1 if a file is not what the source says.
"""  # noqa: INP001 - a script; the package is beside it

import sys
from pathlib import Path

from muleteer_dashboards import model, overview
from muleteer_dashboards.document import render

FOLDER = Path(__file__).resolve().parents[1]
DASHBOARDS = {"muleteer-overview.json": overview.dashboard, "muleteer-model.json": model.dashboard}


def documents() -> dict[str, str]:
    """Return the text of every dashboard file, by its name."""
    return {name: render(make()) for name, make in DASHBOARDS.items()}


def drifted(folder: Path = FOLDER) -> list[str]:
    """Return the names of the files that are not what the source says."""
    made = documents()
    return [name for name, text in made.items() if not (folder / name).exists() or (folder / name).read_text() != text]


def main(arguments: list[str]) -> int:
    """Write the files, or check them with ``--check``. Returns the exit code."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: generate.py [--check]\n")
        return 2
    if arguments:
        names = drifted()
        for name in names:
            sys.stderr.write(f"{name} is not what its source says: run `make dashboards`.\n")
        return 1 if names else 0
    for name, text in documents().items():
        (FOLDER / name).write_text(text)
        sys.stdout.write(f"{FOLDER.name}/{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
