"""Table 1 of Zhang 2022: what each of its three components does on a domain that training never saw.

    python benchmarks/zhang2022.py --data DIR --held-out "Aperio ScanScope XT" --runs runs --results docs/results
    python benchmarks/zhang2022.py --results docs/results --table

Trains the recipe eight times (none of the components, each one, each pair, all) on the parts "train" and "val" without
the held-out scanner, and tests on the images of that scanner in the part "test"; `--by tumor_type` holds out a tumour,
as the paper does. By the commands of the package, which are printed as they run; one JSON for each run. A run whose
JSON is there is passed over; a training that was stopped goes on.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from ablations import Ablation, main, tests_of
from tables import cell

WITHOUT = {  # the setting that takes a component away
    "foreground": "foreground_weight=0",
    "label": "label_weight=0",
    "jitter": "jitter=[0, 0, 0, 0]",
}
ROWS = [row for size in range(len(WITHOUT) + 1) for row in combinations(WITHOUT, size)]


def table(folder: Path, name: str) -> list[str]:
    """The eight rows with AP at IoU 0.5 and F1 on the held-out domain: mean over seeds, and each seed."""
    lines = ["| " + " | ".join((*WITHOUT, "AP at IoU 0.5", "F1")) + " |", "|---" * (len(WITHOUT) + 2) + "|"]
    for row in ROWS:
        tests = tests_of(folder, name, row)
        ticks = ["x" if part in row else "" for part in WITHOUT]
        scores = [cell([test[key] for test in tests]) for key in ("average_precision", "f1")]
        lines.append("| " + " | ".join((*ticks, *scores)) + " |")
    return lines


ABLATION = Ablation("zhang2022", "zhang2022-fields", WITHOUT, ROWS, table, shared={})

if __name__ == "__main__":
    main(ABLATION, str(__doc__))
