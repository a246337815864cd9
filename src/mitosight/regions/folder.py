"""A data folder: images, annotations, domains and a split that keeps slides together."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mitosight.errors import InputError, UsageError
from mitosight.regions import formats
from mitosight.regions.checks import listed
from mitosight.regions.domains import is_split_table, table_split, with_domains
from mitosight.regions.fingerprints import said_names, sought_names
from mitosight.regions.region import Region

_EXPECTED = (
    "a data folder holds images/, annotations.json, domains.csv (optional) and split.json (optional); "
    "each can be named apart with --images, --annotations, --domains, --split"
)
_SPLIT_REMEDY = 'expected {"train": [file names], "val": [...], "test": [...]} or the ; table of MIDOG++'


@dataclass(frozen=True)
class DataFolder:
    """Annotated regions, their images and their split.

    Attributes:
        images: folder of the image files.
        regions: in the order of the annotation file.
        split: file names by part, such as train, val, test; empty where there is none.
    """

    images: Path
    regions: tuple[Region, ...]
    split: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def part(self, name: str) -> list[Region]:
        """Regions of one part of the split, in the order of the annotation file.

        Raises:
            InputError: the split has no such part.
        """
        if name not in self.split:
            there = f"there are {', '.join(self.split)}" if self.split else "there is no split: give split.json"
            raise InputError(None, f"the split has no part {name!r}", there)
        chosen = set(self.split[name])
        return [region for region in self.regions if region.file_name in chosen]

    def image_path(self, region: Region) -> Path:
        """Where the image of a region lies."""
        return self.images / region.file_name


def load(
    data: str | Path,
    *,
    annotations: str | Path | None = None,
    domains: str | Path | None = None,
    split: str | Path | None = None,
    images: str | Path | None = None,
    need_images: bool = True,
) -> DataFolder:
    """Reads a data folder; each of its four things can be named apart, relative to the working directory.

    The `;` table of MIDOG++ serves as split and as domains: given as one, it is the other too where that is not there.

    Raises:
        InputError: something is missing or contradicts itself, or a slide stands on two sides of the split.
    """
    data = Path(data)
    if not data.is_dir():
        raise InputError(data, "is no folder" if data.exists() else "does not exist", _EXPECTED)
    source = Path(annotations or data / "annotations.json")
    if not source.exists():
        raise InputError(source, "does not exist", _EXPECTED)
    format = formats.detect(source)
    regions = formats.read(source, format)
    if not regions:
        raise InputError(source, "lists no image", _EXPECTED)
    folder = Path(images or data / "images")
    if need_images:
        regions = _with_images(source, regions, folder, suffix_said=not formats.named(format).per_image)
    domains_path, split_path = _tables(data, domains, split)
    if domains_path:
        regions = with_domains(regions, domains_path)
    parts = _split(split_path, regions) if split_path else {}
    return DataFolder(folder, tuple(regions), parts)


def together(
    data: Sequence[Path],
    *,
    annotations: Path | None = None,
    domains: Path | None = None,
    split: Path | None = None,
    images: Path | None = None,
) -> DataFolder:
    """One or several data folders as one (`merged`); the others as in `load`, of the one folder.

    Raises:
        UsageError: one of them is named for several folders.
        InputError: as in `load` and `merged`.
    """
    if len(data) > 1 and (annotations or domains or split or images):
        found = f"{len(data)} data folders"
        raise UsageError(None, found, "--annotations, --domains, --split and --images go with one --data")
    return merged([load(path, annotations=annotations, domains=domains, split=split, images=images) for path in data])


def merged(folders: Sequence[DataFolder]) -> DataFolder:
    """Several data folders as one: file names from the nearest folder above all images, parts of the split joined.

    Raises:
        InputError: a slide stands in different parts of two folders' splits, or one has no split.
    """
    if len(folders) == 1:
        return folders[0]
    above = Path(os.path.commonpath([folder.images.absolute() for folder in folders]))
    regions: list[Region] = []
    split: dict[str, tuple[str, ...]] = {}
    for folder in folders:
        if not folder.split:
            raise InputError(folder.images.parent, "has no split", "give it a split.json")
        names = {
            r.file_name: (folder.images.absolute() / r.file_name).relative_to(above).as_posix() for r in folder.regions
        }
        regions += [replace(region, file_name=names[region.file_name]) for region in folder.regions]
        for part, files in folder.split.items():
            split[part] = (*split.get(part, ()), *(names[file] for file in files))
    _check_apart(above, split, {region.file_name: region for region in regions})
    return DataFolder(above, tuple(regions), split)


def _with_images(source: Path, regions: Sequence[Region], images: Path, *, suffix_said: bool) -> list[Region]:
    """The regions, each of which has its image; where the format names no suffix, the image's own is taken."""
    if not images.is_dir():
        raise InputError(images, "is no folder of images", _EXPECTED)
    if not suffix_said:
        regions = [_with_suffix(region, images) for region in regions]
    missing = [region.file_name for region in regions if not (images / region.file_name).exists()]
    if missing:
        raise InputError(
            source, f"lists {listed(missing)}, not in {images}", "add the images or remove them from the annotations"
        )
    return list(regions)


def _with_suffix(region: Region, images: Path) -> Region:
    path = images / region.file_name
    if path.exists():
        return region
    found = sorted(p for p in path.parent.glob("*") if p.stem == path.stem) if path.parent.is_dir() else []
    if len(found) > 1:
        raise InputError(images, f"holds {' and '.join(p.name for p in found)}", "keep one image for each annotation")
    return replace(region, file_name=found[0].relative_to(images).as_posix()) if found else region


def _tables(data: Path, domains: str | Path | None, split: str | Path | None) -> tuple[Path | None, Path | None]:
    domains_path, split_path = (
        Path(given) if given else default if default.exists() else None
        for given, default in ((domains, data / "domains.csv"), (split, data / "split.json"))
    )
    if split_path and not domains_path and is_split_table(split_path):
        domains_path = split_path
    elif domains_path and not split_path and is_split_table(domains_path):
        split_path = domains_path
    return domains_path, split_path


def _split(path: Path, regions: Sequence[Region]) -> dict[str, tuple[str, ...]]:
    parts = table_split(path, regions) if is_split_table(path) else _json_split(path)
    known = {region.file_name: region for region in regions}
    unknown = [name for names in parts.values() for name in names if name not in known]
    if unknown:
        raise InputError(path, f"names {listed(unknown)}, not annotated", "name the images of the annotation file")
    _check_apart(path, parts, known)
    return parts


def _json_split(path: Path) -> dict[str, tuple[str, ...]]:
    try:
        parts = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", _SPLIT_REMEDY) from None
    except ValueError:
        raise InputError(path, "is no valid JSON", _SPLIT_REMEDY) from None
    if not isinstance(parts, dict) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in parts.values()
    ):
        raise InputError(path, "is no object of lists of file names", _SPLIT_REMEDY)
    return {part: tuple(names) for part, names in parts.items()}


def _check_apart(path: Path, parts: Mapping[str, Sequence[str]], known: Mapping[str, Region]) -> None:
    """Raises InputError when a file, or a slide by two of its regions, stands in two parts."""
    part_of_file: dict[str, str] = {}
    first_of_slide: dict[str, tuple[str, str]] = {}  # slide and file, by the names under which the slide is kept
    for part, names in parts.items():
        for name in names:
            if name in part_of_file:
                where = f"in {part_of_file[name]} and in {part}" if part_of_file[name] != part else f"twice in {part}"
                raise InputError(path, f"{name} stands {where}", "name each file once")
            part_of_file[name] = part
            for slide in known[name].slides:
                for other, first in (first_of_slide[key] for key in sought_names(slide) if key in first_of_slide):
                    if part_of_file[first] != part:
                        told = f"stands on both sides of the split: {first} in {part_of_file[first]}, {name} in {part}"
                        raise _on_both_sides(path, slide, other, told)
                for key in said_names(slide):
                    first_of_slide.setdefault(key, (slide, name))


def _on_both_sides(path: Path, slide: str, other: str, told: str) -> InputError:
    """What is told of a slide that stands on both sides under its name or under that and an `other` one."""
    if slide == other:
        return InputError(path, f"slide {slide} {told}", "put all regions of a slide in one part")
    remedy = "put all regions of a slide in one part, or name one that is another differently (slide in domains.csv)"
    return InputError(path, f"slide {slide} (taken for {other}) {told}", remedy)
