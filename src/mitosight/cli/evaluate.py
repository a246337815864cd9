"""`mitosight evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mitosight.regions import DataFolder, Region


def evaluate(
    detections: Path = typer.Argument(..., help="CSV with file_name,x_px,y_px,score[,label], or a folder of them."),
    annotations: Path = typer.Argument(..., help="Annotation file of any format, or a data folder."),
    domains: Path = typer.Option(None, help="Table with file_name, scanner, tumor_type, mpp."),
    mpp: float = typer.Option(None, help="µm per px of all images; goes over the table."),
    split: Path = typer.Option(None, help="Split by file name; default that of the data folder."),
    part: str = typer.Option(None, help="Score only this part of the split, such as test."),
    threshold: float = typer.Option(
        None, help="A point with score >= it counts. Default: the points labelled mitotic figure, else all."
    ),
    matching: str = typer.Option("one-to-one", help="one-to-one (the challenge's rule) or many-to-many."),
    radius_um: float = typer.Option(7.5, help="Reach of a detection in µm."),
    radius_px: float = typer.Option(None, help="Reach in px instead."),
    nms_radius_px: float = typer.Option(None, help="First keep only the best of all points within this radius."),
    nms_score_floor: float = typer.Option(None, help="First drop points with a score below this."),
    bootstrap: int = typer.Option(1000, help="Draws of images for the 95 % intervals; 0 for none."),
    seed: int = typer.Option(0, help="Of the draws."),
    json: Path = typer.Option(None, help="Write all scores there, by scanner, tumour and image."),
    sheet: Path = typer.Option(None, help="Draw false positives and misses as crops, a PNG."),
    images: Path = typer.Option(None, help="Folder of the images, for --sheet; default that of the data folder."),
    sheet_crops: int = typer.Option(60, min=1, help="Most crops of each kind on the sheet."),
) -> None:
    """Score detections against annotations: F1, AP, FROC and more, by scanner and tumour.

    The default is the official rule of the MIDOG challenge: 7.5 µm, each figure takes one detection, duplicates are
    false positives, counts are summed over all images.
    """
    from mitosight import detections as found_points
    from mitosight.evaluation import check_images
    from mitosight.evaluation import evaluate as score
    from mitosight.outputs import write_json

    _check_options(sheet, images, annotations, split, part)
    found = found_points.read(detections)
    data = _regions(annotations, domains, split, mpp)
    check_images(found, data.regions, detections)
    where = images or annotations / "images"
    regions = _measured(data.part(part) if part else list(data.regions), where, radius_px)
    labelled = found_points.labelled_threshold(detections) if threshold is None else None
    report = score(
        {region.file_name: found[region.file_name] for region in regions if region.file_name in found},
        regions,
        threshold=labelled if threshold is None else threshold,
        radius_um=radius_um,
        radius_px=radius_px,
        matching=matching,
        nms_radius_px=nms_radius_px,
        nms_score_floor=nms_score_floor,
        bootstrap=bootstrap,
        seed=seed,
    )
    if sheet is not None:
        from mitosight.evaluation.sheet import write_sheet

        write_sheet(sheet, report, {region.file_name: where / region.file_name for region in regions}, sheet_crops)
    if json is not None:
        write_json(json, report.to_json())
    typer.echo(report.table())
    typer.echo(f"\n{_counting(threshold, labelled)}")


def _counting(threshold: float | None, labelled: float | None) -> str:
    if threshold is not None:
        return f"detections with score >= {threshold:g} count"
    if labelled is not None:
        return f"detections labelled mitotic figure count (score >= {labelled:g})"
    return "every detection counts"


def _check_options(
    sheet: Path | None, images: Path | None, annotations: Path, split: Path | None, part: str | None
) -> None:
    from mitosight.errors import UsageError

    if sheet is not None and images is None and not (annotations / "images").is_dir():
        raise UsageError(None, "--sheet needs the images", "name their folder with --images")
    if split is not None and part is None:
        raise UsageError(None, "--split alone chooses nothing", "add --part, such as test")


def _measured(regions: list[Region], images: Path, radius_px: float | None) -> list[Region]:
    """The regions with the mpp of their images where a radius in µm needs it."""
    if radius_px is not None or not images.is_dir() or all(region.mpp is not None for region in regions):
        return regions
    from mitosight.measured import measured

    return measured(images, regions)


def _regions(annotations: Path, domains: Path | None, split: Path | None, mpp: float | None) -> DataFolder:
    """The regions of a data folder or of an annotation file, with the domains and the mpp given."""
    from dataclasses import replace

    from mitosight import regions
    from mitosight.errors import UsageError
    from mitosight.mpp import ACCEPTED_MPP, possible

    if (annotations / "annotations.json").exists():
        data = regions.load(annotations, domains=domains, split=split, need_images=False)
    elif split is not None:
        data = regions.load(
            annotations.parent, annotations=annotations, domains=domains, split=split, need_images=False
        )
    else:
        read = regions.read(annotations)
        data = regions.DataFolder(annotations.parent, tuple(regions.with_domains(read, domains) if domains else read))
    if mpp is None:
        return data
    if not possible(mpp):
        raise UsageError(None, f"--mpp is {mpp:g}", ACCEPTED_MPP)
    return replace(data, regions=tuple(replace(region, mpp=mpp) for region in data.regions))
