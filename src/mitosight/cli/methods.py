"""`mitosight methods`."""

from __future__ import annotations

import typer


def methods(
    name: str = typer.Argument(None, help="Show the arguments of this method with their defaults."),
) -> None:
    """List the methods and the built-in recipes, or the arguments of one method."""
    from mitosight.methods import METHODS, arguments
    from mitosight.recipe import builtin

    if name is not None:
        for key, default in arguments(name).items():
            typer.echo(f"{key} = {default!r}")
        return
    for method, cls in METHODS.items():
        typer.echo(f"{method:12} {cls.title}")
    typer.echo("\nrecipes (mitosight train RECIPE --data DIR --out DIR):")
    for recipe, path in builtin().items():
        with open(path, encoding="utf-8") as stream:
            first = stream.readline().lstrip("# ").strip()
        typer.echo(f"{recipe:28} {first}")
