"""`mitosight models`."""

from __future__ import annotations

import typer


def models(name: str = typer.Argument(None, help="Show the card of this model.")) -> None:
    """List the trained models that come with the package; `--model` takes their names. Research use only."""
    from mitosight import modelfile
    from mitosight.errors import UsageError
    from mitosight.outputs import sha256

    found = modelfile.shipped()
    if name is None:
        for known, file in found.items():
            header = modelfile.read_header(file)
            size = f"{file.stat().st_size / 1e6:.1f} MB"
            scanners = ", ".join(header["scanners"])
            typer.echo(f"{known}: {header['method']}, {size}, trained on {scanners}; sha256 {sha256(file)}")
        return
    if name not in found:
        raise UsageError(None, f"no model {name!r} comes with mitosight", f"there are {', '.join(found) or 'none'}")
    typer.echo((found[name].parent / modelfile.CARD).read_text(encoding="utf-8").rstrip())
