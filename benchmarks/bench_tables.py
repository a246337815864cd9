"""The tables of a page that come from `mitosight bench`.

    python benchmarks/bench_tables.py docs/results.md
    python benchmarks/bench_tables.py docs/results.md --take runs/ingredients/results.json --name mitosight-ingredients

With `--take`, what a bench wrote is first kept as docs/results/bench-NAME.json, without what is told of single images,
the places of features, the curves and distributions, and the folders of files. Then what stands in the page between
`<!-- bench NAME -->` and `<!-- end of bench -->` is replaced by the tables of that file.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from mitosight.bench.tables import table
from mitosight.outputs import whole, write_json

LEFT_OUT = {"f1_drawn", "curves", "adapted", "versions"}
OF_FEATURES = ("separability", "chance")
FILES = {"recipe", "model"}  # in a protocol: a built-in recipe's name, or a path
PART = re.compile(r"(<!-- bench (\S+) -->\n).*?(<!-- end of bench -->)", re.DOTALL)
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
        results = json.loads((folder / f"bench-{part[2]}.json").read_text(encoding="utf-8"))
        lines = [f"##{line}" if line.startswith("## ") else line for line in table(results)[2:]]
        return f"{part[1]}\n" + "\n".join(lines).strip() + f"\n\n{part[3]}"

    return PART.sub(one, page)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--take", type=Path)
    parser.add_argument("--name")
    given = parser.parse_args()
    folder = given.page.parent / "results"
    if given.take:
        write_json(folder / f"bench-{given.name}.json", kept(json.loads(given.take.read_text(encoding="utf-8"))))
    text = filled(given.page.read_text(encoding="utf-8"), folder)
    with whole(given.page) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
