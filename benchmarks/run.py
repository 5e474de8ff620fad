"""All benchmarks into `benchmarks/RESULTS.md`: `make bench`."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from pathlib import Path

import torch

from benchmarks import (
    bench_brush,
    bench_busy,
    bench_groupvit,
    bench_interactive,
    bench_masks,
    bench_models,
    bench_outlines,
    bench_overhead,
    bench_probes,
    bench_prompts,
    bench_suggestions,
    bench_verdicts,
    learning_results,
)

RESULTS = Path(__file__).with_name("RESULTS.md")


def machine() -> str:
    """Processor, threads and versions in a line."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0].partition(":")[2].strip() if models else name
    return (
        f"{name}, {os.cpu_count()} cores; Python {platform.python_version()}, "
        f"torch {torch.__version__}; {datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    )


def main() -> None:
    """Run everything and write the results."""
    sections = [
        "# Results",
        "Written by `make bench`. Compare figures within one run only: machines differ, and "
        "shared ones are noisy.",
        f"Machine: {machine()}.",
        "## What the road costs over the model",
        "One image of 640x480, one prompt, demo checkpoint, warm embedded server; every image is "
        "new to it.",
        bench_overhead.table(),
        "## What never waits, while the worker is busy",
        "The demo checkpoint under batches of 40 tasks, one after the other, images encoded anew; "
        "each call 200 times, one at a time, from the same machine.",
        bench_busy.table(),
        "## Brush RLE beside label-studio-sdk",
        "Same process; each side reads what the other wrote before anything is timed.",
        bench_brush.table(),
        "## The models beside transformers",
        "Same process, same random weights of the published size, 352x352 with the refined head; "
        "texts are remembered. The reference is taken at its better, one batch or one prompt at a "
        "time; ratios are the median of three rounds, with the least and the largest. The share of "
        "the peak counts every operation that the work needs against what one packed product of "
        "the towers' size reaches on this machine: no ratio can pass its own divided by it.",
        bench_models.table(),
        "## Smart tools",
        "Mean IoU with the truth on 200 generated scenes that the demo checkpoint never saw, "
        "threshold 0.4. Rectangles give everything like what is in them, unless a phrase is typed; "
        "a keypoint gives the thing under it.",
        bench_interactive.table(),
        "## Suggested phrases",
        "A label called widget-7, which means nothing to the demo checkpoint. Twenty masks of what "
        "it means are accepted; the phrase suggested by them is scored on 100 other scenes beside "
        "every phrase that was tried (mean IoU). Below, what is in one image: each of 200 phrases "
        "of the everyday words gets a mask.",
        bench_suggestions.table(),
        learning_results.kept(),
        "## Exemplars and thresholds from accepted masks",
        "Labels that mean things of a shape which the demo checkpoint was never trained on "
        "(`make bench-prompts`). Mean IoU as served, threshold 0.4, on 60 other scenes, each with "
        'a thing of the same colour and another shape, which of the labels "among its like" has '
        "the same texture, too. The best word names the kind of thing alone, the best description "
        "its texture and colour too; both are chosen in hindsight on the very scenes that judge. "
        "`phrase by 1` is what single masks suggest (`promptbrush suggest`), `1 shown` what the "
        "same masks find as exemplars, each the mean of five masks, one at a time. `mixed` is what "
        "the book serves, less the better of its texts and its exemplars, at its least for three "
        "names of the label: one that means nothing, the best word, the best description. The "
        "second table has the same in the mean over all concepts, and its least among the seeds.",
        bench_prompts.table(),
        "### What one exemplar tells of an outline",
        "Labels mean things of one look, each beside a thing of the same colour and texture and of "
        "another shape: nothing but the outline tells them apart. Colour and texture, said without "
        "a shape, mean both; the best description has the word of a shape, too, in hindsight. Mean "
        "IoU on 60 other scenes, of exemplars the mean of five single masks, and these together.",
        bench_outlines.table(),
        "## A second look at the parts of masks",
        "Labels are accepted on generated scenes of which about half have them, the prompt book is "
        "measured, and 120 other scenes are asked of the demo checkpoint as it says, with its "
        "probes and without, in six rounds: mean IoU where a label is, and the share of images "
        "without it in which something is marked. Names mean nothing (two new shapes and a new "
        'texture), or say too little ("star" of striped stars), or say it ("star" of stars).',
        bench_probes.table(),
        "## How often a verdict is right",
        "What projects of six rounds make of 20 and of 50 accepted tasks is judged on the held-out "
        "ones among them; so is what is no better: from the base checkpoint three tenths as far, "
        "the other way. The gain is of IoU on 120 other scenes, an image without a label with a "
        "weight of a quarter. Held-out tasks are looked at once or in several ways, and a "
        "candidate is asked by the prompt book of before or by one that was measured with it.",
        bench_verdicts.table(),
        "## Tuning GroupViT",
        "The visual projection of the demo GroupViT learns from accepted scenes, and is asked by "
        "the labels' names, the mean of three rounds; the other columns as above.",
        bench_groupvit.table(),
        "## A large photograph, and many prompts",
        "4000x3000 pixels, 5 prompts, published size, float32.",
        bench_masks.table(),
    ]
    RESULTS.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    sys.stdout.write(RESULTS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
