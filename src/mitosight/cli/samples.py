"""`mitosight samples`: what a training on candidates learned from, and what its model sees in them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer


class Part(StrEnum):
    """A part of the split that a training knows."""

    train = "train"
    val = "val"


def samples(
    model: Path = typer.Argument(..., help="Model of wang2023, or the folder of its training."),
    data: Path = typer.Option(..., help="Data folder that it was trained on."),
    out: Path = typer.Option(..., help="Folder of the sheets and of samples.json."),
    without: Path = typer.Option(None, help="Model trained without child classes (incdp=false), to compare with."),
    part: Part = typer.Option(Part.val, help="Part whose patches are stained, searched and plotted."),
    examples: int = typer.Option(8, min=1, help="Patches of each cluster."),
    rows: int = typer.Option(6, min=1, help="Rows of the other sheets."),
    patches: int = typer.Option(500, min=2, help="Figures in the plot, and as many others, at most."),
    seed: int = typer.Option(0, min=0, help="Of what is drawn."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
    annotations: Path = typer.Option(None, help="Annotation file, where it is not DATA/annotations.json."),
    domains: Path = typer.Option(None, help="Domain table, where it is not DATA/domains.csv."),
    split: Path = typer.Option(None, help="Split, where it is not DATA/split.json."),
    images: Path = typer.Option(None, help="Folder of the images, where it is not DATA/images."),
) -> None:
    """Show what a training learned from: clusters of negatives, new stains, activation maps, a plot of the features."""
    from mitosight import regions
    from mitosight.device import choose
    from mitosight.samples import Settings, study, told

    where = choose(device)
    folder = regions.load(data, annotations=annotations, domains=domains, split=split, images=images)
    settings = Settings(part.value, examples, rows, patches, seed)
    typer.echo(told(study(model, folder, out, settings, without, where)))
    typer.echo(out)
