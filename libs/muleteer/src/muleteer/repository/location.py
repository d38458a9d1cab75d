"""Where version folders live: local folders and fsspec URLs behind one small interface."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec.core

from muleteer.errors import MuleteerError, RepositoryError

_EXTRAS = {"s3": "muleteer[s3]", "s3a": "muleteer[s3]"}


def local_folder(uri: str) -> Path | None:
    """Return the folder that a path or ``file://`` URL names, or None for a URL of another kind."""
    if uri.startswith("file://"):
        return Path(unquote(urlsplit(uri).path))
    return None if "://" in uri else Path(uri)


@contextmanager
def repository_errors(uri: str) -> Iterator[None]:
    """Turn whatever a storage library raises into a RepositoryError that names ``uri``, in one line."""
    try:
        yield
    except MuleteerError:
        raise
    except FileNotFoundError as error:
        raise RepositoryError(f"{uri} does not exist, or not all of it does: {_line(error)}") from error
    except ImportError as error:
        package = _EXTRAS.get(uri.partition("://")[0], "the fsspec package for it")
        raise RepositoryError(f"{uri} cannot be reached: install {package} ({_line(error)})") from error
    except Exception as error:
        # Each storage library has errors of its own (botocore's, aiohttp's …) without a common base.
        raise RepositoryError(f"{uri} cannot be reached: {type(error).__name__}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


@dataclass(frozen=True, slots=True)
class Location:
    """A folder at an fsspec URL."""

    filesystem: Any
    root: str

    @classmethod
    def open(cls, uri: str) -> "Location":
        """Return the place at ``uri``. Raises RepositoryError when its protocol is not known or not installed."""
        with repository_errors(uri):
            filesystem, root = fsspec.core.url_to_fs(uri)
            # Other processes write there too; a listing remembered from before would hide what they wrote.
            filesystem.invalidate_cache()
            return cls(filesystem, root.rstrip("/"))

    def path(self, name: str) -> str:
        """Return the full path of a member."""
        return f"{self.root}/{name}"

    def read(self, name: str) -> bytes:
        """Return a file's bytes. Raises FileNotFoundError when it is not there."""
        content: bytes = self.filesystem.cat_file(self.path(name))
        return content

    def files(self, name: str) -> list[str]:
        """Return the files that make up ``name``: itself when it is a file, all below it when it is a folder."""
        if not self._is_folder(name):
            return [name]
        start = len(self.root.lstrip("/")) + 1
        found = [str(path).lstrip("/")[start:] for path in self.filesystem.find(self.path(name))]
        return [path for path in found if not path.endswith("/")]

    def _is_folder(self, name: str) -> bool:
        protocol = self.filesystem.protocol
        protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        # HTTP has no folders, and asking would download the whole file to look for links in it.
        return not protocols & {"http", "https"} and bool(self.filesystem.isdir(self.path(name)))

    def download(self, name: str, target: Path) -> None:
        """Copy a file to ``target``."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self.filesystem.get_file(self.path(name), str(target))

    def upload(self, source: Path, name: str) -> None:
        """Copy a local file to a member."""
        self.filesystem.put_file(str(source), self.path(name))
