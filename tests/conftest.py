"""Fixtures that every kind of test may use."""

import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """Make Hypothesis try the same examples in every run, however slow the machine is."""
    hypothesis.settings.register_profile("muleteer", deadline=None, derandomize=True)
    hypothesis.settings.load_profile("muleteer")


@pytest.fixture(scope="session")
def trained_models() -> Path:
    """The model repository with all four examples: trained once, and again only when their sources have changed."""
    repository = ROOT / ".muleteer" / "models"
    command = [sys.executable, str(ROOT / "examples" / "train_all.py"), "--output", str(repository)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return repository
