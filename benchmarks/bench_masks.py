"""What is around the model on a large photograph, and what many prompts cost in memory.

The model has the published size and random weights. Memory is the peak of a process of its own.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from backend.inference.asking import Asking
from backend.inference.features import FeatureCache
from backend.inference.predictor import Predictor
from backend.labelstudio import brush
from backend.prompting import Query
from benchmarks.bench_models import seconds
from demo import vocabulary
from models import (
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPTokenizer,
    ImageProcessor,
    Segmenter,
)

MOST = 80  # prompts
SIZE = (4000, 3000)
FEW = 5


def segmenter() -> Segmenter:
    """CLIPSeg of the published size with the refined head."""
    torch.manual_seed(0)
    config = CLIPSegConfig(
        vision_config={"patch_size": 16}, use_complex_transposed_convolution=True
    )
    tokenizer = CLIPTokenizer(vocabulary.build())
    return Segmenter(
        CLIPSegForImageSegmentation(config), tokenizer, ImageProcessor(352, 352), device="cpu"
    )


def peak_memory(prompts: int) -> int:
    """Bytes that a process needs at most for one image with as many prompts."""
    command = [sys.executable, "-m", __name__.replace("__main__", "benchmarks.bench_masks")]
    told = subprocess.run([*command, str(prompts)], capture_output=True, text=True, check=True)
    return int(told.stdout)


def ask(prompts: int) -> None:
    """One image, as many prompts, then the peak in bytes on standard output."""
    model = segmenter()
    conditions = torch.randn(prompts, model.model.config.projection_dim)
    (features,) = model.encode_image(Image.new("RGB", (640, 480)))
    model.probabilities(features, conditions)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(str(kilobytes * 1024))


def photograph(path: Path) -> None:
    """A soft picture of 12 megapixels as JPEG."""
    small = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(small).resize(SIZE, Image.Resampling.BICUBIC).save(path, quality=90)


def blobs(count: int) -> Tensor:
    """Probabilities as a trained model gives: soft shapes, (count, 352, 352)."""
    noise = torch.randn(1, count, 12, 12, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(noise, (352, 352), mode="bicubic")[0].sigmoid()


def shares() -> str:
    """Milliseconds of each part of 5 prompts on a 4000x3000 image."""
    model = segmenter()
    predictor = Predictor(model, FeatureCache(0))
    conditions = torch.randn(FEW, model.model.config.projection_dim)
    shapes = blobs(FEW)
    model.probabilities = lambda *_: shapes  # type: ignore[method-assign]
    queries = {
        Query("image", str(i), (str(i),), 0.5, ()): Asking.only(one)
        for i, one in enumerate(conditions.unbind())
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.jpg"
        photograph(path)
        opening = seconds(lambda: Image.open(path).convert("RGB"))
        image = Image.open(path).convert("RGB")
    encoding = seconds(lambda: model.encode_image([image]))
    (features,) = model.encode_image([image])
    decoding = seconds(lambda: type(model).probabilities(model, features, conditions))
    masking = seconds(lambda: predictor.find(features, queries))
    masks = [found.mask for found in predictor.find(features, queries) if found.mask is not None]
    packing = seconds(lambda: [brush.encode(mask) for mask in masks])
    whole = opening + encoding + decoding + masking + packing
    parts = {
        "read and decode the JPEG": opening,
        "encode": encoding,
        f"{FEW} prompts": decoding,
        "clean, bring to full size, threshold": masking,
        "pack as RLE": packing,
    }
    lines = ["| part | ms | share |", "|---|---:|---:|"]
    lines += [f"| {n} | {1000 * s:.0f} | {100 * s / whole:.0f} % |" for n, s in parts.items()]
    after = 100 * (masking + packing) / whole
    return "\n".join(
        [*lines, "", f"- masks at full size and their RLE: {after:.0f} % of the whole"]
    )


def memory() -> str:
    """The peak with many prompts beside that with one."""
    one, many = peak_memory(1), peak_memory(MOST)
    masks = MOST * 352 * 352 * 4
    return (
        f"- peak memory with 1 prompt {one / 2**20:.0f} MB, with {MOST} prompts "
        f"{many / 2**20:.0f} MB, of which {masks / 2**20:.0f} MB are the masks themselves: "
        f"{(many - masks) / one:.2f}x without them"
    )


def table() -> str:
    """Markdown."""
    return shares() + "\n" + memory()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        ask(int(sys.argv[1]))
    else:
        sys.stdout.write(table() + "\n")
