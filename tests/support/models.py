"""Small models that the tests serve: they are written as version folders, like any user's."""

import hashlib
import textwrap
from pathlib import Path
from typing import Any

import yaml

TEXT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}

ECHO = """
    class Model:
        def predict(self, instances):
            return [{"echo": i["text"]} for i in instances]
"""

SLOW = """
    import time

    class Model:
        def predict(self, instances):
            time.sleep(max(float(i["text"]) for i in instances))
            return [{"slept": i["text"]} for i in instances]
"""

MOODY = """
    import os
    import time

    class Model:
        def predict(self, instances):
            texts = [i["text"] for i in instances]
            if any(t == "abort" for t in texts):
                os.abort()
            for t in texts:
                if t == "raise":
                    raise ValueError("this text is not to my taste")
            time.sleep(0.002)
            return [{"echo": t} for t in texts]
"""


def write_version(
    repository: Path,
    name: str,
    version: str = "1",
    code: str = ECHO,
    *,
    schema: dict[str, Any] | None = None,
    examples: list[dict[str, Any]] | None = None,
    **manifest: Any,
) -> Path:
    """Write one python-framework version folder and return it."""
    folder = repository / name / version
    folder.mkdir(parents=True, exist_ok=True)
    source = textwrap.dedent(code)
    (folder / "model.py").write_text(source)
    document = {
        "name": name,
        "version": version,
        "framework": "python",
        "artifact": "model.py",
        "entrypoint": "model.py:Model",
        "sha256": hashlib.sha256(source.encode()).hexdigest(),
        "instance_schema": TEXT_SCHEMA if schema is None else schema,
        "examples": examples or [],
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(document | manifest))
    return folder


def write_catalog(path: Path, models: dict[str, dict[str, Any]], repository: str = "models") -> Path:
    """Write a catalog file in one step, as an editor or a ConfigMap would."""
    new = path.with_suffix(".new")
    new.write_text(yaml.safe_dump({"repository": repository, "models": models}))
    new.replace(path)
    return path
