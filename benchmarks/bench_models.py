"""Both models beside transformers: the same random full-size weights, in one process.

The reference is taken at its better: one batch of (image, prompt) pairs, or one pair at a time.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from models import CLIPSegForImageSegmentation, GroupViTModel
from models.engines import PROMPTS_PER_PASS
from models.fast import FastCLIPSeg, Packed

SIDE = 352
PHRASE = 9  # tokens
REPEATS = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One piece of work; seconds, and the ratios to the reference."""

    work: str
    reference: float
    fp32: float
    bf16: float | None

    def __str__(self) -> str:
        half = "| | |"
        if self.bf16 is not None:
            half = f"| {1000 * self.bf16:.0f} | {self.reference / self.bf16:.1f}x |"
        return (
            f"| {self.work} | {1000 * self.reference:.0f} | {1000 * self.fp32:.0f} "
            f"| {self.reference / self.fp32:.1f}x {half}"
        )


def median(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Seconds, after one run to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak(dtype: torch.dtype) -> float:
    """GFLOP/s of a packed product of the towers' size."""
    weight, x = torch.randn(3072, 768), torch.randn(485, 768, dtype=dtype)
    packed = Packed(weight, torch.zeros(3072), dtype)
    return 2 * 485 * 768 * 3072 / median(lambda: packed(x), 30) / 1e9


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
        self.fast = {d: FastCLIPSeg(self.plain, d) for d in (torch.float32, torch.bfloat16)}
        self.pixels = torch.randn(1, 3, SIDE, SIDE)
        self.ids = torch.randint(1000, 40000, (80, PHRASE))
        self.ids[:, -1] = 49407
        self.conditions = self.plain.get_conditional_embeddings(self.ids)
        self.grid = self.plain.grid(self.pixels)

    def pair(self, count: int = 1) -> Tensor:
        """The reference on one image with its first `count` prompts, as one batch."""
        pixels = self.pixels.expand(count, -1, -1, -1)
        logits: Tensor = self.reference(pixel_values=pixels, input_ids=self.ids[:count]).logits
        return logits

    def decode(self, dtype: torch.dtype, reduced: list[Tensor], count: int) -> Tensor:
        """Our logits of the first `count` prompts on an encoded image."""
        parts = self.conditions[:count].split(PROMPTS_PER_PASS)
        return torch.cat([self.fast[dtype].decode(reduced, part, self.grid) for part in parts])

    def whole(self, dtype: torch.dtype, count: int) -> Tensor:
        """Our logits, from the pixels on; texts are remembered, as a segmenter does."""
        return self.decode(dtype, self.fast[dtype].encode(self.pixels), count)

    def rows(self) -> list[Row]:
        """Every piece of work."""
        single = median(self.pair)
        batch = median(lambda: self.pair(5), 3)
        rows = []
        halves = (torch.float32, torch.bfloat16)
        for count in tqdm((1, 5, 20, 80), desc="prompts", disable=None):
            best = min(batch, 5 * single) / 5 * count if count > 1 else single
            ours = [median(lambda d=d, c=count: self.whole(d, c), 3) for d in halves]  # type: ignore[misc]
            rows.append(Row(f"1 image, {count} prompts", best, *ours))
        encoded = {d: self.fast[d].encode(self.pixels) for d in halves}
        for count in (1, 5):
            best = min(batch, 5 * single) / 5 * count if count > 1 else single
            ours = [
                median(lambda d=d, c=count: self.decode(d, encoded[d], c), 20)  # type: ignore[misc]
                for d in halves
            ]
            rows.append(Row(f"{count} more prompts, image encoded", best, *ours))
        return rows

    def agreement(self) -> list[str]:
        """How far the logits are from the reference's, and how the masks agree."""
        expected = self.pair(5)
        lines = []
        for dtype in (torch.float32, torch.bfloat16):
            found = self.whole(dtype, 5)
            off = float((found - expected).abs().max() / expected.std())
            middle = expected.flatten(1).median(dim=1).values[:, None, None]
            a, b = found > middle, expected > middle
            overlap = ((a & b).flatten(1).sum(1) / (a | b).flatten(1).sum(1)).min()
            lines.append(
                f"- {str(dtype).removeprefix('torch.')}: largest logit difference "
                f"{off:.1e} of the logits' spread, least mask IoU {overlap:.4f}"
            )
        return lines


def groupvit_row() -> Row:
    """GroupViT at full size: one image, 80 labels whose embeddings are remembered."""
    import transformers

    torch.manual_seed(0)
    reference = transformers.GroupViTModel(transformers.GroupViTConfig()).eval()
    with tempfile.TemporaryDirectory() as folder:
        reference.save_pretrained(folder)
        ours = GroupViTModel.from_pretrained(folder)
    ids = torch.randint(1000, 40000, (80, PHRASE))
    ids[:, -1] = 49407
    pixels = torch.randn(1, 3, 224, 224)
    texts = torch.nn.functional.normalize(ours.get_text_features(ids), dim=-1)

    def patches() -> Tensor:
        from models.outputs import Trace

        trace = Trace(attentions=True)
        groups = ours.vision_model(pixels, trace).last_hidden_state
        likeness = ours.group_similarity(groups, texts)
        maps = ours.group_maps(trace.attentions or (), pixels)
        return torch.einsum("bgn,bghw->bnhw", likeness, maps)

    def half() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return patches()

    theirs = median(lambda: reference(pixel_values=pixels, input_ids=ids, output_segmentation=True))
    return Row("GroupViT, 1 image, 80 labels", theirs, median(patches), median(half))


def table() -> str:
    """Markdown."""
    warnings.filterwarnings("ignore")
    with torch.inference_mode():
        bench = CLIPSegBench()
        rows = [*bench.rows(), groupvit_row()]
        lines = [
            "| work | transformers ms | float32 ms | ratio | bfloat16 ms | ratio |",
            "|---|---:|---:|---:|---:|---:|",
            *map(str, rows),
            "",
            *bench.agreement(),
            f"- product of the towers' size: {peak(torch.float32):.0f} GFLOP/s in float32, "
            f"{peak(torch.bfloat16):.0f} in bfloat16",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    torch.manual_seed(0)
    sys.stdout.write(table() + "\n")
    sys.stdout.write(f"{Path(__file__).name}: {torch.get_num_threads()} threads\n")
