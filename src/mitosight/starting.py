"""A training that starts from the weights of a model that is trained already."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from mitosight import checkpoint, modelfile
from mitosight.errors import InputError, UsageError
from mitosight.methods import METHODS
from mitosight.methods.detector import Detector

LEAST = 0.5  # of a detector's weights that a model has to bring


def start_from(detector: Detector, model: str | Path) -> str:
    """Gives a detector the weights of a model, those of the same name and shape; returns a line for the log.

    Weights that belong to the data of a training, such as those that tell its scanners, stay as they are
    (`Detector.of_its_data`), and so do those that the model lacks or has in another shape. Methods that are built
    alike can start from each other.

    Raises:
        UsageError: the method prepares weights of its own.
        InputError: no model, or one that has less than half of the detector's weights.
    """
    check(type(detector))
    file, header = modelfile.locate(model), checkpoint.read_header(model)
    given, own = load_file(file), detector.state_dict()
    fitting = {
        name: value
        for name, value in given.items()
        if name in own and own[name].shape == value.shape and not name.startswith(detector.of_its_data)
    }
    share = sum(own[name].numel() for name in fitting) / sum(value.numel() for value in own.values())
    if share < LEAST:
        raise InputError(
            file,
            f"a model of {header['method']} that has {share:.0%} of the weights of this detector",
            "start from one of the same method and network",
        )
    with torch.no_grad():
        for name, value in fitting.items():
            own[name].copy_(value)
    anew = sorted({name.partition(".")[0] for name in own if name not in fitting})
    return f"starts from {file} ({header['method']}, {share:.1%} of the weights); anew: {', '.join(anew) or 'nothing'}"


def check(method: type[Detector]) -> None:
    """Raises UsageError where a method cannot start from a model."""
    if method.in_stages:
        known = ", ".join(name for name, other in METHODS.items() if not other.in_stages)
        raise UsageError(
            None, f"{method.__name__} learns in stages of its own, which a start from a model would undo",
            f"train it on your data, or start a model of {known}",
        )  # fmt: skip
