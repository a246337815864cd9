"""The tables of a page that come from `mitosight bench`.

    python benchmarks/bench_tables.py docs/results.md
    python benchmarks/bench_tables.py docs/results.md --take runs/ingredients/results.json --name mitosight-ingredients

With `--take`, what a bench wrote is first kept as docs/results/bench-NAME.json, without what is told of single images,
the places of features, the curves and distributions, and the folders of files. Then what stands in the page between
`<!-- bench NAME -->` and `<!-- end of bench -->` is replaced by the tables of that file, and between
`<!-- bench NAME short -->` and that by one table with a line for each model. A block whose file is not there stays.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from mitosight.bench.tables import number, table, with_interval
from mitosight.outputs import whole, write_json

LEFT_OUT = {"f1_drawn", "curves", "adapted", "versions"}
OF_FEATURES = ("separability", "chance")
FILES = {"recipe", "model"}  # in a protocol: a built-in recipe's name, or a path
RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
PART = re.compile(r"(<!-- bench (\S+)( short)? -->\n).*?(<!-- end of bench -->)", re.DOTALL)
# Folders that begin at a root, a drive, a home, here or above; their names may hold spaces, the file's name may not.
FOLDERS = re.compile(r"(?<![\w.<])(?:[A-Za-z]:|~\w*|\.{1,2})?(?:[\\/]+[^\\/:;'\"\n]*)*[\\/]+(?=[^\\/\s])")


def kept(value: Any, key: str = "") -> Any:
    """A JSON value without the entries that are left out, and files without their folders, at any depth."""
    if isinstance(value, dict):
        if key == "features":
            return {k: value[k] for k in OF_FEATURES if k in value}
        return {k: kept(v, k) for k, v in value.items() if k not in LEFT_OUT}
    if isinstance(value, list):
        return [kept(v) for v in value]
    return named(value, key in FILES) if isinstance(value, str) else value


def named(text: str, file: bool = False) -> str:
    """A text in which files stand without their folders; all of it is the path of a `file`, or a text that has some."""
    return re.split(r"[\\/]", text)[-1] if file else FOLDERS.sub("", text)


def filled(page: str, folder: Path) -> str:
    """The page with the tables of the files in `folder`; headings two levels down, the title left out."""

    def one(part: re.Match[str]) -> str:
        file = folder / f"bench-{part[2]}.json"
        if not file.is_file():
            return part[0]
        results = json.loads(file.read_text(encoding="utf-8"))
        lines = short(results) if part[3] else table(results)[2:]
        lines = [f"##{line}" if line.startswith("## ") else line for line in lines]
        return f"{part[1]}\n" + "\n".join(lines).strip() + f"\n\n{part[4]}"

    return PART.sub(one, page)


def short(results: dict[str, Any]) -> list[str]:
    """What is tested, and a row for each model: mean F1 and AP of the domains it had not seen, and the share kept."""
    by = results["protocol"]["by"].replace("_", " ")
    lines = [f"{results['images']} test images of {results['slides']} slides; {results['protocol']['title']}.", ""]
    lines += [f"| model | seeds | F1, {by} unseen [95 %] | AP | F1 kept |", "|---|---|---|---|---|"]
    for model, rows in results["scores"]["unseen"].items():
        seeds = ", ".join(map(str, results["runs"][model]["seeds"])) or "some folds"
        kept_share = results["drop"].get(model, {}).get("kept")
        scores = (with_interval(rows["mean"]["f1"]), number(rows["mean"]["average_precision"]["mean"]))
        lines.append(f"| {model} | {seeds} | {' | '.join(scores)} | {number(kept_share, '.2f')} |")
    return lines


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--take", type=Path)
    parser.add_argument("--name")
    given = parser.parse_args()
    if given.take:
        write_json(RESULTS / f"bench-{given.name}.json", kept(json.loads(given.take.read_text(encoding="utf-8"))))
    text = filled(given.page.read_text(encoding="utf-8"), RESULTS)
    with whole(given.page) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
