"""`mitosight styles`: what a style transfer does to the tiles of a data folder."""

from __future__ import annotations

from pathlib import Path

import typer


def styles(
    model: Path = typer.Argument(..., help="Style transfer, or the model or folder of a detector trained with one."),
    data: Path = typer.Option(..., help="Data folder with the parts `train` and --part."),
    out: Path = typer.Option(..., help="Folder of styles.png and styles.json."),
    part: str = typer.Option("val", help="Part of the split that is painted."),
    detector: Path = typer.Option(None, help="Detector whose scores at figures are compared before and after."),
    tiles: int = typer.Option(32, min=1, help="Tiles of each scanner that are measured, half of them around figures."),
    tile_px: int = typer.Option(256, min=64, help="Side of the tiles, as the detector is trained on."),
    rows: int = typer.Option(6, min=1, help="Tiles on the sheet."),
    mixtures: int = typer.Option(3, min=0, help="Random mixtures on the sheet."),
    classifier_steps: int = typer.Option(300, min=1, help="Training steps of the scanner classifier."),
    seed: int = typer.Option(0, min=0, help="Of tiles, mixtures and classifier."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
) -> None:
    """Show and measure a style transfer: a sheet of tiles in each style, scanners read by a classifier, structure kept.

    The classifier is trained on the part "train", apart from the transfer.
    """
    from mitosight import checkpoint, regions
    from mitosight.device import choose
    from mitosight.methods.parts.style import StyleTransfer
    from mitosight.styles import Settings, find, study, told

    where = choose(device)
    settings = Settings(part, tile_px, tiles, rows, mixtures, classifier_steps, seed)
    transfer = StyleTransfer.load(find(model))
    judge = checkpoint.load(detector).to(where) if detector is not None else None
    typer.echo(told(study(transfer, regions.load(data), out, settings, judge, where)))
    typer.echo(out / "styles.png")
