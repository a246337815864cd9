"""`mitosight models`."""

from __future__ import annotations

from pathlib import Path

import typer


def models(name: str = typer.Argument(None, help="Show the card of this model.")) -> None:
    """List the trained models that come with the package; `--model` takes their names. Research use only.

    The first look of a model is what `--fast` takes; it has a line of its own.
    """
    from mitosight import modelfile
    from mitosight.errors import UsageError

    found = modelfile.shipped()
    if name is None:
        for known, file in found.items():
            typer.echo(f"{known}: {_told(file)}")
            first = file.parent / modelfile.FIRST / modelfile.FILE
            if first.is_file():
                typer.echo(f"{known}, first look: {_told(first)}")
        return
    if name not in found:
        raise UsageError(None, f"no model {name!r} comes with mitosight", f"there are {', '.join(found) or 'none'}")
    typer.echo((found[name].parent / modelfile.CARD).read_text(encoding="utf-8").rstrip())


def _told(file: Path) -> str:
    from mitosight import modelfile
    from mitosight.outputs import sha256

    header = modelfile.read_header(file)
    size, scanners = f"{file.stat().st_size / 1e6:.1f} MB", ", ".join(header["scanners"])
    return f"{header['method']}, {size}, trained on {scanners}; sha256 {sha256(file)}"
