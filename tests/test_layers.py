"""Who may import whom: the rooms of docs/design.md, read from the imports themselves."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "mitosight"

# a room may import the rooms named here (and itself); a room is a module or a package of mitosight
PLAIN = {"__init__", "errors", "mpp", "outputs", "detections", "regions"}
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "outputs": {"__init__", "errors"},
    "detections": {"errors", "outputs"},
    "mpp": set(),
    "regions": {"errors", "mpp", "outputs"},
    "evaluation": {"errors", "outputs", "detections", "regions", "slide"},
    "slide": {"errors", "mpp", "outputs"},
    "tiles": {"errors"},
    "stain": set(),
    "tissue": {"errors", "outputs", "slide"},
    "candidates": {"errors", "outputs", "regions", "slide", "stain", "tiles", "tissue"},
    "phantom": {"errors", "outputs", "regions", "slide"},
    "measured": {"errors", "regions", "slide"},
    "batch": set(),
    "augment": set(),
    "colours": set(),
    "stain_augment": {"augment", "stain"},
    "scanner_augment": {"augment", "stain_augment"},
    "device": {"errors"},
    "state": {"errors", "outputs"},
    "log": {"errors"},
    "dataset": {"augment", "batch", "colours", "errors", "regions", "slide", "tiles", "tissue"},
    "optimisation": set(),
    "methods": {
        "augment",
        "batch",
        "candidates",
        "colours",
        "detections",
        "device",
        "errors",
        "optimisation",
        "scanner_augment",
        "stain_augment",
    },
    "averaging": set(),
    "engine": {"averaging", "batch", "errors", "log", "optimisation", "state"},
    "modelfile": {"__init__", "errors"},
    "checkpoint": {*PLAIN, "methods", "modelfile"},
    "recipe": {"errors", "methods", "optimisation", "outputs"},
    "runtime": {
        *PLAIN,
        "checkpoint",
        "colours",
        "dataset",
        "device",
        "methods",
        "modelfile",
        "phantom",
        "slide",
        "tiles",
        "tissue",
    },
    "pairing": {*PLAIN, "checkpoint", "inference", "methods", "modelfile", "slide", "tissue"},
    "pipeline": set(),
    "inference": {"colours", "dataset", "detections", "device", "errors", "methods", "pipeline", "slide", "tiles"},
    "validation": {*PLAIN, "checkpoint", "dataset", "evaluation", "inference", "methods", "recipe", "slide", "tissue"},
    "material": {"dataset", "errors", "methods", "recipe", "regions"},
    "pool": {"errors", "outputs", "regions"},
    "patches": {"augment", "batch", "candidates", "dataset", "errors", "pool", "regions", "slide", "tissue"},
    "seen": {"checkpoint", "errors", "methods", "modelfile", "recipe", "regions"},
    "workshop": {
        "seen",
        "regions",
        "augment",
        "dataset",
        "engine",
        "errors",
        "log",
        "optimisation",
        "outputs",
        "patches",
        "pool",
        "tiles",
    },
    "training": {
        *PLAIN,
        "checkpoint",
        "dataset",
        "device",
        "engine",
        "log",
        "material",
        "measured",
        "methods",
        "modelfile",
        "recipe",
        "seen",
        "starting",
        "validation",
        "workshop",
    },
    "styles": {
        "augment",
        "batch",
        "checkpoint",
        "dataset",
        "engine",
        "errors",
        "log",
        "measured",
        "methods",
        "modelfile",
        "optimisation",
        "outputs",
        "regions",
        "stain",
    },
    "tuning": {
        *PLAIN,
        "adaptation",
        "checkpoint",
        "engine",
        "evaluation",
        "inference",
        "material",
        "recipe",
        "slide",
        "tissue",
        "training",
    },
    "samples": {
        "checkpoint",
        "errors",
        "material",
        "methods",
        "modelfile",
        "outputs",
        "patches",
        "recipe",
        "regions",
        "styles",
        "training",
        "workshop",
    },
    "starting": {"checkpoint", "errors", "methods", "modelfile"},
    "finetuning": {
        *PLAIN,
        "checkpoint",
        "cohort",
        "evaluation",
        "material",
        "measured",
        "methods",
        "modelfile",
        "recipe",
        "seen",
        "starting",
        "training",
        "validation",
    },
    "probe": {"dataset", "errors", "methods", "patches", "pool", "regions"},
    "bench": {
        *PLAIN,
        "adaptation",
        "checkpoint",
        "cohort",
        "device",
        "engine",
        "evaluation",
        "measured",
        "methods",
        "modelfile",
        "phantom",
        "probe",
        "recipe",
        "seen",
        "training",
        "tiles",
    },
    "demo": {*PLAIN, "cohort", "evaluation", "modelfile", "phantom", "slide"},
    "cohort": {
        *PLAIN,
        "checkpoint",
        "colours",
        "device",
        "inference",
        "methods",
        "modelfile",
        "pairing",
        "pipeline",
        "runtime",
        "slide",
        "tiles",
        "tissue",
    },
    "adaptation": {
        *PLAIN,
        "batch",
        "checkpoint",
        "colours",
        "cohort",
        "dataset",
        "engine",
        "inference",
        "log",
        "material",
        "methods",
        "modelfile",
        "optimisation",
        "patches",
        "recipe",
        "seen",
        "slide",
        "training",
        "tissue",
    },
}
NO_TORCH = {*PLAIN, "evaluation", "modelfile", "measured", "slide", "stain", "tiles", "tissue", "phantom", "candidates"}
METHODS_ALONE = {"detector", "parts"}  # what a method may import of its own room, besides a parent it extends
EXTENDS = {
    "chung2021": {"detectron"},
    "detectron": {"retinanet"},
    "mitosight": {"retinanet"},
    "wilm2021": {"retinanet"},
    "zhang2022": {"detectron"},
}


def room(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> set[str]:
    """Modules that a file imports, inside functions too, with the names taken from mitosight itself."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            if node.module == "mitosight":
                found.discard("mitosight")
                found |= {f"mitosight.{a.name}" if a.name != "__version__" else "mitosight" for a in node.names}
    return found


FILES = sorted(p for p in SOURCE.rglob("*.py"))


def test_every_room_is_listed() -> None:
    assert {room(p) for p in FILES} == {*ALLOWED, "cli", "__main__"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down(path: Path) -> None:
    own = room(path)
    if own in ("cli", "__main__"):
        return
    used = {[*name.split("."), "__init__"][1] for name in imports(path) if name.split(".")[0] == "mitosight"}
    assert used - {own} <= ALLOWED[own]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_plain_rooms_have_no_torch(path: Path) -> None:
    if room(path) in NO_TORCH:
        assert not {name.split(".")[0] for name in imports(path)} & {"torch", "torchvision", "safetensors"}


@pytest.mark.parametrize("path", sorted((SOURCE / "methods").glob("*.py")), ids=lambda p: p.stem)
def test_methods_do_not_import_each_other(path: Path) -> None:
    if path.stem == "__init__":
        return
    used = {name.split(".")[2] for name in imports(path) if name.startswith("mitosight.methods.")}
    assert used <= METHODS_ALONE | EXTENDS.get(path.stem, set())


@pytest.mark.parametrize("command", ["--help", "evaluate --help", "convert --help", "info --help", "candidates --help"])
def test_light_commands_do_not_import_torch(command: str) -> None:
    code = (
        "import sys; from mitosight.cli import app\n"
        f"try:\n    app({command.split()!r})\n"
        "except SystemExit:\n    pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
