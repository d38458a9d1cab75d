"""Write fancy 1: there is nothing to learn, so this only packs the class with its schemas and golden examples."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training import copy_code, finish, run, version_folder

HERE = Path(__file__).resolve().parent
TEXTS = ["a mule and a queue", "", "Ünïcode: 驢子 🫏", 'quotes " and \\ and\nnewlines']

INSTANCE_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"text": {"type": "string", "description": "What to be told something smart about"}},
    "required": ["text"],
}
PREDICTION_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"res": {"type": "string", "description": "Nothing smart"}},
    "required": ["res"],
    "additionalProperties": False,
}


def train(output: Path, data: Path | None) -> None:
    """Write ``<output>/fancy/1``."""
    with version_folder(output, "fancy", "1") as folder:
        copy_code(folder, HERE / "model.py")
        values = {
            "name": "fancy",
            "version": "1",
            "description": "A class with predict: 50 ms to load, 5 ms a call, and nothing smart to say",
            "framework": "python",
            "artifact": "model.py",
            "entrypoint": "model.py:FancyModel",
            "instance_schema": INSTANCE_SCHEMA,
            "prediction_schema": PREDICTION_SCHEMA,
        }
        # Written out rather than asked of the class, so that the class is held to the tutorial's words.
        examples = [
            {"instance": {"text": text}, "prediction": {"res": f"Can't tell anything smart about: {text}"}}
            for text in TEXTS
        ]
        finish(folder, values, examples, data)


if __name__ == "__main__":
    run("Pack the fancy model.", train, "not read: this model learns nothing")
