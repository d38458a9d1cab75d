"""Each service installs and imports without the other, and without what only the other needs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOREIGN = {
    "muleteer-gateway": ("muleteer_gateway", ["muleteer_worker", "numpy", "sklearn", "onnxruntime"]),
    "muleteer-worker": ("muleteer_worker", ["muleteer_gateway", "fastapi", "starlette", "uvicorn"]),
}
PROBE = """
import importlib, importlib.util, pkgutil, sys
package, foreign = sys.argv[1], sys.argv[2:]
found = importlib.import_module(package)
for module in pkgutil.walk_packages(found.__path__, package + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(" ".join(name for name in foreign if importlib.util.find_spec(name)))
"""


def uv() -> str:
    """Return the uv program: where make puts it, else the one that the variable UV names, else from PATH."""
    candidates = [str(ROOT / ".muleteer" / "tools" / "bin" / "uv"), os.environ.get("UV", "").split(" ")[-1], "uv"]
    for candidate in candidates:
        found = shutil.which(candidate) if candidate else None
        if found:
            return found
    pytest.skip("uv is not here: `make sync` puts it into .muleteer/tools, or name one in the variable UV")


@pytest.mark.parametrize("distribution", FOREIGN)
def test_a_service_imports_in_an_environment_without_the_other(distribution: str, tmp_path: Path) -> None:
    package, foreign = FOREIGN[distribution]
    environment = tmp_path / "environment"
    env = os.environ | {"UV_PROJECT_ENVIRONMENT": str(environment), "UV_PYTHON_DOWNLOADS": "never"}
    env.pop("VIRTUAL_ENV", None)
    env.pop("PYTHONPATH", None)
    command = [uv(), "sync", "--quiet", "--frozen", "--no-dev", "--package", distribution]
    subprocess.run(command, cwd=ROOT, env=env, check=True, timeout=150)
    probe = [str(environment / "bin" / "python"), "-W", "error", "-c", PROBE, package, *foreign]
    ended = subprocess.run(probe, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == ""
