"""`mitosight detect`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from mitosight.modelfile import USUAL

if TYPE_CHECKING:
    from mitosight.cohort import Row


def detect(
    slides: list[Path] = typer.Argument(..., help="Slides, or folders of them."),
    model: Path = typer.Option(
        USUAL, help="What `mitosight train` or `mitosight export` wrote, or a name that `mitosight models` lists."
    ),
    out: Path = typer.Option(Path("found"), help="Folder of the results."),
    mpp: float = typer.Option(None, help="µm per px of all slides; goes over what the files say."),
    domains: Path = typer.Option(None, help="Table with file_name and mpp, for slides that do not say theirs."),
    threshold: float = typer.Option(None, help="Score from which a point is a mitotic figure; default the model's."),
    tissue: Path = typer.Option(None, help="GeoJSON, as QuPath writes it: only what it draws is searched."),
    no_tissue: bool = typer.Option(False, "--no-tissue", help="Search everywhere, on glass too."),
    preview: bool = typer.Option(False, "--preview", help="Also write OUT/NAME.png, the outline of the tissue."),
    tile_px: int = typer.Option(
        None, min=128, help="Side of the tiles; default the model's, or what fits the image better."
    ),
    batch: int = typer.Option(None, min=1, help="Tiles at a time for each worker; default 1, on a GPU 16."),
    redo: bool = typer.Option(False, "--redo", help="Search slides anew that OUT has results of."),
    runtime: str = typer.Option(
        None,
        help="torch, torch-bf16, onnx, openvino, openvino-bf16, openvino-int8, or auto, the fastest that agrees; "
        "default auto, with --scheduler torch.",
    ),
    fast: bool = typer.Option(False, "--fast", help="Look only where the model's first look found something."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
    scheduler: str = typer.Option(None, help="Worker processes: local, local:N, or a Dask scheduler's address."),
) -> None:
    """Find the mitotic figures of slides. Research use only.

    A run that was broken off goes on when it is started again.
    """
    from mitosight import cohort, regions
    from mitosight.cli.progress import Bars
    from mitosight.device import choose
    from mitosight.errors import UsageError
    from mitosight.runtime.choice import USUAL
    from mitosight.slide import find_slides

    if tissue is not None and no_tissue:
        raise UsageError(None, "--tissue and --no-tissue", "give one of them")

    found = find_slides(slides)
    table = regions.read_mpp(domains) if domains is not None else None
    where: Path | Literal["find", "all"] = tissue or ("all" if no_tissue else "find")
    settings = cohort.Settings(
        mpp=mpp,
        table_mpp=table,
        threshold=threshold,
        tile_px=tile_px,
        batch=batch,
        tissue=where,
        preview=preview,
        redo=redo,
        runtime=runtime or (USUAL if scheduler is None else "torch"),
        scheduler=scheduler,
        device=device,
    )
    on = choose(device if scheduler is None else "cpu")
    asked = settings
    file, detector, settings = cohort.opened(found, model, asked, on)
    if fast:
        settings = replace(settings, first=cohort.first_look(file, found, asked, on))
    with Bars(len(found)) as bars:
        rows = cohort.detect_slides(found, file, detector, out, settings, bars)
    tell(found, rows, out)


def tell(slides: list[Path], rows: list[Row], out: Path) -> None:
    """Prints a line for each slide; exit status 1 where one failed."""
    for path, row in zip(slides, rows, strict=True):
        if row.status == "ok":
            more = f"; {row.message}" if row.message else ""
            area = f"{row.tissue_mm2} mm² of tissue" if row.tissue_mm2 else f"{row.area_mm2} mm²"
            typer.echo(f"{path.name}: {row.figures} mitotic figures in {area}{more}")
        else:
            typer.echo(row.message, err=True)
    failed = sum(row.status != "ok" for row in rows)
    if failed:
        typer.echo(f"mitosight: {failed} of {len(rows)} slides failed; see {out / 'summary.csv'}", err=True)
        raise typer.Exit(1)
