"""Real images by buildah, which needs no Docker: root, and a base made by debootstrap when no registry is at hand."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".muleteer" / "images"
NEEDED = {"buildah": "buildah", "debootstrap": "debootstrap", "unshare": "util-linux", "setpriv": "util-linux"}
"""Programs, and the Debian packages that have them."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SUITE = "bookworm"
BASE = f"localhost/muleteer/python-base:{SUITE}"
BASE_VARIABLE = "MULETEER_TEST_PYTHON_IMAGE"
"""Names another base, of a registry: then nothing is made by debootstrap."""
LARGEST_STORE = 6_000
"""MB of layers above which all are made anew: buildah cannot tell old layers from those that it will use again."""
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
"""Where a build finds the machine's CA certificates."""
PASSED_ON = ("index-url", "extra-index-url", "trusted-host", "proxy", "retries", "default-timeout", "timeout")
"""pip's settings of this machine that hold in a build too: those that name no file."""


def why_not() -> str:
    """Return what is missing to build and run images here, empty when nothing is."""
    if os.geteuid() != 0:
        return "images are built and run as root only (sudo -E make test TESTS=tests/images)"
    missing = sorted({package for program, package in NEEDED.items() if shutil.which(program) is None})
    if missing:
        return f"programs are missing: apt-get install {' '.join(missing)}"
    refused = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    if refused.returncode:
        return f"this root may not make namespaces ({refused.stderr.decode().strip()}): run in a privileged container"
    return ""


class ImageStore:
    """Images, their layers and containers in a folder of their own."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self._temporary = folder / "tmp"  # buildah keeps the caches of RUN --mount=type=cache here
        self._temporary.mkdir(parents=True, exist_ok=True)
        # overlay shares what layers have in common. vfs, which copies all of a file system for every layer, works
        # everywhere, also where root is inside a container.
        self.driver = os.environ.get("STORAGE_DRIVER", "overlay")
        if self.driver == "overlay" and self._run("images").returncode:
            self.driver = "vfs"

    def buildah(self, *words: str | Path) -> str:
        """Run buildah and return what it printed; fail with its last lines."""
        result = self._run(*words)
        assert result.returncode == 0, f"buildah {words[0]} failed:\n{(result.stdout + result.stderr)[-6000:]}"
        return result.stdout.strip()

    def build(self, service: str, *, tag: str = "test", target: str = "", **arguments: str) -> str:
        """Build a service's image with build arguments and return its name."""
        name = f"localhost/muleteer/{service}:{tag}"
        layers = self.driver != "vfs"
        with network() as options:
            self.buildah(
                *("build", "--quiet", f"--layers={layers}".lower(), "--tag", name),
                *(("--target", target) if target else ()),
                *(f"--build-arg={key}={value}" for key, value in {"PYTHON_IMAGE": self.base(), **arguments}.items()),
                *options,
                *("--file", ROOT / "services" / service / "Dockerfile", ROOT),
            )
        return name

    def base(self) -> str:
        """Return the name of the base image, made by debootstrap if it is not there."""
        if given := os.environ.get(BASE_VARIABLE):
            return given
        if self._run("inspect", "--type", "image", BASE).returncode == 0:
            return BASE
        with tempfile.TemporaryDirectory(prefix="base-", dir=self.folder) as folder:
            include = "--include=python3,python3-venv,ca-certificates"
            # In a mount namespace, so that what debootstrap mounts is gone with it whatever it ends with.
            command = ["unshare", "--mount", "debootstrap", "--variant=minbase", include, SUITE, folder]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            assert result.returncode == 0, f"debootstrap failed:\n{(result.stdout + result.stderr)[-3000:]}"
            for leftovers in ("var/cache/apt", "var/lib/apt/lists"):
                shutil.rmtree(Path(folder) / leftovers)
            container = self.buildah("from", "scratch")
            self.buildah("add", "--quiet", container, folder, "/")
            self.buildah(
                "config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container
            )
            self.buildah("commit", "--quiet", "--rm", container, BASE)
        return BASE

    def config(self, image: str) -> dict[str, Any]:
        """Return an image's configuration as the OCI specification has it."""
        inspected: dict[str, Any] = json.loads(self.buildah("inspect", "--type", "image", image))["OCIv1"]["config"]
        return inspected

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """Yield the root file system of a new container of ``image``, and remove the container."""
        container = self.buildah("from", "--pull-never", image)
        try:
            yield Path(self.buildah("mount", container))
        finally:
            self.buildah("rm", container)

    @contextmanager
    def used_alone(self) -> Iterator[None]:
        """Keep other test runs out, and clear away what one that was killed has left and what has piled up."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.buildah("rm", "--all")
            for left in self.folder.glob("base-*"):
                shutil.rmtree(left)
            used = subprocess.run(["du", "-smx", self._store], capture_output=True, text=True, check=True)
            if int(used.stdout.split()[0]) > LARGEST_STORE:
                self.buildah("rmi", "--all", "--force")
            yield

    @property
    def _store(self) -> Path:
        return self.folder / self.driver

    def _run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        # chroot isolation: a build gets neither namespaces nor a network of its own, which few machines would allow.
        settings = {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(self._temporary)}
        place: list[str | Path] = [
            "--storage-driver",
            self.driver,
            "--root",
            self._store,
            "--runroot",
            self.folder / "run",
        ]
        command = ["buildah", *place, *words]
        return subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)


@contextmanager
def network() -> Iterator[list[str]]:
    """Yield the build options by which pip and uv reach their index as they do on this machine.

    They come from the machine's own settings: CA certificates are mounted, pip's settings become a file that is
    mounted. (Proxies buildah takes from the environment by itself.) Neither gets into an image.
    """
    settings = pip_settings()
    options = []
    bundle = Path(os.environ.get("SSL_CERT_FILE") or settings.get("cert") or BUNDLE)
    if bundle.is_file():
        options += ["--volume", f"{bundle.resolve()}:{BUNDLE}:ro", f"--build-arg=SSL_CERT_FILE={BUNDLE}"]
    if index := settings.get("index-url"):
        options += [f"--build-arg=PIP_INDEX_URL={index}", f"--build-arg=UV_DEFAULT_INDEX={index}"]
    with tempfile.NamedTemporaryFile("w", prefix="pip-", suffix=".conf") as file:
        file.write("\n".join(["[global]", *(f"{name} = {settings[name]}" for name in PASSED_ON if name in settings)]))
        file.flush()
        yield [*options, "--volume", f"{file.name}:/etc/pip.conf:ro"]


def pip_settings() -> dict[str, str]:
    """Return pip's settings on this machine, from its files and its environment."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^(?:global|:env:|install)\.([a-z-]+)='(.*)'$", listed, re.MULTILINE))


def size_of(folder: Path) -> int:
    """Return the bytes of all files of a root file system, each counted once."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            state = (Path(parent) / name).lstat()
            found[state.st_dev, state.st_ino] = state.st_size
    return sum(found.values())
