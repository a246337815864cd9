"""`mitosight bench`."""

from __future__ import annotations

from pathlib import Path

import typer


def bench(
    protocol: str = typer.Argument(..., help="Name of a built-in protocol or a TOML file."),
    data: list[Path] = typer.Option([], help="Data folder with a split of train, val and test; may be repeated."),
    out: Path = typer.Option(..., help="Folder of models and results; a bench that was stopped goes on there."),
    annotations: Path = typer.Option(None, help="Annotation file of the one data folder; else DATA/annotations.json."),
    domains: Path = typer.Option(None, help="Its domain table, where it is not DATA/domains.csv."),
    split: Path = typer.Option(None, help="Its split, where it is not DATA/split.json."),
    model: list[str] = typer.Option([], help="Work on this model of the protocol alone; may be repeated."),
    seed: list[int] = typer.Option([], help="Work on this seed of the protocol alone; may be repeated."),
    scheduler: str = typer.Option(None, help="local, local:N or the address of a Dask scheduler: cells side by side."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
) -> None:
    """Compare methods by one protocol: train, search, score, with intervals, tests and a report. Research use only.

    Writes results.json, results.md and report.html after each cell of the table. A cell that fails stops no other;
    the exit code tells.
    """
    from mitosight import bench as benches
    from mitosight import regions
    from mitosight.device import choose
    from mitosight.errors import UsageError

    if not data and (annotations or domains or split):
        raise UsageError(None, "no data folder", "--annotations, --domains and --split go with one --data")
    chosen = benches.load(protocol)
    if data:
        folder = regions.together(data, annotations=annotations, domains=domains, split=split)
    else:
        folder = benches.drawn(chosen, out / "data")
    made = benches.Bench(chosen, folder, out, choose(device), device)
    results = benches.run(made, models=model, seeds=seed, scheduler=scheduler, watch=_tell)
    typer.echo("\n" + (out / "results.md").read_text(encoding="utf-8"))
    typer.echo(out / "report.html")
    if results["failed"]:
        raise typer.Exit(1)


def _tell(done: int, of: int, cell: object, outcome: object) -> None:
    from mitosight.bench.cell import Cell

    assert isinstance(cell, Cell)
    if isinstance(outcome, dict):
        f1 = outcome["scores"]["f1"]
        told = "F1 –" if f1 is None else f"F1 {f1:.3f}"
    else:
        told = f"failed: {outcome}"
    typer.echo(f"[{done}/{of}] {cell.place}: {told}", err=True)
