"""How much memory a version takes, as its process sees it."""

import subprocess
import sys
from pathlib import Path

import pytest

from muleteer_worker.memory import Measure, anonymous_bytes
from muleteer_worker.readiness import prepare
from muleteer_worker.settings import WorkerSettings
from support.models import write_version

MB = 1024 * 1024

HEAVY = """
    class Model:
        def load(self, context):
            self.weights = bytearray(b"w") * 20_000_000

        def predict(self, instances):
            return instances
"""

# In a process of its own: the settings of its memory stay for the rest of its life.
THREADS = """
import sys, threading
from muleteer_worker.memory import anonymous_bytes, give_back, settle

settle()

def load():
    for size in (20_000_000, 19_000_000):  # glibc keeps what is smaller than something that was freed before
        weights = b"w" * size
        del weights
    give_back()

before = anonymous_bytes()
thread = threading.Thread(target=load)
thread.start()
thread.join()
sys.exit(anonymous_bytes() - before > 4_000_000)
"""

linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells")


@linux
def test_a_load_is_measured_by_what_stays(tmp_path: Path) -> None:
    write_version(tmp_path, "heavy", code=HEAVY)
    uri = str(tmp_path / "heavy" / "1")
    sizes = []
    for _ in range(2):  # the first one may import something
        loaded = prepare("heavy", "1", uri, tmp_path / "cache", frozenset(), tidy=True)
        assert loaded.growth is not None
        sizes.append(loaded.growth.bytes)
        loaded.unload()
    assert loaded.growth.exact
    assert 19 * MB <= sizes[-1] <= 24 * MB


@linux
def test_what_is_mapped_from_a_file_does_not_count(tmp_path: Path) -> None:
    import mmap

    path = tmp_path / "weights"
    path.write_bytes(bytes(20 * MB))
    measure = Measure(tidy=True)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as weights:
        assert sum(weights[::4096]) == 0  # every page is touched
        growth = measure.growth()
    assert growth is not None
    assert growth.bytes < 4 * MB


@linux
def test_memory_that_a_thread_has_freed_goes_back_to_the_system() -> None:
    assert anonymous_bytes() is not None
    assert subprocess.run([sys.executable, "-c", THREADS], check=False).returncode == 0


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("123", 123), ("2k", 2000), ("2Ki", 2048), ("500Mi", 500 * MB), ("1.5Gi", 1536 * MB), (" 1T ", 10**12)],
)
def test_a_budget_is_given_in_bytes_or_as_a_quantity(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULETEER_MAX_RESIDENT_BYTES", text)
    assert WorkerSettings().max_resident_bytes == size


@pytest.mark.parametrize("text", ["", "-1", "2GB", "1e9", "Gi", "2 Gi", "500m"])
def test_a_budget_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULETEER_MAX_RESIDENT_BYTES", text)
    with pytest.raises(ValueError, match="max_resident_bytes"):
        WorkerSettings()
