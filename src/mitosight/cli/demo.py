"""`mitosight demo`."""

from __future__ import annotations

from pathlib import Path

import typer


def demo(out: Path = typer.Option(Path("demo"), help="Folder of everything the demonstration makes.")) -> None:
    """Draw regions of a virtual scanner that no training saw, and find their figures. Seconds."""
    from mitosight.demo import UNSEEN, run

    report = run(out, lambda line: typer.echo(f"-- {line}"))
    typer.echo(report.table())
    found, figures = report.total.true_positives, report.total.true_positives + report.total.false_negatives
    typer.echo(
        f"\n{found} of {figures} mitotic figures found on {UNSEEN}, a scanner the detector never saw, "
        f"with {report.total.false_positives} false points (F1 {report.total.f1:.2f})."
    )
    typer.echo(f"Look at {out / 'found.png'}; points and summary are in {out / 'found'}.")
