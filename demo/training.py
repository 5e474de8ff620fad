"""What training both demo checkpoints has in common: from drawing scenes to the model card."""

import argparse
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from demo import card, pool, vocabulary
from demo.evaluate import evaluate
from demo.losses import Helpers
from demo.optimiser import Muon
from models import CLIPTokenizer, ImageProcessor, Segmenter, checkpoint
from models.layers import Attention
from models.pretrained import PretrainedModel

FIRST_SEED = 10_000_000  # of the training scenes; evaluation draws its seeds below
SAVE_EVERY = 500
CARD_SCENES = 1000  # for the card: at 200, an IoU is uncertain by 0.02


@dataclass(frozen=True)
class Recipe:
    """What is trained, and for how long; each model's own gives the values."""

    steps: int = 3000
    minutes: float = math.inf  # of training at most: a slow machine takes fewer steps
    scenes: int = 16_000
    seed: int = 0
    side: int = 96
    patch: int = 8
    width: int = 160
    text_width: int = 96
    joint: int = 128
    images: int = 16
    rate: float = 2e-3  # of Muon; at 5e-3 training breaks down after 400 steps
    rest: float = 0.5  # AdamW's rate for all that is no matrix, in parts of Muon's
    warm_up: int = 100
    decay: float = 0.1
    average: float = 0.998
    naming: float = 0.5  # weight of the patch heads
    speaking: float = 0.1  # weight of the condition heads


def text_shape(recipe: Recipe, vocabulary_size: int) -> dict[str, int]:
    """The fields of a text tower's configuration, the same for both models."""
    return {
        "vocab_size": vocabulary_size,
        "hidden_size": recipe.text_width,
        "intermediate_size": 4 * recipe.text_width,
        "num_hidden_layers": 3,
        "num_attention_heads": recipe.text_width // 32,
        "bos_token_id": vocabulary_size - 2,
        "eos_token_id": vocabulary_size - 1,
        "pad_token_id": vocabulary_size - 1,
    }


M = TypeVar("M", bound=PretrainedModel)
R = TypeVar("R", bound=Recipe)


def attend(
    layer: Attention,
    x: Tensor,
    mask: Tensor | None = None,
    context: Tensor | None = None,
    **_: object,
) -> Tensor:
    """`Attention.forward` spelled out: in bfloat16 the fused kernel's backward is 2x slower."""
    context = x if context is None else context
    q = layer._split(layer.q_proj(x))
    k, v = layer._split(layer.k_proj(context)), layer._split(layer.v_proj(context))
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e4)
    weights = torch.softmax(scores, dim=-1, dtype=scores.dtype)
    return layer.out_proj((weights @ v).transpose(1, 2).flatten(2))


class Trainer(ABC, Generic[M, R]):
    """A model and everything that makes it learn; `step` takes one batch."""

    style = pool.Style()  # of the scenes

    def __init__(self, recipe: R, data: pool.Pool, processor: ImageProcessor) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.processor = recipe, processor
        backend = vocabulary.build()
        self.tokenizer = CLIPTokenizer(backend)
        self.model = self._model(backend.get_vocab_size())
        for module in self.model.modules():
            if isinstance(module, Attention):
                module.forward = attend.__get__(module)  # type: ignore[method-assign]
        self.helpers = Helpers(recipe.width, recipe.joint)
        own = list(self.model.named_parameters())
        matrices = [p for name, p in own if p.ndim == 2 and "embedding" not in name]
        kept = {id(p) for p in matrices}
        rest = [p for _, p in own if id(p) not in kept] + list(self.helpers.parameters())
        self.parameters = [*matrices, *rest]
        self.optimisers: tuple[torch.optim.Optimizer, ...] = (
            Muon(matrices, recipe.rate, decay=recipe.decay),
            torch.optim.AdamW(rest, recipe.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        )
        self.forget_average()
        self.done = 0
        self.started = time.monotonic()

    @abstractmethod
    def _model(self, vocabulary_size: int) -> M:
        """The model to train, with its first weights."""

    @abstractmethod
    def _loss(self) -> tuple[Tensor, float]:
        """The loss of the next batch, and the mean IoU where there was something to find."""

    @property
    def progress(self) -> float:
        """How much of the training is over, 0 to 1, by steps or, on a slow machine, by time."""
        elapsed = (time.monotonic() - self.started) / (60 * self.recipe.minutes)
        return min(1.0, max(self.done / self.recipe.steps, elapsed))

    def _rate(self) -> float:
        """Linear warm-up, then a cosine down to a fiftieth."""
        rise = min(1.0, (self.done + 1) / self.recipe.warm_up)
        fall = 0.5 * (1 + math.cos(math.pi * self.progress))
        return self.recipe.rate * rise * (0.02 + 0.98 * fall)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Pixels in 0..1 as the model takes them: (B, 3, H, W) -> the same."""
        mean, std = (
            torch.tensor(values).view(3, 1, 1)
            for values in (self.processor.mean, self.processor.std)
        )
        return (pixels - mean) / std

    def step(self) -> tuple[float, float]:
        """Learn from one batch: its loss, and the mean IoU where there was something to find."""
        with torch.autocast("cpu", torch.bfloat16):
            loss, overlap = self._loss()
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimiser, share in zip(self.optimisers, (1.0, self.recipe.rest), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = self._rate() * share
            optimiser.step()
        self.done += 1
        keep = min(self.recipe.average, self.done / (self.done + 20))
        with torch.no_grad():
            torch._foreach_lerp_(self.averaged, list(self.model.parameters()), 1 - keep)
        return loss.item(), overlap

    def go_on_from(self, folder: Path) -> None:
        """Take the weights of a checkpoint of this architecture as the beginning."""
        checkpoint.load_weights(self.model, folder)
        self.forget_average()

    def forget_average(self) -> None:
        """Average from the weights as they are now."""
        self.averaged = [p.detach().clone() for p in self.model.parameters()]

    def save(self, folder: Path) -> None:
        """Write the averaged weights and what belongs to them as a Hugging Face folder."""
        model = type(self.model)(self.model.config)
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), self.averaged, strict=True):
                parameter.copy_(value)
        model.save_pretrained(folder, dtype=torch.float16)
        self.tokenizer.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(
            json.dumps(self.processor.to_dict(), indent=2) + "\n", encoding="utf-8"
        )


def run(
    trainer_class: type[Trainer[M, R]],
    recipe: R,
    folder: Path,
    threads: int,
    start: Path | None = None,
) -> None:
    """Draw the scenes, train (on from a checkpoint, if given), save, evaluate, write the card."""
    started = time.monotonic()
    processor = ImageProcessor(recipe.side, recipe.side)
    first = FIRST_SEED + recipe.seed * recipe.scenes
    data = pool.generate(recipe.scenes, first, processor, threads, trainer_class.style)
    trainer = trainer_class(recipe, data, processor)
    if start is not None:
        trainer.go_on_from(start)
    loss = overlap = 0.0
    with tqdm(total=recipe.steps, desc="training", unit="step") as bar:
        while trainer.progress < 1:
            new = trainer.step()
            keep = min(0.98, 1 - 1 / trainer.done)  # a running mean to look at
            loss, overlap = keep * loss + (1 - keep) * new[0], keep * overlap + (1 - keep) * new[1]
            bar.set_postfix(loss=f"{loss:.3f}", IoU=f"{overlap:.3f}", refresh=False)
            bar.update()
            if trainer.done % SAVE_EVERY == 0:
                trainer.save(folder)
    trainer.save(folder)
    minutes = (time.monotonic() - started) / 60
    origin = "nothing" if start is None else f"the weights in `{start.name}`"
    made = f"{trainer.done} steps from {origin} in {minutes:.0f} minutes"
    segmenter = Segmenter.from_pretrained(folder)
    card.write(folder, segmenter.name, evaluate(segmenter, CARD_SCENES), made)


def command(
    trainer_class: type[Trainer[M, R]],
    recipe: R,
    folder: Path,
    arguments: Sequence[str] | None,
    start: Path | None = None,
) -> None:
    """The command line of a trainer: train, on from a start if there is one, and save."""
    parser = argparse.ArgumentParser(description=f"Train {folder.name} and save it.")
    parser.add_argument("--out", type=Path, default=folder)
    parser.add_argument("--steps", type=int, default=recipe.steps)
    parser.add_argument("--minutes", type=float, default=recipe.minutes)
    parser.add_argument("--scenes", type=int, default=recipe.scenes)
    parser.add_argument("--seed", type=int, default=recipe.seed)
    parser.add_argument("--rate", type=float, default=recipe.rate)
    parser.add_argument("--start", type=Path, default=start, help="a checkpoint to train on from")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    told = ("steps", "minutes", "scenes", "seed", "rate")
    recipe = replace(recipe, **{name: getattr(options, name) for name in told})
    run(trainer_class, recipe, options.out, options.threads, options.start)
