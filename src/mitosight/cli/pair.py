"""`mitosight pair`."""

from __future__ import annotations

from pathlib import Path

import typer


def pair(
    model: Path = typer.Argument(..., help="Model folder or file that `mitosight train` wrote."),
    coarse: Path = typer.Argument(..., help="A model of coarser µm per px, which is to look first."),
    data: list[Path] = typer.Option(
        ..., help="Data folder whose part `val` sets the threshold of the first look; may be repeated."
    ),
    annotations: Path = typer.Option(None, help="Its annotation file, where not DATA/annotations.json."),
    domains: Path = typer.Option(None, help="Its domain table, where not DATA/domains.csv."),
    split: Path = typer.Option(None, help="Its split, where not DATA/split.json."),
    images: Path = typer.Option(None, help="Its folder of images, where not DATA/images."),
    recall: float = typer.Option(0.95, help="Share of the figures that the first look has to see."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
) -> None:
    """Give a model a first look: a coarser model says where `mitosight detect --fast` looks with the model itself."""
    from mitosight import pairing, regions
    from mitosight.device import choose

    folder = regions.together(data, annotations=annotations, domains=domains, split=split, images=images)
    file, facts = pairing.pair(model, coarse, folder, recall, choose(device))
    typer.echo(
        f"{file}: sees {facts.recall:.3f} of {facts.figures} figures in {facts.regions} regions, "
        f"{facts.per_mm2:.0f} places per mm² to look at again"
    )
