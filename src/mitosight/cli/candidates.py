"""`mitosight candidates`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mitosight.candidates import Found
    from mitosight.regions import Region


def candidates(
    slides: list[Path] = typer.Argument(..., help="Slides, or folders of them."),
    finder: str = typer.Option(..., help="haematoxylin or blue-ratio."),
    out: Path = typer.Option(..., help="Folder of the results."),
    settings: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="Setting of the finder, such as separation=sparse or formula=chang."
    ),
    mpp: float = typer.Option(None, help="µm per px of all slides; goes over what tables and files say."),
    domains: Path = typer.Option(None, help="Table with file_name and mpp, for slides that do not say theirs."),
    no_tissue: bool = typer.Option(False, "--no-tissue", help="Search the whole slide, glass too."),
    annotations: Path = typer.Option(
        None,
        "--annotations",
        "--data",
        help="Annotation file of any format, or a data folder: prints the share of its figures that have a candidate.",
    ),
) -> None:
    """Find places that may hold a mitotic figure, without training: by haematoxylin or by blue ratio.

    Writes NAME.csv for each slide. With annotations, a figure counts as reached when a candidate lies within 7.5 µm.
    """
    from mitosight.candidates import find_in_slides, finder_named, parsed
    from mitosight.errors import UsageError
    from mitosight.mpp import ACCEPTED_MPP, possible
    from mitosight.regions import read_mpp
    from mitosight.slide import find_slides

    if mpp is not None and not possible(mpp):
        raise UsageError(None, f"--mpp is {mpp:g}", ACCEPTED_MPP)
    made = finder_named(finder, parsed(settings))
    table = read_mpp(domains) if domains is not None else None
    regions = _annotated(annotations, domains) if annotations is not None else []
    done = []
    for found in find_in_slides(find_slides(slides), made, out, mpp, table, regions, no_tissue):
        typer.echo(_line(found), err=found.candidates is None)
        done.append(found)
    if annotations is not None:
        _tell(annotations, done)
    failed = sum(found.candidates is None for found in done)
    if failed:
        typer.echo(f"mitosight: {failed} of {len(done)} slides failed; see {out / 'run.json'}", err=True)
        raise typer.Exit(1)


def _line(found: Found) -> str:
    if found.candidates is None:
        return found.message
    return f"{found.path.name}: {len(found.candidates)} candidates, {found.per_mm2:.0f} per mm², {found.seconds:.2f} s"


def _tell(annotations: Path, done: list[Found]) -> None:
    from mitosight.candidates import sensitivity

    apart = sum(not found.scanner and found.candidates is not None for found in done)
    if apart:
        typer.echo(f"{apart} slides are not in {annotations}", err=True)
    for scanner, (reached, figures, per_mm2) in sensitivity(done).items():
        share = f"sensitivity {reached / figures:.3f} ({reached} of {figures})" if figures else "no figures"
        typer.echo(f"{scanner}: {share}, {per_mm2:.0f} candidates per mm²")


def _annotated(annotations: Path, domains: Path | None) -> list[Region]:
    """The regions of a data folder or of an annotation file."""
    from mitosight import regions

    if (annotations / "annotations.json").exists():
        return list(regions.load(annotations, domains=domains, need_images=False).regions)
    read = regions.read(annotations)
    return list(regions.with_domains(read, domains) if domains is not None else read)
