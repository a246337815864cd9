"""The report of a bench as one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any
from zlib import crc32

from PIL import Image

from mitosight import __version__
from mitosight.bench.counts import LEAST, STATES
from mitosight.bench.ranking import RANKED
from mitosight.bench.tables import table

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; font-size: 14px } th, td { padding: .25em .8em; text-align: right }
th:first-child, td:first-child { text-align: left } tr:nth-child(even) td { background: #f6f6f6 }
th { border-bottom: 2px solid #888 } h2 { margin-top: 2em } figure { margin: 1em 0; display: inline-block }
.wide { overflow-x: auto }
figcaption, .note { color: #555; font-size: 13px } svg { max-width: 100%; height: auto } img { max-width: 100% }
"""
QUALITY = 85
NOTE = (
    "Research use only: not a medical device. F1, precision and recall are at the threshold that was chosen on "
    "validation images; intervals are of 95 %, over test slides drawn with replacement, where a domain has at least "
    f"{LEAST}; the mean counts domains alike."
)


def page(results: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], sheets: Mapping[str, Path]) -> str:
    """The whole page: tables as in Markdown, pictures where matplotlib is installed, a sheet of crops for each model.

    Args:
        results: what `summarised` gives.
        cells: what `Bench.work` gave.
        sheets: by model the PNG of its hits and mistakes.
    """
    title = escape(results["protocol"]["title"])
    parts = [f"<h1>{title}</h1>", *_tables(table(results)[2:])]
    if find_spec("matplotlib") is not None:
        parts += _pictures(results, cells)
    else:
        parts.append('<p class="note">Pictures need matplotlib: python3 -m pip install "mitosight[bench]"</p>')
    parts += _sheets(sheets)
    parts.append(f'<p class="note">mitosight {__version__}. {NOTE}</p>')
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _tables(lines: Iterable[str]) -> list[str]:
    """The tables of `table` as HTML."""
    found: list[str] = []
    rows: list[list[str]] = []
    for line in (*lines, ""):
        if line.startswith("|"):
            rows.append([escape(cell.strip()) for cell in line.strip("|").split("|")])
            continue
        if rows:
            head = "".join(f"<th>{cell}</th>" for cell in rows[0])
            body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows[2:])
            found.append(f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')
            rows = []
        if line.startswith("## "):
            found.append(f"<h2>{escape(line[3:])}</h2>")
        elif line:
            found.append(f"<p>{escape(line)}</p>")
    return found


def _pictures(results: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> list[str]:
    from mitosight.bench import plots

    found = ["<h2>Pictures</h2>"]
    area = "AUCPR is the area under it"
    if not all(RANKED in cell for cell in cells):
        area = "of about 100 thresholds, so a little below AUCPR, which is of all"
    for state in STATES:
        if results["curves"][state]:
            told = f"Precision and recall on domains {state} in training, mean of runs and domains; {area}"
            found.append(_figure(plots.precision_recall(results, state), told))
        if any(results["f1_drawn"][state].values()):
            found.append(_figure(plots.drawn_f1(results, state), f"F1 on drawn slides, domains {state} in training"))
    if results["drop"]:
        found.append(_figure(plots.drop(results), "The same test images, with and without their domain in training"))
    shown = {cell["model"]: cell for cell in reversed(cells) if cell.get("features")}
    if shown:
        found.append("<h2>Can the scanner be told from the features?</h2>")
        told = (
            "balanced accuracy of a logistic regression on samples of other slides, in the first fold of each model "
            "(the table has the mean of all); a low number hides the scanner"
        )
        found.append(f'<p class="note">{told}</p>')
        found += [_figure(plots.features(cell), cell["features"]["plane"]) for cell in reversed(shown.values())]
    return found


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{_with_own_names(svg)}<figcaption>{escape(caption)}</figcaption></figure>"


def _with_own_names(svg: str) -> str:
    """The SVG with names that no other picture on the page has, since they are those of the whole page."""
    mark = f"p{crc32(svg.encode()):x}"
    return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{mark}-", svg)


def _sheets(sheets: Mapping[str, Path]) -> list[str]:
    found = ["<h2>Best hits, worst false positives, misses</h2>"] if sheets else []
    for model, file in sheets.items():
        data = BytesIO()
        with Image.open(file) as sheet:
            sheet.convert("RGB").save(data, "JPEG", quality=QUALITY)
        coded = base64.b64encode(data.getvalue()).decode()
        found.append(f'<h3>{escape(model)}</h3><img alt="crops" src="data:image/jpeg;base64,{coded}">')
    return found
