"""`mitosight convert`: annotations from one format into another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mitosight.regions import Region

_FORMATS = "midog, midog++, sqlite, tupac, mitos14 or csv"


def convert(
    source: Path = typer.Argument(..., metavar="IN", help="Annotation file, folder of CSVs, or data folder."),
    target: Path = typer.Argument(..., metavar="OUT", help="File, or folder for tupac and mitos14."),
    from_format: str | None = typer.Option(
        None, "--from", metavar="FORMAT", help=f"{_FORMATS}; else told by the content."
    ),
    to_format: str | None = typer.Option(None, "--to", metavar="FORMAT", help=f"{_FORMATS}; else told by the suffix."),
    domains: Path | None = typer.Option(None, help="domains.csv or the table of MIDOG++, for the tumour types."),
    drop_hard_negatives: bool = typer.Option(False, "--drop-hard-negatives", help="Leave hard negatives out."),
) -> None:
    """Convert annotations between MIDOG, MIDOG++, SlideRunner SQLite, TUPAC16, MITOS-ATYPIA-14 and plain CSV."""
    from mitosight.errors import UsageError
    from mitosight.regions import formats, with_domains

    if (source / "annotations.json").is_file():
        domains = domains or next((f for f in [source / "domains.csv"] if f.is_file()), None)
        source = source / "annotations.json"
    if target.exists() and source.exists() and target.samefile(source):
        raise UsageError(target, "is the input", "name another output")
    if source.exists() and from_format is None:
        from_format = formats.detect(source)
    regions = formats.read(source, from_format)
    typer.echo(f"read  {source} ({from_format}): {_counts(regions)}")
    if domains:
        regions = with_domains(regions, domains)
    to_format = to_format or formats.meant(target, regions)
    if drop_hard_negatives:
        regions = [formats.without_hard_negatives(region) for region in regions]
    formats.write(regions, target, to_format)
    typer.echo(f"wrote {target} ({to_format}): {_counts(regions)}")
    lost = formats.losses(regions, to_format)
    if lost:
        typer.echo(f"not held by {to_format}: {', '.join(lost)}")


def _counts(regions: Sequence[Region]) -> str:
    from mitosight.regions.summary import summarise

    found = summarise(regions)
    return f"{found.regions} images, {found.figures} mitotic figures, {found.hard_negatives} hard negatives"
