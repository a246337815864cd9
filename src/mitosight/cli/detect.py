"""`mitosight detect`."""

from __future__ import annotations

import sys
from pathlib import Path

import typer


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
    rows = cohort.detect_slides(found, file, detector, out, settings, _Bar(len(found)))
    for path, row in zip(found, rows, strict=True):
        told = f"{row.figures} mitotic figures in {row.area_mm2} mm²" if row.status == cohort.OK else row.message
        typer.echo(f"{path.name}: {told}" if row.status == cohort.OK else told, err=row.status != cohort.OK)
    failed = sum(row.status != cohort.OK for row in rows)
    if failed:
        typer.echo(f"mitosight: {failed} of {len(rows)} slides failed; see {out / 'summary.csv'}", err=True)
        raise typer.Exit(1)


class _Bar:
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
