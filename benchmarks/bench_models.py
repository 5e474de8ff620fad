"""Both models beside transformers: the same random full-size weights, in one process.

The reference is taken at its better: one batch of (image, prompt) pairs, or one pair at a time.
A row is measured in `ROUNDS` rounds, the reference right beside ours, since a shared machine's
speed wanders; its ratio is the median of the rounds', with the least and the largest.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from models import CLIPSegForImageSegmentation, GroupViTModel
from models.engines import PROMPTS_PER_PASS
from models.fast import FastCLIPSeg, FastGroupViT
from models.outputs import Trace
from models.packed import Packed

SIDE = 352
GRID = (22, 22)
PHRASE = 9  # tokens
ROUNDS = 3
BATCH = 8  # of the training step
HALVES = (torch.float32, torch.bfloat16)

Times = dict[torch.dtype, float]


@dataclass(slots=True)
class Row:
    """One piece of work: its operations, and seconds per round of the reference and of ours."""

    work: str
    flops: float
    reference: list[float] = field(default_factory=list)
    ours: dict[torch.dtype, list[float]] = field(default_factory=lambda: {d: [] for d in HALVES})

    def line(self, peaks: Times) -> str:
        """The row in Markdown; the share is of the peak of a product of the towers' size."""
        cells = [self.work, f"{1000 * statistics.median(self.reference):.0f}"]
        for dtype in HALVES:
            seconds = statistics.median(self.ours[dtype])
            ratios = [r / o for r, o in zip(self.reference, self.ours[dtype], strict=True)]
            middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
            share = self.flops / seconds / peaks[dtype]
            cells += [
                f"{1000 * seconds:.1f}",
                f"**{middle:.1f}x** ({least:.1f} to {most:.1f})",
                f"{100 * share:.0f} %",
            ]
        return "| " + " | ".join(cells) + " |"


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """The median, after one run to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak(dtype: torch.dtype) -> float:
    """Operations per second of a packed product of the towers' size."""
    weight, x = torch.randn(3072, 768), torch.randn(485, 768, dtype=dtype)
    packed = Packed(weight, torch.zeros(3072), dtype)
    return 2 * 485 * 768 * 3072 / seconds(lambda: packed(x), 50)


def operations(work: Callable[[], Any]) -> float:
    """Floating-point operations of some work on plain modules."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


class CLIPSegBench:
    """CLIPSeg at full size with the refined head."""

    def __init__(self) -> None:
        import transformers

        torch.manual_seed(0)
        config = transformers.CLIPSegConfig(
            vision_config={"patch_size": 16}, use_complex_transposed_convolution=True
        )
        self.reference = transformers.CLIPSegForImageSegmentation(config).eval()
        for name, module in self.reference.decoder.named_modules():
            # a fresh reference has logits of the order of 500, which no comparison survives
            if "layers" not in name and hasattr(module, "reset_parameters"):
                module.reset_parameters()
        with tempfile.TemporaryDirectory() as folder:
            self.reference.save_pretrained(folder)
            self.plain = CLIPSegForImageSegmentation.from_pretrained(folder).requires_grad_(False)
        self.fast = {dtype: FastCLIPSeg(self.plain, dtype) for dtype in HALVES}
        self.pixels = torch.randn(1, 3, SIDE, SIDE)
        self.ids = torch.randint(1000, 40000, (80, PHRASE))
        self.ids[:, -1] = 49407
        with torch.inference_mode():
            self.conditions = self.plain.get_conditional_embeddings(self.ids)
        self.encoded = {dtype: self.fast[dtype].encode(self.pixels) for dtype in HALVES}

    def pair(self, count: int = 1) -> Tensor:
        """The reference on one image with its first `count` prompts, as one batch."""
        pixels = self.pixels.expand(count, -1, -1, -1)
        logits: Tensor = self.reference(pixel_values=pixels, input_ids=self.ids[:count]).logits
        return logits

    def decode(self, dtype: torch.dtype, reduced: list[Tensor], count: int) -> Tensor:
        """Our logits of the first `count` prompts on an encoded image."""
        parts = self.conditions[:count].split(PROMPTS_PER_PASS)
        return torch.cat([self.fast[dtype].decode(reduced, part, GRID) for part in parts])

    def whole(self, dtype: torch.dtype, count: int) -> Tensor:
        """Our logits, from the pixels on; texts are remembered, as a segmenter does."""
        return self.decode(dtype, self.fast[dtype].encode(self.pixels), count)

    def several(self, dtype: torch.dtype, images: int, count: int) -> None:
        """As many images with as many prompts each."""
        for _ in range(images):
            self.whole(dtype, count)

    def rows(self) -> Iterator[Row]:
        """Every piece of work; the reference's pairs are measured once per round."""
        encoding = operations(lambda: self.plain.encode_image(self.pixels))
        activations = self.plain.encode_image(self.pixels)
        reducing = operations(lambda: self.plain.decoder.reduce(activations))
        decoding = operations(lambda: self.plain.decode(activations, self.conditions[:1], GRID))
        once, each = encoding + reducing, decoding - reducing
        new = {n: Row(f"1 image, {n} prompts", once + n * each) for n in (5, 20, 80)}
        new[1] = Row("1 image, 1 prompt", once + each)
        more = {
            1: Row("another prompt, image encoded", each),
            5: Row("5 prompts, image encoded", 5 * each),
        }
        many = Row("16 images, 5 prompts each", 16 * (once + 5 * each))
        for _ in tqdm(range(ROUNDS), desc="clipseg", unit="round", disable=None):
            pairs = self._pairs()
            for count, row in new.items():
                row.reference.append(pairs[count])
                for dtype in HALVES:
                    row.ours[dtype].append(seconds(lambda d=dtype, n=count: self.whole(d, n)))  # type: ignore[misc]
            for count, row in more.items():
                row.reference.append(pairs[count])
                for dtype in HALVES:
                    row.ours[dtype].append(
                        seconds(lambda d=dtype, n=count: self.decode(d, self.encoded[d], n), 20)  # type: ignore[misc]
                    )
            many.reference.append(pairs[80])
            for dtype in HALVES:
                many.ours[dtype].append(seconds(lambda d=dtype: self.several(d, 16, 5), 1))  # type: ignore[misc]
        yield from (*(new[n] for n in (1, 5, 20, 80)), *more.values(), many)

    def _pairs(self) -> dict[int, float]:
        """Seconds of the reference for 1, 5, 20 and 80 pairs, each at its better.

        One pair at a time costs the same every time, and larger batches than 5 cost more per
        pair, so 80 are four times 20.
        """
        single = seconds(self.pair, 5)
        five = min(5 * single, seconds(lambda: self.pair(5), 2))
        twenty = min(4 * five, seconds(lambda: [self.pair() for _ in range(20)], 1))
        return {1: single, 5: five, 20: twenty, 80: 4 * twenty}

    def training(self) -> Row:
        """A step of the decoder: ours on remembered activations, the reference from pixels."""
        pixels, ids = self.pixels.expand(BATCH, -1, -1, -1), self.ids[:BATCH]
        targets = torch.rand(BATCH, SIDE, SIDE).round()
        activations = [torch.randn(BATCH, 485, 768) for _ in range(3)]
        conditions = self.conditions[:BATCH].clone()
        theirs, ours = self.reference.decoder, self.plain.decoder.train().requires_grad_(True)
        optimisers = [torch.optim.AdamW(d.parameters(), 1e-4, fused=True) for d in (theirs, ours)]

        def reference() -> None:
            output = self.reference(pixel_values=pixels, input_ids=ids, labels=targets)
            _learn(optimisers[0], output.loss)

        def step(dtype: torch.dtype) -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
                logits = ours(ours.reduce(activations), conditions, GRID)
            _learn(optimisers[1], F.binary_cross_entropy_with_logits(logits.float(), targets))

        row = Row(f"a training step, batch {BATCH}", operations(lambda: step(torch.float32)))
        for _ in tqdm(range(ROUNDS), desc="training", unit="round", disable=None):
            row.reference.append(seconds(reference, 1))
            for dtype in HALVES:
                row.ours[dtype].append(seconds(lambda d=dtype: step(d), 5))  # type: ignore[misc]
        return row

    def agreement(self) -> list[str]:
        """How far the logits are from the reference's, and how the masks agree."""
        expected = self.pair(5)
        lines = []
        for dtype in HALVES:
            found = self.whole(dtype, 5)
            off = float((found - expected).abs().max() / expected.std())
            middle = expected.flatten(1).median(dim=1).values[:, None, None]
            a, b = found > middle, expected > middle
            overlap = ((a & b).flatten(1).sum(1) / (a | b).flatten(1).sum(1)).min()
            lines.append(
                f"- CLIPSeg in {name(dtype)}: largest logit difference "
                f"{off:.1e} of the logits' spread, least mask IoU {overlap:.4f}"
            )
        return lines


def _learn(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


class GroupViTBench:
    """GroupViT at full size: one image of 224x224, 80 labels whose embeddings are remembered."""

    def __init__(self) -> None:
        import transformers

        torch.manual_seed(0)
        self.reference = transformers.GroupViTModel(transformers.GroupViTConfig()).eval()
        with tempfile.TemporaryDirectory() as folder:
            self.reference.save_pretrained(folder)
            self.plain = GroupViTModel.from_pretrained(folder)
        self.ids = torch.randint(1000, 40000, (80, PHRASE))
        self.ids[:, -1] = 49407
        self.pixels = torch.randn(1, 3, 224, 224)
        self.texts = F.normalize(self.plain.get_text_features(self.ids), dim=-1)
        self.fast = {dtype: FastGroupViT(self.plain, dtype) for dtype in HALVES}

    def logits(self, dtype: torch.dtype) -> Tensor:
        """Logits of the patches: (1, 80, 14, 14); only a winner's need the pixels' size."""
        trace = Trace(attentions=True)
        groups = self.fast[dtype].encode(self.pixels, trace)
        likeness = self.plain.group_similarity(groups, self.texts)
        maps = self.plain.group_maps(trace.attentions or (), self.pixels)
        return torch.einsum("bgn,bghw->bnhw", likeness, maps)

    def theirs(self) -> Tensor:
        """The reference's logits, at the pixels' size."""
        output = self.reference(
            pixel_values=self.pixels, input_ids=self.ids, output_segmentation=True
        )
        logits: Tensor = output.segmentation_logits
        return logits

    def row(self) -> Row:
        """Our time beside the reference's."""
        flops = operations(lambda: self.plain.vision_model(self.pixels))
        row = Row("GroupViT, 1 image, 80 labels", flops)
        for _ in range(ROUNDS):
            row.reference.append(seconds(self.theirs, 9))
            for dtype in HALVES:
                row.ours[dtype].append(seconds(lambda d=dtype: self.logits(d), 15))  # type: ignore[misc]
        return row

    def agreement(self) -> list[str]:
        """How often a pixel has the reference's label."""
        expected = self.theirs().argmax(dim=1)
        lines = []
        for dtype in HALVES:
            full = F.interpolate(self.logits(dtype), expected.shape[-2:], mode="bilinear")
            same = (full.argmax(dim=1) == expected).float().mean()
            lines.append(f"- GroupViT in {name(dtype)}: {100 * same:.2f} % of pixels agree")
        return lines


def name(dtype: torch.dtype) -> str:
    """As in `torch.float32`, without the module."""
    return str(dtype).removeprefix("torch.")


def table() -> str:
    """Markdown."""
    warnings.filterwarnings("ignore")
    peaks = {dtype: peak(dtype) for dtype in HALVES}
    with torch.inference_mode():
        groupvit = GroupViTBench()
        last, agreed = groupvit.row(), groupvit.agreement()
    clipseg = CLIPSegBench()
    with torch.inference_mode():
        rows = list(clipseg.rows())
        agreed = clipseg.agreement() + agreed
    rows += [clipseg.training(), last]
    gigas = ", ".join(f"{peaks[d] / 1e9:.0f} GFLOP/s in {name(d)}" for d in HALVES)
    return "\n".join(
        [
            "| work | transformers ms | float32 ms | ratio | of peak "
            "| bfloat16 ms | ratio | of peak |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
            *(row.line(peaks) for row in rows),
            "",
            *agreed,
            f"- peak, a product of the towers' size: {gigas}, {torch.get_num_threads()} threads",
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
