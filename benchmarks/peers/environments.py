"""Virtual environments below ``.muleteer/peers``: one for each peer, made by uv from its pinned requirements."""

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from benchmarks.cases import ROOT, STATE

PEERS = STATE / "peers"
REQUIREMENTS = Path(__file__).with_name("requirements")
UV = STATE / "tools" / "bin" / "uv"
INSTALL_SECONDS = 900
SOURCES = tuple(ROOT / path for path in ("benchmarks", "libs/muleteer/src", "services"))


class PeerUnavailableError(Exception):
    """A system cannot be measured here; the message is the reason, for its row."""


def ensure_environment(name: str) -> Path:
    """Return the folder of an environment's programs, making it first where it is not there or not up to date.

    ``name`` is empty for the project's own. Raises PeerUnavailableError when it cannot be made.
    """
    if not name:
        _compile_own()
        return Path(sys.executable).parent
    requirements, folder = REQUIREMENTS / f"{name}.txt", PEERS / name
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    stamp = folder / ".installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        _make(name, requirements, folder)
        stamp.write_text(wanted)
    return folder / "bin"


@functools.cache
def _compile_own() -> None:
    """Compile the project's own environment, as those of the peers are: else each start of ours would do it again."""
    command = [sys.executable, "-m", "compileall", "-q", sysconfig.get_path("purelib"), *map(str, SOURCES)]
    # Some libraries ship files of other Python versions, which make it fail; all others are compiled all the same.
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _make(name: str, requirements: Path, folder: Path) -> None:
    count = requirements.read_text().count("==")
    print(f"making the environment of {name} in {folder}: about {count} libraries", flush=True)
    began = time.monotonic()
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    uv = str(UV) if UV.exists() else shutil.which("uv")
    if uv is None:
        raise PeerUnavailableError("uv is not there to install it: make sync")
    _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
    python = str(folder / "bin" / "python")
    # Compiled once, not at every start where Python may not write bytecode.
    install = [
        uv,
        "pip",
        "install",
        "--compile-bytecode",
        *quiet,
        "--python",
        python,
        "--require-hashes",
        "-r",
        str(requirements),
    ]
    try:
        _run(install)
    except PeerUnavailableError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    print(f"  made in {time.monotonic() - began:.0f} s", flush=True)


def _run(command: list[str]) -> None:
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    # Without a terminal uv's words are kept for the reason; with one they are the progress that is shown.
    output = None if sys.stderr.isatty() else subprocess.PIPE
    try:
        ended = subprocess.run(command, env=environment, stderr=output, text=True, check=False, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise PeerUnavailableError(f"cannot be installed: not done within {INSTALL_SECONDS} s") from None
    if ended.returncode != 0:
        lines = [line.strip() for line in (ended.stderr or "").splitlines() if line.strip()]
        raise PeerUnavailableError(f"cannot be installed: {lines[-1] if lines else 'see above'}")
