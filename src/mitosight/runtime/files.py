"""Exported models: one ONNX file, or the .xml and .bin of OpenVINO, with what the model's own header says inside."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mitosight import __version__, modelfile
from mitosight.errors import InputError, UsageError
from mitosight.methods import METHODS
from mitosight.methods.detector import Detector
from mitosight.outputs import sha256, versions, whole
from mitosight.runtime.agreement import inputs_of
from mitosight.runtime.conversion import as_onnx, side_px
from mitosight.runtime.runners import imported

Verify = Callable[[Path], dict[str, Any]]
EXPORTED = ("onnx", "openvino", "openvino-bf16", "openvino-int8")
SUFFIX = {"onnx": ".onnx", "openvino": ".xml"}
KEY = "mitosight"
MOST_INPUTS = 300  # that int8 is calibrated on; what NNCF takes by default
_EXPECTED = "expected model.safetensors, what mitosight export wrote, or a name that mitosight models lists"


def form_of(name: str) -> str:
    """The format that a runtime reads, "onnx" or "openvino", by its name."""
    return name.partition("-")[0]


def precision_of(name: str) -> str:
    """fp32, bf16 or int8, by a runtime's name."""
    return name.partition("-")[2] or "fp32"


def kind(path: str | Path) -> Literal["onnx", "openvino", "model"]:
    """What a file is by its first bytes; "model" for all that is neither ONNX nor OpenVINO.

    Raises:
        InputError: it cannot be read.
    """
    file = modelfile.locate(path)
    try:
        with open(file, "rb") as stream:
            start = stream.read(16)
    except OSError as error:
        raise InputError(file, f"cannot be read ({error.strerror})", _EXPECTED) from None
    if start.startswith((b"<?xml", b"<net")):
        return "openvino"
    return "onnx" if start[:1] == b"\x08" and b"\x12" in start[2:4] else "model"  # fields 1 and 2 of its protobuf


def is_exported(path: str | Path) -> bool:
    """Whether a file is one that `export` writes; errors as in `kind`."""
    return kind(path) != "model"


def read_header(path: str | Path) -> dict[str, Any]:
    """What a model file or an exported one says of itself; the latter has "exported" besides.

    Raises:
        InputError: no such file, damaged, not of mitosight, or of a method or format that this version does not have.
    """
    of, file = kind(path), modelfile.locate(path)
    if of == "model":
        return modelfile.read_header(file)
    told = _onnx_text(file) if of == "onnx" else _openvino_text(file)
    try:
        header = dict(json.loads(told or ""))
        known = set(header) >= {*modelfile.KEYS, "exported"} and header["format"] == modelfile.FORMAT
    except ValueError:
        known = False
    if not known or header["method"] not in METHODS:
        raise InputError(file, "is no model that this mitosight exported", _EXPECTED)
    return header


def export(
    detector: Detector,
    header: dict[str, Any],
    path: Path,
    name: str,
    *,
    calibrate: Sequence[NDArray[np.uint8]] = (),
    model_sha256: str = "",
    verify: Verify | None = None,
) -> Path:
    """Writes the network of a detector, which is on the CPU, whole.

    Args:
        header: of the model file; see `modelfile.read_header`.
        name: the runtime that it is for; "openvino-bf16" computes with the weights of "openvino".
        calibrate: tiles (H, W, 3) that int8 is calibrated on.
        verify: called with the written file before it gets its name; what it returns is kept as "agreement", and where
            it raises no file is left.

    Raises:
        UsageError: a precision that the format has not, int8 without tiles, or a library is not installed.
        InputError: the file cannot be written.
    """
    form = form_of(name)
    if name not in EXPORTED:
        raise UsageError(None, f"{form} has no {precision_of(name)}", f"there are {', '.join(EXPORTED)}")
    if name == "openvino-int8" and not len(calibrate):
        raise UsageError(None, "int8 without images", "name some that look like the slides, with --calibrate")
    library = imported(form, form)
    imported("onnx", form)  # torch writes the graph of either with it
    graph, outputs = as_onnx(detector)
    facts = {
        "runtime": name,
        "format": form,
        "precision": precision_of(name),
        "mitosight": __version__,
        "model_sha256": model_sha256,
        "computes": f"{type(detector).__name__}.{detector.converted}",
        "input": "images: float32 (N, 3, H, W), RGB in [0, 1]; mean and deviation are taken inside",
        "standard_colours": detector.standardised,
        "side_px": side_px(detector),
        "outputs": outputs,
        "classes": ["mitotic figure"],
        "mpp": detector.mpp,
        "mpp_tolerance": detector.mpp_tolerance,
        "tile_px": detector.tile_px,
        "threshold": detector.threshold,
        "versions": versions(),
    }
    if form == "onnx":
        return _write_onnx(library, graph, {**header, "exported": facts}, path, verify)
    model = library.Core().read_model(graph)
    if name == "openvino-int8":
        inputs = _spread(inputs_of(detector, calibrate))
        with redirect_stdout(io.StringIO()):  # its progress bars
            nncf = imported("nncf", "openvino")
            model = nncf.quantize(model, nncf.Dataset([i.numpy() for i in inputs]), subset_size=len(inputs))
        facts["calibration"] = {"tiles": len(calibrate), "inputs": len(inputs), "by": "NNCF"}
    return _write_openvino(library, model, {**header, "exported": facts}, path, verify)


def _spread(inputs: Sequence[Tensor]) -> list[Tensor]:
    """At most `MOST_INPUTS` single inputs (1, 3, H, W) of batches, evenly from all."""
    single = [image[None] for batch in inputs for image in batch]
    if not single:
        raise InputError(None, "the images for calibration hold no candidate", "choose images with tissue")
    return [single[i] for i in np.unique(np.linspace(0, len(single) - 1, MOST_INPUTS).round().astype(int))]


def _write_onnx(onnx: Any, graph: bytes, header: dict[str, Any], path: Path, verify: Verify | None) -> Path:
    model = onnx.load_from_string(graph)
    with whole(path) as temporary:
        temporary.write_bytes(graph)
        header["exported"]["agreement"] = verify(temporary) if verify else {}
        entry = model.metadata_props.add()
        entry.key, entry.value = KEY, json.dumps(header)
        temporary.write_bytes(model.SerializeToString())
    return path


def _write_openvino(openvino: Any, model: Any, header: dict[str, Any], path: Path, verify: Verify | None) -> Path:
    """The .bin first: without its .xml it is no model."""
    with whole(path) as xml, whole(path.with_suffix(".bin")) as weights:
        _serialise(openvino, model, xml, weights, path)
        header["exported"]["agreement"] = verify(xml) if verify else {}
        header["exported"]["bin_sha256"] = sha256(weights)
        model.set_rt_info(json.dumps(header), [KEY])
        _serialise(openvino, model, xml, weights, path)
    return path


def _serialise(openvino: Any, model: Any, xml: Path, weights: Path, path: Path) -> None:
    """Writes both files; `path` is what the error names."""
    try:
        openvino.serialize(model, xml, weights)
    except RuntimeError as error:  # of a stream: a full disk, say
        told = str(error).splitlines()[-1].strip()
        raise InputError(path, f"cannot be written ({told})", "free space or choose another place") from None


def check_weights(path: Path, header: dict[str, Any]) -> None:
    """Compares the .bin beside an .xml with the checksum that the .xml holds.

    Raises:
        InputError: it is missing or another.
    """
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise InputError(weights, "is missing", f"it belongs to {path.name}: copy both")
    if sha256(weights) != header["exported"]["bin_sha256"]:
        raise InputError(weights, f"does not belong to {path.name}, or is damaged", "copy both again")


def _onnx_text(file: Path) -> str | None:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = imported("onnx", "onnx").load(file, load_external_data=False)
    except DecodeError:
        raise InputError(file, "is damaged", "copy the file again") from None
    return next((entry.value for entry in model.metadata_props if entry.key == KEY), None)


def _openvino_text(file: Path) -> str | None:
    try:
        found = ElementTree.parse(file).find(f"rt_info/{KEY}")
    except ElementTree.ParseError:
        raise InputError(file, "is damaged", "copy the file again") from None
    return None if found is None else found.get("value")
