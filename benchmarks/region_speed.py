"""How fast a region of 2 mm² is searched, from file to written detections, against the reference algorithm of MIDOG.

    python benchmarks/region_speed.py --work runs/speed --ours "default=runs/NAME/model" \\
        --ours "fast=runs/NAME/model --fast" --profile --json speed.json --table speed.md

Draws a region of 7215 x 5412 px (once) as a JPEG-tiled TIFF. Then all candidates take turns, each run in a fresh
process: the reference (midog_reference.py: architecture and tiling, random weights) and, for each `--ours`, `mitosight
detect` with that model and those options. Times are from the open program to the written detections; the start of the
process with its imports, and the loading of the model, are shown apart. The ratio to the reference is that of the same
round. `--profile` adds one run of each candidate in which reading, network, decoding and writing are timed, and
measures the machine's best convolution rate before and after.

Times mean something on an idle machine only: what other work took is measured before and during each run and shown.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import fresh
from region_speed_tables import tables

from mitosight.outputs import whole, write_json

HERE = Path(__file__).parent
SIZE_PX, MPP = (7215, 5412), 0.23  # a region of MIDOG 2021 on its first scanner
FIGURES_PER_MM2, LOOKALIKES_PER_MM2 = 20.0, 60.0
REFERENCE = "reference"
MEDIANS = ("search", "whole", "peak_mb")


@dataclass(frozen=True)
class Candidate:
    """A rival: its name, and the command that searches `slide` and writes to the new folder `out`.

    The command writes its own times to the file `out/times.json`.
    """

    name: str
    command: Callable[[Path, Path, bool], list[str]]


def reference() -> Candidate:
    """The reference algorithm; it is always timed in parts, which costs it nothing."""

    def command(slide: Path, out: Path, profile: bool) -> list[str]:
        script = str(HERE / "midog_reference.py")
        return [sys.executable, script, str(slide), str(out / "found.csv"), str(out / "times.json")]

    return Candidate(REFERENCE, command)


def ours(text: str) -> Candidate:
    """`NAME=MODEL OPTIONS...` as a candidate: `mitosight detect` with that model and these options."""
    name, _, rest = text.partition("=")
    words = shlex.split(rest)
    if not name or not words or name == REFERENCE:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=MODEL OPTIONS...")

    def command(slide: Path, out: Path, profile: bool) -> list[str]:
        start = [sys.executable, str(HERE / "timed_detect.py"), *(["--profile"] if profile else [])]
        detect = ["detect", str(slide), "--out", str(out / "found"), "--model", *words]
        return [*start, str(out / "times.json"), *detect]

    return Candidate(name, command)


def one_run(candidate: Candidate, slide: Path, work: Path, threads: int, profile: bool = False) -> dict[str, Any]:
    """Times a candidate once, in a fresh process and a fresh folder.

    Returns seconds by phase (start: of the process and its imports; load: the model; search: from there to written
    detections, the figure of merit; end: until the process is gone), and what else is known of the run.
    """
    out = work / "found"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    outcome = fresh.run(candidate.command(slide, out, profile), threads)
    times = json.loads((out / "times.json").read_text(encoding="utf-8"))
    load = times["parts"].get("load", {"wall": 0.0})["wall"]
    found = {
        "start": times["imported"] - outcome.spawned,
        "load": load,
        "search": times["written"] - times["imported"] - load,
        "end": outcome.ended - times["written"],
        "whole": outcome.seconds,
        "cpu": outcome.cpu_seconds,
        "peak_mb": outcome.peak_mb,
        "points": sum(_lines(path) - 1 for path in out.rglob("*.csv") if path.name != "summary.csv"),
        "load_average": outcome.load,
        "others_before": outcome.others_before,
        "others_during": outcome.others_during,
        "disturbed": outcome.disturbed,
    }
    if profile:
        found |= {"parts": times["parts"], "network_gflop": times["network_gflop"]}
    shutil.rmtree(out)
    warning = f"  ({outcome.disturbed})" if outcome.disturbed else ""
    print(
        f"{candidate.name}: {found['search']:.2f} s, start {found['start']:.2f} s, load {load:.2f} s, "
        f"load average before {outcome.load:.2f}{warning}",
        file=sys.stderr,
        flush=True,
    )
    return found


def _lines(path: Path) -> int:
    with open(path, "rb") as stream:
        return sum(1 for _ in stream)


def in_turns(
    candidates: Sequence[Candidate], rounds: int, run: Callable[[Candidate], dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """`rounds` runs of each; each round begins with the next candidate, so that none always follows the same."""
    found: dict[str, list[dict[str, Any]]] = {candidate.name: [] for candidate in candidates}
    for i in range(rounds):
        first = i % len(candidates)
        for candidate in (*candidates[first:], *candidates[:first]):
            found[candidate.name].append(run(candidate))
    return found


def against(reference_runs: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]], phase: str) -> dict[str, float]:
    """How many times as fast as the reference of the same round: median, least and most."""
    ratios = [a[phase] / b[phase] for a, b in zip(reference_runs, runs, strict=True)]
    return {"median": median(ratios), "least": min(ratios), "most": max(ratios)}


def convolution_rates(work: Path, threads: int) -> dict[str, float]:
    """GFLOP/s by runtime and precision; see convolution_rate.py."""
    path = work / "rates.json"
    fresh.run([sys.executable, str(HERE / "convolution_rate.py"), str(path)], threads)
    found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return found


def draw_region(path: Path, size_px: tuple[int, int]) -> None:
    """Draws a phantom of `size_px` at MPP and writes it as JPEG-tiled TIFF; the same file each time."""
    from mitosight import phantom
    from mitosight.slide import write_tiff

    scanner = replace(phantom.SCANNERS["phantom-A"], mpp=MPP)
    size_um = (size_px[0] * MPP, size_px[1] * MPP)
    tissue = phantom.draw_tissue(1, size_um, FIGURES_PER_MM2, LOOKALIKES_PER_MM2)
    write_tiff(path, phantom.scan(tissue, scanner, 1)[0], MPP, quality=scanner.jpeg_quality)


def drawn(work: Path, size_px: tuple[int, int]) -> Path:
    """The region in `work`, drawn where it is not there yet, by a process of its own: this one stays small."""
    path = work / f"region-{size_px[0]}x{size_px[1]}.tiff"
    if not path.is_file():
        process = multiprocessing.get_context("spawn").Process(target=draw_region, args=(path, size_px))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{path} could not be drawn")
    return path


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark, as its JSON has it."""
    candidates = [reference(), *given.ours]
    slide = drawn(given.work, tuple(given.size))

    def run(candidate: Candidate, profile: bool = False) -> dict[str, Any]:
        return one_run(candidate, slide, given.work, given.threads, profile)

    in_turns(candidates, given.warmups, run)
    rates = [convolution_rates(given.work, given.threads)] if given.profile else []
    runs = in_turns(candidates, given.rounds, run)
    profiles = {c.name: run(c, profile=True) for c in candidates} if given.profile else {}
    rates += [convolution_rates(given.work, given.threads)] if given.profile else []
    return {
        "machine": fresh.machine(given.threads),
        "size_px": given.size,
        "area_mm2": given.size[0] * given.size[1] * (MPP / 1000) ** 2,
        "commands": {c.name: _told(c.command(slide, Path("OUT"), False)) for c in candidates},
        "runs": runs,
        "medians": {name: {key: median(run[key] for run in of) for key in MEDIANS} for name, of in runs.items()},
        "times_as_fast": {name: against(runs[REFERENCE], of, "search") for name, of in runs.items()},
        "times_as_fast_whole": {name: against(runs[REFERENCE], of, "whole") for name, of in runs.items()},
        "profiles": profiles,
        "convolution_gflop_per_s": {name: max(r[name] for r in rates) for name in (rates[0] if rates else ())},
    }


def _told(command: list[str]) -> str:
    """A command without where this machine keeps the project."""
    return shlex.join(command[1:]).replace(f"{HERE.parent}/", "")


def main() -> None:
    """Measures, prints the tables, writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the drawn region and of what is found")
    parser.add_argument("--ours", type=ours, action="append", default=[], metavar="NAME=MODEL OPTIONS...")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warmups", type=int, default=1, help="rounds before that do not count")
    parser.add_argument("--threads", type=int, default=fresh.cores())
    parser.add_argument("--profile", action="store_true", help="where the time goes")
    parser.add_argument("--size", type=int, nargs=2, default=SIZE_PX, metavar="PX", help="another size, for a trial")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path)
    given = parser.parse_args()
    result = measure(given)
    if given.json:
        write_json(given.json, result)
    text = tables(result)
    print(text)
    if given.table:
        with whole(given.table) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
