"""`mitosight adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer


def adapt(
    model: Path = typer.Argument(..., help="Model folder or file that `mitosight train` wrote."),
    slides: list[Path] = typer.Argument(None, help="Slides, or folders of them; none only makes the memory."),
    out: Path = typer.Option(None, help="Folder of the results."),
    together: bool = typer.Option(False, "--together", help="The slides are of one scanner: adapt once, to all."),
    data: Path = typer.Option(None, help="Data folder of the training: has the model's memory made where it has none."),
    data_annotations: Path = typer.Option(None, help="Its annotation file, where not DATA/annotations.json."),
    data_domains: Path = typer.Option(None, help="Its domain table, where not DATA/domains.csv."),
    data_split: Path = typer.Option(None, help="Its split, where not DATA/split.json."),
    data_images: Path = typer.Option(None, help="Its folder of images, where not DATA/images."),
    samples: int = typer.Option(None, min=0, help="Remembered of each scanner; default 10,000 patches or 200 tiles."),
    mitotic: int = typer.Option(None, min=0, help="Of these with a figure; default 10 patches or 100 tiles, or half."),
    coding: str = typer.Option(None, help="jpeg (default) or png, of the remembered samples."),
    look_at: int = typer.Option(None, min=0, help="Candidates without a figure to choose from; default all."),
    lr: float = typer.Option(1.7e-6, help="Learning rate of the adaptation."),
    epochs: int = typer.Option(5, help="Rounds of remembered and new samples."),
    step: int = typer.Option(0, help="Samples in a step; 0: 128 patches or 12 tiles."),
    guard: float = typer.Option(0.02, help="The F1 on remembered slides may fall by this; else the model stays as is."),
    most: int = typer.Option(50_000, help="Samples of a slide that are adapted to."),
    keep_norm: bool = typer.Option(
        None,
        "--keep-norm/--follow-norm",
        help="Whether batch norms keep their statistics; default: those of a model that learned balanced.",
    ),
    seed: int = typer.Option(0, help="Of the order of the samples."),
    mpp: float = typer.Option(None, help="µm per px of all slides; goes over what the files say."),
    domains: Path = typer.Option(None, help="Table with file_name, mpp (of slides that do not say theirs) and slide."),
    threshold: float = typer.Option(None, help="Score from which a point is a mitotic figure; default the model's."),
    batch: int = typer.Option(None, min=1, help="Tiles at a time for each worker; default 1, on a GPU 16."),
    bf16: bool = typer.Option(
        False, "--bf16", help="Half precision: faster on newer processors, scores differ a little."
    ),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
) -> None:
    """Adapt a model to slides of a scanner it never saw, without labels, and search them. Research use only.

    A model remembers samples of its training slides in a file beside it, memory.safetensors, which holds pieces of
    their pixels. --data makes it; one that is there is used, and refused where it was made by other options.
    """
    from mitosight import adaptation, checkpoint, cohort, modelfile, regions
    from mitosight.cli.detect import tell
    from mitosight.cli.progress import Bars
    from mitosight.device import choose
    from mitosight.errors import UsageError
    from mitosight.slide import find_slides

    if coding not in (None, "jpeg", "png"):
        raise UsageError(None, f"--coding is {coding}", "accepted are jpeg and png")
    if slides and out is None:
        raise UsageError(None, "slides without a place for the results", "pass --out")
    if not slides and data is None:
        raise UsageError(None, "nothing to do", "name slides, or --data to make the memory")
    given: dict[str, Any] = {"samples": samples, "mitotic": mitotic, "coding": coding, "look_at": look_at}
    asked = {name: value for name, value in given.items() if value is not None}
    file, where = modelfile.locate(model), choose(device)
    how = adaptation.Settings(lr, epochs, step, guard, most, keep_norm, bf16, seed)
    table, names = (None, None) if domains is None else (regions.read_mpp(domains), regions.read_slides(domains))
    settings = cohort.Settings(mpp=mpp, table_mpp=table, slides=names, threshold=threshold, batch=batch, bf16=bf16)
    found = find_slides(slides or [])
    detector = checkpoint.load(file).to(where)
    adaptation.check(detector)
    memory = file.with_name(adaptation.FILE)
    there = memory.is_file()
    if data is not None and not there:
        folder = regions.load(
            data, annotations=data_annotations, domains=data_domains, split=data_split, images=data_images
        )
        typer.echo(adaptation.remember(file, folder, adaptation.Choice(**asked), where))
    remembered = adaptation.recalled(file, asked)
    if data is not None and there:
        typer.echo(f"{memory}: is there and is used as it is; remove it to have it made anew")
    if not found:
        return
    each = adaptation.Each(detector, remembered, how)
    prepare = adaptation.Together(each, found, settings, file, out) if together else each
    with Bars(len(found)) as bars:
        rows = cohort.detect_slides(found, file, detector, out, settings, bars, prepare)
    tell(found, rows, out)
