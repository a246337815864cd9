"""`mitosight export`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer


def export(
    model: Path = typer.Argument(..., help="Model folder or file that `mitosight train` wrote."),
    form: Literal["onnx", "openvino"] = typer.Option(..., "--format", help="One .onnx file, or .xml and .bin."),
    precision: Literal["fp32", "bf16", "int8"] = typer.Option("fp32", help="ONNX has fp32; OpenVINO all of them."),
    out: Path = typer.Option(None, help="File; without it int8 is kept for `--runtime openvino-int8`."),
    calibrate: list[Path] = typer.Option(None, help="Images that int8 is calibrated on, and compared with torch."),
    tiles: int = typer.Option(32, min=1, help="Tiles for calibration, evenly from all images."),
    mpp: float = typer.Option(None, help="µm per px of these images; goes over what the files say."),
    tolerance: float = typer.Option(None, min=0, help="Largest difference of scores; default by precision."),
) -> None:
    """Write a model's network for ONNX Runtime or OpenVINO, with what it needs to be used again."""
    from mitosight.runtime import exporting

    images = exporting.Images(calibrate, tiles, mpp) if calibrate else None
    name = form if precision == "fp32" else f"{form}-{precision}"
    written, told = exporting.export_model(model, name, out, images, tolerance)
    typer.echo(f"{written}: {told}")
