"""The model card of the demo checkpoint, with the scores it was measured at."""

from collections.abc import Sequence
from pathlib import Path

from demo.evaluate import ABSENT, SEED, THRESHOLD, Row
from demo.scenes import KNOWN_COLOURS, KNOWN_SHAPES, KNOWN_TEXTURES

TEXT = """---
license: mit
pipeline_tag: image-segmentation
library_name: promptbrush
tags: [clipseg, image-segmentation, synthetic, demo]
---

# A demo CLIPSeg for generated scenes

Real weights of the CLIPSeg architecture, small, so that promptbrush does something true on a
machine that has just been unpacked. **It knows generated scenes only**: {shapes}; {colours};
{textures}. On photographs its masks mean nothing: use a published checkpoint such as
`CIDAS/clipseg-rd64-refined` there.

It understands phrases ("a red circle", "striped square", "the blue thing") and exemplars: an
object shown in another image.

## Scores

Mean IoU on {scenes} generated scenes that training never saw (seeds from {seed}; training seeds
start at 10 000 000), threshold {threshold}, one object of each scene asked for in the grammar's
many wordings:

| prompt | mean IoU | prompts |
|---|---|---|
{rows}

Phrases for what is not in the scene ({absents} of them) mark {absent:.2f} % of the image, on
average.

Again: `promptbrush evaluate --scenes {scenes}`.

## How it was made

`python -m demo.train`: {made}, drawing the
scenes included, on two processor cores. Text tower, vision tower and decoder are trained together
on masks of generated scenes; the published checkpoints keep CLIP frozen instead. The input is
96 x 96 pixels in patches of 8.
"""


def write(folder: Path, rows: Sequence[Row], made: str) -> None:
    """Write `README.md` beside the weights; `made` tells the steps and how long they took."""
    lacking = {row.kind: row for row in rows}[ABSENT]
    present = [row for row in rows if row.kind != ABSENT]
    text = TEXT.format(
        shapes=", ".join(KNOWN_SHAPES),
        colours=", ".join(KNOWN_COLOURS),
        textures=", ".join(KNOWN_TEXTURES),
        scenes=max(row.prompts for row in present),
        seed=SEED,
        threshold=THRESHOLD,
        rows="\n".join(f"| {row.kind} | {row.score:.3f} | {row.prompts} |" for row in present),
        absent=100 * lacking.score,
        absents=lacking.prompts,
        made=made,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
