"""`mitosight finetune`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mitosight.evaluation.report import Report, Scores


def finetune(
    model: Path = typer.Argument(..., help="Model folder or file."),
    data: Path = typer.Option(..., help="Data folder: images/, annotations.json, domains.csv, split.json."),
    out: Path = typer.Option(..., help="Folder of the new model; what was stopped goes on there."),
    settings: list[str] = typer.Option([], "--set", help="key=value over the recipe; may be repeated."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
    annotations: Path = typer.Option(None, help="Annotation file, where it is not DATA/annotations.json."),
    domains: Path = typer.Option(None, help="Domain table, where it is not DATA/domains.csv."),
    split: Path = typer.Option(None, help="Split, where it is not DATA/split.json."),
    images: Path = typer.Option(None, help="Folder of the images, where it is not DATA/images."),
) -> None:
    """Let a model learn on from your own annotated regions; tells what that gave on your part `test`.

    The model starts from its weights and learns by its own recipe, in 300 steps at a tenth of the learning rate. The
    part `val` chooses the threshold. Research use only.
    """
    from mitosight import finetuning, regions
    from mitosight.device import choose

    folder = regions.load(data, annotations=annotations, domains=domains, split=split, images=images)
    asked = finetuning.recipe_of(model, folder, settings)
    tuned = finetuning.finetune(model, asked, folder, out, choose(device))
    if os.environ.get("RANK", "0") != "0":  # one of several processes speaks
        return
    typer.echo(tuned.file)
    for name, report in tuned.reports.items():
        _tell(name, report)
    if not tuned.reports:
        typer.echo("the split has no part 'test': nothing says whether this model is better", err=True)


def _tell(name: str, report: Report) -> None:
    typer.echo(f"{name} (threshold {report.settings['threshold']:g}): {_told(report.total)}")
    for scanner, scores in report.by_scanner.items():
        typer.echo(f"  {scanner}: {_told(scores)}")


def _told(scores: Scores) -> str:
    low, high = scores.intervals.get("f1", (None, None))
    between = f" [{low:.3f}, {high:.3f}]" if low is not None else ""
    rates = {"F1": scores.f1, "precision": scores.precision, "recall": scores.recall, "AP": scores.average_precision}
    words = [f"{key} {'–' if value is None else f'{value:.3f}'}" for key, value in rates.items()]
    return ", ".join([words[0] + between, *words[1:]])
