"""MIDOG's JSON: COCO in outline, with boxes as xmin, ymin, xmax, ymax; MIDOG++ adds tumour types and expert votes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mitosight.errors import InputError
from mitosight.outputs import write_json
from mitosight.regions.checks import unique
from mitosight.regions.region import BOX_PX, HARD_NEGATIVE, MITOTIC_FIGURE, UNKNOWN, Domain, Region, label_named

_CATEGORIES = ({"id": MITOTIC_FIGURE, "name": "mitotic figure"}, {"id": HARD_NEGATIVE, "name": "hard negative"})
_BOX_REMEDY = "boxes are [xmin, ymin, xmax, ymax] in px, not [x, y, width, height]"


def read(path: Path) -> list[Region]:
    """Regions in the file's order; the centre of a figure is the middle of its box.

    Raises:
        InputError: no JSON, a key or an image is missing, a category is unknown, or a box is no xyxy box.
    """
    document = _parse(path)
    images, annotations = document["images"], document["annotations"]
    unique(path, (_value(path, image, "id", "an image") for image in images), "image id")
    labels = _labels(path, document)
    by_image: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in images}
    for annotation in annotations:
        image_id = _value(path, annotation, "image_id", "an annotation")
        if image_id not in by_image:
            raise InputError(
                path, f"{_named(annotation)} is on image id {image_id}, which does not exist", "list it under images"
            )
        by_image[image_id].append(annotation)
    _check_xyxy(path, annotations)
    return [_region(path, image, by_image[image["id"]], labels) for image in images]


def write(path: Path, regions: Sequence[Region]) -> None:
    """Writes the MIDOG 2021 schema, each figure as the 50 px box around its centre."""
    write_json(path, _document(regions, plus=False))


def write_plus(path: Path, regions: Sequence[Region]) -> None:
    """Writes the MIDOG++ schema: tumour types of images and votes of annotations where they are known."""
    write_json(path, _document(regions, plus=True))


def _parse(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError(path, "is not text", "expected MIDOG JSON") from None
    except json.JSONDecodeError as error:
        raise InputError(path, f"is no valid JSON (line {error.lineno}: {error.msg})", "expected MIDOG JSON") from None
    for key in ("images", "annotations"):
        rows = document.get(key) if isinstance(document, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InputError(path, f"holds no list {key!r}", "expected MIDOG JSON with images and annotations")
    return dict(document)


def _labels(path: Path, document: dict[str, Any]) -> dict[Any, int]:
    """Label of each category id, by the categories' names; 1 and 2 where the file names none."""
    categories = document.get("categories") or _CATEGORIES
    named = {
        _value(path, c, "id", "a category"): label_named(str(_value(path, c, "name", "a category"))) for c in categories
    }
    return {key: label for key, label in named.items() if label is not None}


def _region(path: Path, image: dict[str, Any], annotations: Sequence[dict[str, Any]], labels: dict[Any, int]) -> Region:
    boxes = np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4)
    width_px, height_px = (_size(path, image, key) for key in ("width", "height"))
    return Region(
        str(_value(path, image, "file_name", "an image")),
        width_px,
        height_px,
        (boxes[:, :2] + boxes[:, 2:]) / 2,
        np.array([_label(path, a, labels) for a in annotations], dtype=np.int64),
        tuple(_votes(path, a, labels) for a in annotations),
        Domain(tumor_type=str(image.get("tumor_type") or UNKNOWN)),
    )


def _size(path: Path, image: dict[str, Any], key: str) -> int:
    value = image.get(key) or 0
    if not isinstance(value, int | float) or value < 0 or value != int(value):
        raise InputError(path, f"image {image.get('file_name')} has the {key} {value!r}", "expected whole px")
    return int(value)


def _label(path: Path, annotation: dict[str, Any], labels: dict[Any, int]) -> int:
    category = _value(path, annotation, "category_id", "an annotation")
    if category not in labels:
        raise InputError(
            path,
            f"{_named(annotation)} has the unknown category {category!r}",
            "expected categories named 'mitotic figure' (1) and 'hard negative' (2)",
        )
    return labels[category]


def _votes(path: Path, annotation: dict[str, Any], labels: dict[Any, int]) -> tuple[int, ...]:
    votes = annotation.get("labels") or []
    if not isinstance(votes, list) or any(vote not in labels for vote in votes):
        raise InputError(path, f"{_named(annotation)} has the votes {votes!r}", "expected a list of category ids")
    return tuple(labels[vote] for vote in votes)


def _check_xyxy(path: Path, annotations: Sequence[dict[str, Any]]) -> None:
    for annotation in annotations:
        box = annotation.get("bbox")
        if not (isinstance(box, list) and len(box) == 4 and all(_is_number(value) for value in box)):
            raise InputError(path, f"{_named(annotation)} has the bbox {box!r}, not four finite numbers", _BOX_REMEDY)
        if box[2] <= box[0] or box[3] <= box[1]:
            raise InputError(path, f"{_named(annotation)} has the bbox {box!r}, of no positive width", _BOX_REMEDY)
    starts, ends = ({tuple(a["bbox"][i : i + 2]) for a in annotations} for i in (0, 2))
    if len(ends) == 1 and len(starts) > 1:  # a constant size behind moving corners: positive widths by chance
        raise InputError(path, f"every bbox ends in {list(next(iter(ends)))}, which looks like a size", _BOX_REMEDY)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _value(path: Path, row: object, key: str, what: str) -> Any:
    if not isinstance(row, dict) or row.get(key) is None:
        raise InputError(path, f"{what} lacks {key!r}", "expected the MIDOG 2021 schema")
    return row[key]


def _named(annotation: dict[str, Any]) -> str:
    return f"annotation {annotation.get('id', 'without id')}"


def _document(regions: Sequence[Region], *, plus: bool) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for image_id, region in enumerate(regions, start=1):
        for (x, y), label, votes in zip(region.xy.tolist(), region.label.tolist(), region.votes, strict=True):
            half = BOX_PX / 2
            row: dict[str, Any] = {
                "bbox": [_short(value) for value in (x - half, y - half, x + half, y + half)],
                "category_id": label,
                "image_id": image_id,
            }
            if plus and votes:
                row["labels"] = list(votes)
            annotations.append({**row, "id": len(annotations) + 1})
    return {
        "info": {"description": "Mitotic figures; bbox is [xmin, ymin, xmax, ymax]", "version": "1.0"},
        "licenses": [],
        "images": [_image(image_id, region, plus) for image_id, region in enumerate(regions, start=1)],
        "categories": list(_CATEGORIES),
        "annotations": annotations,
    }


def _image(image_id: int, region: Region, plus: bool) -> dict[str, Any]:
    image = {"file_name": region.file_name, "id": image_id, "width": region.width_px, "height": region.height_px}
    if plus and region.domain.tumor_type != UNKNOWN:
        image["tumor_type"] = region.domain.tumor_type
    return image


def _short(value: float) -> float | int:
    return int(value) if value == int(value) else value
