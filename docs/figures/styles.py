"""Makes docs/figures/styles.png of the sheet that `mitosight styles` drew of phantoms.

    mitosight phantom phantoms --scanner phantom-A --scanner phantom-B --scanner phantom-C --scanner phantom-D \\
      --scanner phantom-F --regions 9 --own-tissue --split 4 1 4
    mitosight train chung2021-fields --data phantoms --out run \\
      --set 'labelled_scanners=["phantom-A","phantom-B","phantom-C","phantom-D"]' --set tile_px=512 \\
      --set tiles_per_scanner=2 --set style_steps=2000 --set style_identity_weight=5 --set epochs=6
    mitosight styles run --data phantoms --out sheet --detector run
    python docs/figures/styles.py sheet/styles.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

ROWS, OF = 5, 6  # one of each scanner; the sixth row is the first scanner's again
WIDTH_PX = 1254

sheet = Image.open(sys.argv[1]).convert("RGB")
top = sheet.crop((0, 0, sheet.width, 36 + (sheet.height - 36) * ROWS // OF))
small = top.resize((WIDTH_PX, round(top.height * WIDTH_PX / top.width)), Image.Resampling.LANCZOS)
small.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(Path(__file__).with_suffix(".png"), optimize=True)
