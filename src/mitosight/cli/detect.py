"""`mitosight detect`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mitosight.cohort import Row


def detect(
    slides: list[Path] = typer.Argument(..., help="Slides, or folders of them."),
    model: Path = typer.Option(..., help="Model folder or file that `mitosight train` wrote."),
    out: Path = typer.Option(..., help="Folder of the results."),
    mpp: float = typer.Option(None, help="µm per px of all slides; goes over what the files say."),
    domains: Path = typer.Option(None, help="Table with file_name and mpp, for slides that do not say theirs."),
    threshold: float = typer.Option(None, help="Score from which a point is a mitotic figure; default the model's."),
    tile_px: int = typer.Option(None, min=128, help="Side of the tiles; default the model's."),
    batch: int = typer.Option(4, min=1, help="Tiles at a time."),
    bf16: bool = typer.Option(
        False, "--bf16", help="Half precision: faster on newer processors, scores differ a little."
    ),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
) -> None:
    """Find the mitotic figures of slides. Research use only."""
    from mitosight import checkpoint, cohort, modelfile, regions
    from mitosight.device import choose
    from mitosight.slide import find_slides

    found = find_slides(slides)
    table = regions.read_mpp(domains) if domains is not None else None
    settings = cohort.Settings(mpp, table, threshold, tile_px, batch, bf16)
    file = modelfile.locate(model)
    detector = checkpoint.load(file).to(choose(device))
    tell(found, cohort.detect_slides(found, file, detector, out, settings, Bar(len(found))), out)


def tell(slides: list[Path], rows: list[Row], out: Path) -> None:
    """Prints a line for each slide; exit status 1 where one failed."""
    for path, row in zip(slides, rows, strict=True):
        if row.status == "ok":
            more = f"; {row.message}" if row.message else ""
            typer.echo(f"{path.name}: {row.figures} mitotic figures in {row.area_mm2} mm²{more}")
        else:
            typer.echo(row.message, err=True)
    failed = sum(row.status != "ok" for row in rows)
    if failed:
        typer.echo(f"mitosight: {failed} of {len(rows)} slides failed; see {out / 'summary.csv'}", err=True)
        raise typer.Exit(1)


class Bar:
    """A progress bar of tiles for each slide, on a terminal only."""

    def __init__(self, slides: int) -> None:
        self.slides, self.number = slides, 0

    def __call__(self, path: Path):  # type: ignore[no-untyped-def]
        self.number += 1
        label = f"[{self.number}/{self.slides}] {path.name}"

        def show(done: int, total: int) -> None:
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{label}: {done}/{total} tiles" + ("\n" if done == total else ""))
                sys.stderr.flush()

        return show
