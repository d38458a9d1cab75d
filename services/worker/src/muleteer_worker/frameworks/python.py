"""Any Python class with ``predict``: ``entrypoint: file.py:Class``."""

import itertools
import sys
from dataclasses import dataclass
from functools import partial
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from muleteer.errors import ModelLoadError
from muleteer.repository.checksums import files_below, member_path
from muleteer.repository.manifest import MANIFEST, Manifest
from muleteer_worker.frameworks.inputs import make_encoder
from muleteer_worker.frameworks.outputs import make_decoder

PACKAGE_PREFIX = "muleteer_model_"
"""How the names of the packages begin that hold versions' own modules."""

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Context:
    """What a model's ``load(self, context)`` is told: its version folder and its manifest."""

    folder: Path
    manifest: Manifest


class _CheckedLoader(SourceFileLoader):
    """Runs a version's source files, and only those that its manifest gives a checksum.

    Bytecode is neither read nor written: the version folder may be read-only, and a stale cache would run other code
    than the one that was checked.
    """

    def __init__(self, checked: frozenset[Path], name: str, path: str) -> None:
        super().__init__(name, path)
        self._checked = checked

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the import system's signature
        path = Path(self.path)
        if self._checked.isdisjoint([path, *path.parents]):
            raise ImportError(f"{path.name} has no checksum: add it to `files` in {MANIFEST}")
        return self.source_to_code(self.get_data(self.path), self.path)


class PythonAdapter:
    """A class from the version folder.

    It is made without arguments; ``load(self, context)`` and ``unload(self)`` are optional;
    ``predict(self, instances)`` returns a sequence with one prediction for each instance. Its file can import others of
    the same folder by relative imports (``from .features import words``), and two versions never see each other's
    modules.
    """

    def __init__(self, folder: Path, manifest: Manifest, allow_unsafe: frozenset[str]) -> None:  # noqa: ARG002 - one signature for all adapters; a class is code by its nature
        self._folder = folder
        self._manifest = manifest
        self._package = f"{PACKAGE_PREFIX}{next(_numbers)}"
        self._folders: list[str] = []
        self._model: Any = None

    def load(self) -> None:
        """Import the file, make the class and load it. Raises ModelLoadError, or whatever the model's code raises."""
        manifest = self._manifest
        model_class = self._find_class()
        self._model = model_class()
        if not callable(getattr(self._model, "predict", None)):
            raise ModelLoadError(f"{manifest.entrypoint}: the class has no method predict", reason="load")
        if hasattr(self._model, "load"):
            self._model.load(Context(self._folder, manifest))
        self._encode = make_encoder(manifest.input)
        self._decode = make_decoder(manifest.output, manifest.version)
        self._call = self._model.predict

    def predict(self, instances: list[Any]) -> list[Any]:
        """Return one prediction for each instance."""
        return self._decode(self._call(self._encode(instances)))

    def unload(self) -> None:
        """Tell the model, and let its modules and memory go."""
        model, self._model, self._call = self._model, None, None
        try:
            if hasattr(model, "unload"):
                model.unload()
        finally:
            self._forget_modules()

    def _forget_modules(self) -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == self._package]:
            del sys.modules[name]
        for folder in self._folders:
            sys.path_importer_cache.pop(folder, None)

    def _find_class(self) -> Any:
        file, _, name = (self._manifest.entrypoint or "").partition(":")
        if not file.endswith(".py") or not name.isidentifier():
            raise ModelLoadError(
                f"{self._folder / MANIFEST}: framework python needs `entrypoint: file.py:Class`", reason="manifest"
            )
        module = self._import(member_path(self._folder, file))
        if not isinstance(getattr(module, name, None), type):
            raise ModelLoadError(f"{file} has no class {name}", reason="load")
        return getattr(module, name)

    def _import(self, path: Path) -> ModuleType:
        """Import the entrypoint's file as a module of a package of its own."""
        loader = partial(_CheckedLoader, self._checked_paths())
        package = ModuleSpec(self._package, None, is_package=True)
        package.submodule_search_locations = [str(path.parent)]
        sys.modules[self._package] = module_from_spec(package)
        # The import system asks these finders for modules of those folders, so that their files are checked as well.
        sources = (file.parent for file in files_below(path.parent) if file.suffix == ".py")
        for folder in map(str, dict.fromkeys(sources)):
            self._folders.append(folder)
            sys.path_importer_cache[folder] = FileFinder(folder, (loader, [".py"]))  # type: ignore[arg-type]  # - called with name and path
        name = f"{self._package}.{path.stem}"
        source = loader(name, str(path))
        module = module_from_spec(ModuleSpec(name, source, origin=str(path)))
        module.__file__ = str(path)
        sys.modules[name] = module
        source.exec_module(module)
        return module

    def _checked_paths(self) -> frozenset[Path]:
        names = [self._manifest.artifact, *self._manifest.files]
        return frozenset(member_path(self._folder, name) for name in names)
