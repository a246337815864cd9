"""`mitosight tune`."""

from __future__ import annotations

from pathlib import Path

import typer


def tune(
    recipe: str = typer.Argument(..., help="Name of a built-in recipe (see `mitosight methods`) or a TOML file."),
    data: Path = typer.Option(..., help="Data folder with the parts `train` and `val`."),
    out: Path = typer.Option(..., help="Folder of the search; one that was stopped goes on there."),
    trials: int = typer.Option(..., min=1, help="Trials in all, those of earlier calls included."),
    ranges: list[str] = typer.Option(
        [], "--search", help="key=low:high or key=low:high:log; may be repeated. Default: the learning rate."
    ),
    settings: list[str] = typer.Option([], "--set", help="key=value over the recipe; may be repeated."),
    by: str = typer.Option("aucpr", help="Score of a training: aucpr, f1 or selection."),
    target: str = typer.Option(
        None, help="Tune the adaptation in place of the training: a scanner that is left out and adapted to."
    ),
    images: int = typer.Option(0, min=0, help="Of the target's validation images at most so many; 0: all."),
    seed: int = typer.Option(0, min=0, help="Of the search."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
    annotations: Path = typer.Option(None, help="Annotation file, where it is not DATA/annotations.json."),
    domains: Path = typer.Option(None, help="Domain table, where it is not DATA/domains.csv."),
    split: Path = typer.Option(None, help="Split, where it is not DATA/split.json."),
    image_folder: Path = typer.Option(None, help="Folder of the images, where it is not DATA/images."),
) -> None:
    """Find the best learning rate, or other values, by trial trainings on the part `val`; the part `test` is not used.

    With --target it is the learning rate of `mitosight adapt`, by adaptations to a scanner that the training left out.
    """
    from importlib.util import find_spec

    from mitosight import recipe as recipes
    from mitosight import regions
    from mitosight.device import choose
    from mitosight.errors import UsageError
    from mitosight.material import gather

    if find_spec("optuna") is None:
        raise UsageError(None, "optuna is not installed", "python3 -m pip install 'mitosight[tune]'")
    from mitosight import tuning

    chosen, where = recipes.load(recipe, settings), choose(device)
    default = "optimisation.lr=1e-6:1e-2:log" if target is None else "lr=1e-8:1e-3:log"
    looked = [tuning.Range.parse(text) for text in ranges or [default]]
    folder = regions.load(data, annotations=annotations, domains=domains, split=split, images=image_folder)
    claim = {
        "recipe": chosen.to_json(),
        "by": by if target is None else f"adaptation to {target}, {images}",
        "data_sha256": gather(chosen, folder).digest(),
    }
    if target is None:
        training = tuning.Training(recipe, settings, folder, where, by)
        for end in ("low", "high"):  # an unknown key or value is told before anything is written
            training.recipe({r.key: getattr(r, end) for r in looked})
        best = tuning.search(training, looked, trials, out, claim, seed)
        recipes.write(out / "best.toml", training.recipe(best.values), f"{recipe}, tuned: {by} {best.score:.4f}")
        typer.echo(f"{_told(best.values)}: {by} {best.score:.4f} (trial {best.number}, {best.folder})")
        typer.echo(out / "best.toml")
        return
    tuning.Adapting.check(looked)
    adapting = tuning.Adapting(chosen, target, folder, out, where, images)
    best = tuning.search(adapting, looked, trials, out, claim, seed)
    options = " ".join(f"--{key.replace('_', '-')} {value:.6g}" for key, value in best.values.items())
    typer.echo(f"F1 {best.score:.4f} on {target} (trial {best.number}); mitosight adapt MODEL SLIDES {options}")


def _told(values: dict[str, float]) -> str:
    return ", ".join(f"{key} {value:.6g}" for key, value in values.items())
