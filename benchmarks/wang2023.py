"""Tables III and IV of Wang 2023: what each part of MitDet does on a scanner that training never saw.

    python benchmarks/wang2023.py --data DIR --held-out "Aperio ScanScope XT" --runs runs --results docs/results
    python benchmarks/wang2023.py --results docs/results --table

Trains the recipe with and without sample balancing (DGSB), stain enhancement (SE, which is UnSA and EFDMix) and
child classes (InCDP): the eight rows of Table III. Table IV parts SE with the two others on; two of its four rows stand
in Table III, so ten trainings fill both. They learn from the parts "train" and "val" without the held-out scanner and
are tested on its images in the part "test". By the commands of the package, which are printed as they run; one JSON for
each run. A run whose JSON is there is passed over; a training that was stopped goes on.

Rows of one seed share what does not depend on the row, so that they differ in their parts alone: the candidates, the
classifier that tells the difficult negatives, the re-stainer (across seeds too by `--set style=FILE`). Another recipe
or other data want another --name.
"""

from __future__ import annotations

from pathlib import Path

from ablations import Ablation, Row, main, tests_of
from tables import cell

WITHOUT = {part: f"{part}=false" for part in ("dgsb", "unsa", "efdmix", "incdp")}
SE = ("unsa", "efdmix")
TABLE_3: dict[Row, Row] = {  # what a row has in the paper's words, and by the settings
    (): (),
    ("DGSB",): ("dgsb",),
    ("SE",): SE,
    ("InCDP",): ("incdp",),
    ("DGSB", "SE"): ("dgsb", *SE),
    ("SE", "InCDP"): (*SE, "incdp"),
    ("DGSB", "InCDP"): ("dgsb", "incdp"),
    ("DGSB", "SE", "InCDP"): ("dgsb", *SE, "incdp"),
}
TABLE_4: dict[Row, Row] = {
    (): ("dgsb", "incdp"),
    ("UnSA",): ("dgsb", "unsa", "incdp"),
    ("EFDMix",): ("dgsb", "efdmix", "incdp"),
    ("UnSA", "EFDMix"): ("dgsb", *SE, "incdp"),
}
ROWS = list(dict.fromkeys([*TABLE_3.values(), *TABLE_4.values()]))
SCORES = {"F1": "f1", "recall": "recall", "precision": "precision"}
SHARED = {
    "": [f"candidates/{part}.safetensors" for part in ("train", "val")],
    "dgsb": ["difficulty/difficulty.safetensors"],
    "unsa": ["re-stainer/re-stainer.safetensors"],
}


def table(folder: Path, name: str) -> list[str]:
    """Both tables with the scores on the held-out domain: mean over seeds, and each seed."""
    lines = []
    for number, rows in (("III", TABLE_3), ("IV, with DGSB and InCDP", TABLE_4)):
        parts = max(rows, key=len)
        lines += [f"Table {number}", "", "| | " + " | ".join((*parts, *SCORES)) + " |"]
        lines.append("|---" * (1 + len(parts) + len(SCORES)) + "|")
        for k, (words, row) in enumerate(rows.items(), start=1):
            tests = tests_of(folder, name, row)
            ticks = ["x" if part in words else "" for part in parts]
            scores = [cell([test[key] for test in tests]) for key in SCORES.values()]
            lines.append("| " + " | ".join((f"({k})", *ticks, *scores)) + " |")
        lines.append("")
    return lines[:-1]


ABLATION = Ablation("wang2023", "wang2023-fields", WITHOUT, ROWS, table, SHARED)

if __name__ == "__main__":
    main(ABLATION, str(__doc__))
