"""`mitosight info`: what a data folder, an annotation file, a slide or a model is."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mitosight.regions import DataFolder
    from mitosight.regions.summary import Summary


def info(
    path: Path = typer.Argument(..., help="Data folder, annotation file, slide or model."),
    annotations: Path | None = typer.Option(None, help="Annotations of a data folder; else annotations.json in it."),
    domains: Path | None = typer.Option(None, help="Scanners, slides and mpp; else domains.csv in the folder."),
    split: Path | None = typer.Option(None, help="Parts of a data folder; else split.json in it."),
    images: Path | None = typer.Option(None, help="Images of a data folder; else images/ in it."),
    from_format: str | None = typer.Option(
        None, "--from", metavar="FORMAT", help="Format of an annotation file or folder of CSVs."
    ),
    mpp: float | None = typer.Option(None, help="µm per pixel of a slide, before all other sources."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show the regions, figures and mm² of annotated data, the size and mpp of a slide, or what a model is."""
    from mitosight import modelfile
    from mitosight.errors import InputError
    from mitosight.regions import formats

    file = modelfile.locate(path)
    if file.suffix == ".safetensors" and file.exists():
        _model(path, as_json)
    elif not path.exists():
        raise InputError(path, "does not exist", "expected a data folder, an annotation file, a slide or a model")
    elif path.is_dir() and not from_format:
        _data_folder(path, annotations, domains, split, images, as_json)
    elif from_format or formats.is_annotation(path):
        _annotation_file(path, from_format, domains, as_json)
    else:
        _slide(path, mpp, domains, as_json)


def _data_folder(
    path: Path, annotations: Path | None, domains: Path | None, split: Path | None, images: Path | None, as_json: bool
) -> None:
    from mitosight.regions import load

    folder = images or path / "images"
    need_images = images is not None or folder.exists()
    data = load(path, annotations=annotations, domains=domains, split=split, images=images, need_images=need_images)
    _show(path, data, as_json)
    if not need_images and not as_json:
        typer.echo(f"{folder} is not there: the images were not looked for")


def _annotation_file(path: Path, from_format: str | None, domains: Path | None, as_json: bool) -> None:
    from mitosight.regions import DataFolder, formats, with_domains

    from_format = from_format or formats.detect(path)
    regions = formats.read(path, from_format)
    if domains:
        regions = with_domains(regions, domains)
    _show(path, DataFolder(path.parent, tuple(regions)), as_json, f" ({formats.named(from_format).says})")


def _show(path: Path, data: DataFolder, as_json: bool, kind: str = "") -> None:
    from mitosight.regions.summary import by_domain, summarise

    rows, total = by_domain(data), summarise(data.regions)
    if as_json:
        parts = {part: asdict(summarise(data.part(part))) for part in data.split}
        keys = ("part", "scanner", "tumor_type")
        groups = [dict(zip(keys, key, strict=True)) | asdict(row) for key, row in rows.items()]
        typer.echo(json.dumps({"path": str(path), **asdict(total), "parts": parts, "groups": groups}, indent=1))
        return
    typer.echo(f"{path}{kind}")
    _print_table(data, rows, total)
    unknown = sum(region.area_mm2 is None for region in data.regions)
    if unknown:
        typer.echo(f"mm² is unknown for {unknown} regions: it needs width and height, and mpp in domains.csv")


def _print_table(data: DataFolder, rows: dict[tuple[str, str, str], Summary], total: Summary) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from mitosight.regions.summary import summarise

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("part" if data.split else "", no_wrap=True)
    for name in ("scanner", "tumour"):
        table.add_column(name)
    for name in ("regions", "figures", "hard negatives", "mm²"):
        table.add_column(name, justify="right", min_width=len(name))
    for part in [*data.split, ""]:
        chosen = {key: row for key, row in rows.items() if key[0] == part}
        for (_, scanner, tumour), row in chosen.items():
            table.add_row(part or ("none" if data.split else ""), scanner, tumour, *_cells(row))
        if part and len(chosen) > 1:
            table.add_row(part, "all", "", *_cells(summarise(data.part(part))), style="bold")
        table.add_section()
    table.add_row("all", "", "", *_cells(total), style="bold")
    Console().print(table)


def _cells(row: Summary) -> tuple[str, ...]:
    area = "unknown" if row.area_mm2 is None else f"{row.area_mm2:.2f}"
    return str(row.regions), str(row.figures), str(row.hard_negatives), area


def _slide(path: Path, mpp: float | None, domains: Path | None, as_json: bool) -> None:
    from mitosight.regions import Region, with_domains
    from mitosight.slide import Slide

    table_mpp = with_domains([Region(path.name)], domains)[0].mpp if domains else None
    with Slide(path, mpp=mpp, table_mpp=table_mpp) as slide:
        facts = {
            "path": str(path),
            "width_px": slide.width_px,
            "height_px": slide.height_px,
            "reader": slide.reader,
            "level_downsamples": list(slide.level_downsamples),
        }
        if as_json:
            typer.echo(json.dumps({**facts, "mpp": slide.mpp, "mpp_source": slide.mpp_source}, indent=1))
            return
        downsamples = ", ".join(f"{factor:g}" for factor in slide.level_downsamples)
        typer.echo(f"{path}: {slide.width_px} x {slide.height_px} px, read by {slide.reader}")
        typer.echo(f"levels: {len(slide.level_downsamples)} (downsamples {downsamples})")
        area_mm2 = slide.width_px * slide.height_px * (slide.mpp / 1000) ** 2
        typer.echo(f"mpp: {slide.mpp:g} µm per px, from {slide.mpp_source}; {area_mm2:.3f} mm²")


def _model(path: Path, as_json: bool) -> None:
    from mitosight import modelfile

    header = modelfile.read_header(path)
    if as_json:
        typer.echo(json.dumps({"path": str(path), **header}, indent=1))
        return
    made, given = header["provenance"], header["arguments"]
    typer.echo(f"{modelfile.locate(path)}: {header['method']}, by mitosight {header['mitosight']}")
    typer.echo(f"trained on: {', '.join(header['scanners'])}")
    if data := made.get("data"):
        typer.echo(f"labelled: {', '.join(data['labelled'])}")
        for part in ("train", "val"):
            typer.echo(f"{part}: {data[part]['regions']} regions, {data[part]['figures']} mitotic figures")
    if "mpp" in given:
        typer.echo(f"reads: tiles of {given['tile_px']} px at {given['mpp']:g} µm per px")
    typer.echo(f"threshold: {header['threshold']:g}")
    if found := made.get("validation"):
        scanners = ", ".join(f"{name} {value:.3f}" for name, value in found["aucpr_by_scanner"].items())
        typer.echo(f"validation: epoch {found['epoch']}, F1 {found['f1']:.3f}, AUCPR {found['aucpr']:.3f} ({scanners})")
