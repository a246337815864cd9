"""`mitosight phantom`: drawn regions with known figures, as virtual scanners see them."""

from __future__ import annotations

from pathlib import Path

import typer


def phantom(
    out: Path | None = typer.Argument(None, help="Data folder to write."),
    scanner: list[str] = typer.Option(["phantom-A"], help="Virtual scanner; give it again for more, or `all`."),
    seed: int = typer.Option(1, min=0, help="Number of the first tissue; the same number is the same tissue."),
    regions: int = typer.Option(1, min=1, help="How many tissues: SEED, SEED + 1, ..."),
    size_um: tuple[float, float] | None = typer.Option(None, help="Width and height in µm; else 256 256."),
    width_px: int | None = typer.Option(None, min=1, help="Width in the scanner's pixels, instead of --size-um."),
    height_px: int | None = typer.Option(None, min=1, help="Height in the scanner's pixels."),
    own_tissue: bool = typer.Option(False, help="Each scanner gets tissues of its own, as in training data."),
    split: tuple[int, int, int] | None = typer.Option(
        None, metavar="TRAIN VAL TEST", help="Write split.json: how many tissues of each scanner go to each part."
    ),
    figures_per_mm2: float = typer.Option(120.0, help="Density of mitotic figures."),
    lookalikes_per_mm2: float = typer.Option(180.0, help="Density of look-alikes, which are hard negatives."),
    show: bool = typer.Option(False, "--list", help="List the scanners and the kinds of figures."),
) -> None:
    """Draw H&E regions with known figures, as virtual scanners see them: a data folder to try things on."""
    from mitosight import phantom as phantoms
    from mitosight.errors import UsageError

    if show:
        _list()
        return
    if out is None:
        raise UsageError(None, "no folder to write to", "give OUT, or --list")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(out, "is there already and not empty", "give a new folder")
    scanners = list(phantoms.SCANNERS) if scanner == ["all"] else scanner
    size = _size_um([phantoms.scanner_named(name).mpp for name in scanners], size_um, width_px, height_px)
    own = {name: seed + i * regions * own_tissue for i, name in enumerate(scanners)}
    pairs = [(name, first + k) for name, first in own.items() for k in range(regions)]
    parts = _parts(set(own.values()), regions, split) if split else None
    found = phantoms.write_pairs(
        out, pairs, size, parts, figures_per_mm2=figures_per_mm2, lookalikes_per_mm2=lookalikes_per_mm2
    )
    figures, others = sum(len(r.figures) for r in found), sum(len(r.hard_negatives) for r in found)
    typer.echo(f"{out}: {len(found)} regions by {', '.join(scanners)}; {figures} mitotic figures, {others} look-alikes")


def _list() -> None:
    from mitosight import phantom as phantoms

    for scanner in phantoms.SCANNERS.values():
        typer.echo(f"{scanner.name}  {scanner.mpp} µm per px  {scanner.description}")
    typer.echo(f"mitotic figures: {', '.join(phantoms.PHASES)}")
    typer.echo(f"hard negatives: {', '.join(phantoms.LOOKALIKES)}")


def _size_um(
    mpps: list[float], size_um: tuple[float, float] | None, width_px: int | None, height_px: int | None
) -> tuple[float, float]:
    from mitosight.errors import UsageError

    if width_px is None and height_px is None:
        return size_um or (256.0, 256.0)
    if size_um or width_px is None or height_px is None:
        raise UsageError(None, "the size is given in part or twice", "give --size-um, or --width-px and --height-px")
    if len(set(mpps)) > 1:
        raise UsageError(None, "a size in pixels for scanners of different µm per px", "give --size-um")
    return width_px * mpps[0], height_px * mpps[0]


def _parts(firsts: set[int], regions: int, split: tuple[int, int, int]) -> dict[str, list[int]]:
    from mitosight.errors import UsageError

    if min(split) < 0 or sum(split) != regions:
        raise UsageError(None, f"--split {' '.join(map(str, split))}", f"the three must add up to --regions {regions}")
    starts = (0, split[0], split[0] + split[1])
    return {
        part: [first + start + k for first in sorted(firsts) for k in range(count)]
        for part, start, count in zip(("train", "val", "test"), starts, split, strict=True)
    }
