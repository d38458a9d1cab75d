"""``muleteer push``: a version folder into a model repository."""

from pathlib import Path
from typing import Annotated

import typer

from muleteer.cli.output import say


def push(
    folder: Annotated[Path, typer.Argument(help="The version folder, with model.yaml and the artifact.")],
    repository: Annotated[str, typer.Argument(help="Folder or URL (s3://...) of the repository.")],
) -> None:
    """Copy a version folder into a repository, checked and complete, and print its URI there."""
    # fsspec takes a while to import, and only this command needs it
    from muleteer.repository.store import push_version  # noqa: PLC0415 - see above

    say(push_version(folder, repository))
