"""`mitosight train`."""

from __future__ import annotations

import os
from pathlib import Path

import typer


def train(
    recipe: str = typer.Argument(..., help="Name of a built-in recipe (see `mitosight methods`) or a TOML file."),
    data: list[Path] = typer.Option(
        ..., help="Data folder: images/, annotations.json, domains.csv, split.json; may be repeated."
    ),
    out: Path = typer.Option(..., help="Folder of the model; a training that was stopped goes on there."),
    settings: list[str] = typer.Option([], "--set", help="key=value over the recipe; may be repeated."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
    annotations: Path = typer.Option(None, help="Annotation file, where it is not DATA/annotations.json."),
    domains: Path = typer.Option(None, help="Domain table, where it is not DATA/domains.csv."),
    split: Path = typer.Option(None, help="Split, where it is not DATA/split.json."),
    images: Path = typer.Option(None, help="Folder of the images, where it is not DATA/images."),
) -> None:
    """Train a detector from annotated regions."""
    from mitosight import recipe as recipes
    from mitosight import regions
    from mitosight.device import choose

    chosen = recipes.load(recipe, settings)
    where = choose(device)
    folder = regions.together(data, annotations=annotations, domains=domains, split=split, images=images)
    from mitosight.training import train as run

    model = run(chosen, folder, out, where)
    if os.environ.get("RANK", "0") == "0":  # one of several processes speaks
        typer.echo(model)
