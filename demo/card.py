"""The model cards of the demo checkpoints, with the scores they were measured at."""

from collections.abc import Sequence
from pathlib import Path

from demo.evaluate import ABSENT, EXEMPLAR, SEED, THRESHOLD, VOCABULARIES, Row
from demo.phrases import KINDS
from demo.scenes import KNOWN_COLOURS, KNOWN_SHAPES, KNOWN_TEXTURES

TEXT = """---
license: mit
pipeline_tag: image-segmentation
library_name: promptbrush
tags: [{name}, image-segmentation, synthetic, demo]
---

# A demo {title} for generated scenes

Real weights of the {title} architecture, small, so that promptbrush does something true on a
machine that has just been unpacked. **It knows generated scenes only**: {shapes}; {colours};
{textures}. On photographs its masks mean nothing: use a published checkpoint such as
`{published}` there.

{understands}

## Scores

Mean IoU on {scenes} generated scenes that training never saw (seeds from {seed:,}; training seeds
start at 10,000,000), threshold {threshold}. One object of each scene is asked for by itself, in the
grammar's many wordings{together}:

| prompt | mean IoU | prompts |
|---|---|---|
{rows}

Phrases for what is not in the scene ({absents} of them, each by itself) mark {absent:.2f} % of the
image, on average.

To measure it again: `promptbrush evaluate --checkpoint {setting} --scenes {scenes}`.

## How it was made

`python -m demo.train_{name}`: {made}, drawing the
scenes included, on two processor cores. {learns}
"""
CLIPSEG = {
    "title": "CLIPSeg",
    "setting": "demo",
    "published": "CIDAS/clipseg-rd64-refined",
    "together": "",
    "understands": """\
It understands phrases ("a red circle", "striped square", "the blue thing") and exemplars: an
object shown in another image, or several, which ask for what they have in common. Half of the
scenes of training hold outlines without a name, which only exemplars can ask for. Of a shape that
it never met, exemplars carry colour and texture, and a part of the outline. By itself, a noun that
it never met nearly always finds nothing; "big" or "shiny" beside what it knows changes nothing.""",
    "learns": """\
Text tower, vision tower and decoder are trained together
on masks of generated scenes; the published checkpoints keep CLIP frozen instead. The input is
96 x 96 pixels in patches of 8.""",
}
GROUPVIT = {
    "title": "GroupViT",
    "setting": "demo-groupvit",
    "published": "nvidia/groupvit-gcc-yfcc",
    "together": "; a vocabulary\nnames everything in the scene at once, plainly",
    "understands": """\
It understands phrases ("a red circle", "striped square", "the blue thing"). They compete: what
one phrase wins of a patch, the others lose, so that a mask depends on what else is asked for. It
was not trained on exemplars.""",
    "learns": """\
The text tower and the blocks of the first stage began as those of
the demo CLIPSeg. Everything is trained together on masks of generated scenes, through the same
competition of labels and background that later makes the masks. The published checkpoints learned
to group from captions alone, 26 million of them; in minutes, that does not happen. Templates and
background similarity in `config.json` are those of training.
The input is 96 pixels on the shorter side in patches of 8.""",
}
BY_NAME = {"clipseg": CLIPSEG, "groupvit": GROUPVIT}


def write(folder: Path, name: str, rows: Sequence[Row], made: str) -> None:
    """Write `README.md` beside the weights of a model family's demo.

    Args:
        folder: Where the checkpoint is.
        name: The family, as `Segmenter` calls it.
        rows: What `evaluate` measured.
        made: The steps and how long they took.
    """
    measured = {row.kind: row for row in rows}
    shown = [*KINDS, EXEMPLAR] if name == "clipseg" else [*VOCABULARIES.values(), *KINDS]
    lacking = measured[ABSENT]
    text = TEXT.format(
        name=name,
        shapes=", ".join(KNOWN_SHAPES),
        colours=", ".join(KNOWN_COLOURS),
        textures=", ".join(KNOWN_TEXTURES),
        scenes=measured["shape"].prompts,
        seed=SEED,
        threshold=THRESHOLD,
        rows="\n".join(
            f"| {kind} | {measured[kind].score:.3f} | {measured[kind].prompts} |" for kind in shown
        ),
        absent=100 * lacking.score,
        absents=lacking.prompts,
        made=made,
        **BY_NAME[name],
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
