"""`python -m demo.train`: the demo checkpoint from nothing, on a processor, under an hour.

Everything is trained together, unlike the published checkpoints, whose CLIP was frozen: text
tower, vision tower and decoder learn from masks of generated scenes. Two helpers make it quick,
and both are thrown away afterwards: small heads that name the shape, colour and texture of every
patch and of every condition, and CLIP's contrast between exemplars and their descriptions.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from demo import CHECKPOINT, card, pool, vocabulary
from demo.evaluate import evaluate
from demo.losses import Helpers, contrast_loss, mask_loss
from demo.optimiser import Muon
from demo.pool import Batch, Sampler
from models import (
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPSegTextConfig,
    CLIPSegVisionConfig,
    CLIPTokenizer,
    ImageProcessor,
    Segmenter,
    checkpoint,
)
from models.layers import Attention

FIRST_SEED = 10_000_000  # of the training scenes; evaluation draws its seeds below
SAVE_EVERY = 500
CARD_SCENES = 1000  # for the card: at 200, an IoU is uncertain by 0.02


@dataclass(frozen=True)
class Recipe:
    """What is trained, and for how long; the defaults make the shipped checkpoint."""

    steps: int = 6000
    minutes: float = 54  # of training at most: a slow machine takes fewer steps
    scenes: int = 16_000
    seed: int = 0
    side: int = 96
    patch: int = 8
    width: int = 160
    depth: int = 6
    extract: tuple[int, ...] = (1, 3, 5)
    text_width: int = 96
    joint: int = 128
    reduce: int = 64
    decoder_hidden: int = 256
    decoder_heads: int = 2
    refined: bool = False
    images: int = 16
    prompts: int = 5
    exemplars: int = 8
    rate: float = 2e-3  # of Muon; at 5e-3 training breaks down after 400 steps
    rest: float = 0.5  # AdamW's rate for all that is no matrix, in parts of Muon's
    warm_up: int = 100
    decay: float = 0.1
    average: float = 0.998
    naming: float = 0.5  # weight of the patch heads
    speaking: float = 0.1  # weight of the condition heads
    contrast: float = 0.1


def configuration(recipe: Recipe, vocabulary_size: int) -> CLIPSegConfig:
    """The architecture of a recipe."""
    return CLIPSegConfig(
        text_config=CLIPSegTextConfig(
            vocab_size=vocabulary_size,
            hidden_size=recipe.text_width,
            intermediate_size=4 * recipe.text_width,
            num_hidden_layers=3,
            num_attention_heads=recipe.text_width // 32,
            bos_token_id=vocabulary_size - 2,
            eos_token_id=vocabulary_size - 1,
            pad_token_id=vocabulary_size - 1,
        ),
        vision_config=CLIPSegVisionConfig(
            hidden_size=recipe.width,
            intermediate_size=4 * recipe.width,
            num_hidden_layers=recipe.depth,
            num_attention_heads=recipe.width // 32,
            image_size=recipe.side,
            patch_size=recipe.patch,
        ),
        projection_dim=recipe.joint,
        extract_layers=list(recipe.extract),
        reduce_dim=recipe.reduce,
        decoder_num_attention_heads=recipe.decoder_heads,
        decoder_intermediate_size=recipe.decoder_hidden,
        use_complex_transposed_convolution=recipe.refined,
    )


def _attend(layer: Attention, x: Tensor, mask: Tensor | None = None, **_: object) -> Tensor:
    """`Attention.forward` spelled out: in bfloat16 the fused kernel's backward is 2x slower."""
    q, k, v = (layer._split(p(x)) for p in (layer.q_proj, layer.k_proj, layer.v_proj))
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e4)
    weights = torch.softmax(scores, dim=-1, dtype=scores.dtype)
    return layer.out_proj((weights @ v).transpose(1, 2).flatten(2))


def _inside_a_layer(name: str) -> bool:
    return "embedding" not in name and any(
        part in name for part in (".layers.", ".reduces.", ".film_", "_projection.")
    )


class Trainer:
    """A model and everything that makes it learn; `step` takes one batch."""

    def __init__(self, recipe: Recipe, data: pool.Pool, processor: ImageProcessor) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.processor = recipe, processor
        tokenizer = vocabulary.build()
        self.tokenizer = CLIPTokenizer(tokenizer)
        self.model = CLIPSegForImageSegmentation(
            configuration(recipe, tokenizer.get_vocab_size())
        ).train()
        for module in self.model.modules():
            if isinstance(module, Attention):
                module.forward = _attend.__get__(module)  # type: ignore[method-assign]
        self.helpers = Helpers(recipe.width, recipe.joint)
        self.batches = iter(
            Sampler(
                data, recipe.seed, recipe.images, recipe.prompts, recipe.exemplars, recipe.patch
            )
        )
        named = [*self.model.named_parameters(), *self.helpers.named_parameters()]
        self.parameters = [p for _, p in named]
        inner = {name for name, p in named if p.ndim == 2 and _inside_a_layer(name)}
        self.optimisers: tuple[torch.optim.Optimizer, ...] = (
            Muon([p for name, p in named if name in inner], recipe.rate, decay=recipe.decay),
            torch.optim.AdamW(
                [p for name, p in named if name not in inner],
                recipe.rate,
                betas=(0.9, 0.98),
                weight_decay=0.0,
                fused=True,
            ),
        )
        self.averaged = [p.detach().clone() for p in self.model.parameters()]
        self.done = 0
        self.started = time.monotonic()

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

    def _normalised(self, pixels: Tensor) -> Tensor:
        mean, std = (
            torch.tensor(values).view(3, 1, 1)
            for values in (self.processor.mean, self.processor.std)
        )
        return (pixels - mean) / std

    def step(self) -> tuple[float, float]:
        """Learn from one batch: its loss, and the mean IoU where there was something to find."""
        batch = next(self.batches)
        with torch.autocast("cpu", torch.bfloat16):
            loss, logits = self._loss(batch)
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
            overlap = _iou(logits > 0, batch_targets(batch, logits) > 0.5)
        return loss.item(), overlap

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        model, recipe, shown = self.model, self.recipe, len(batch.exemplars)
        activations = model.encode_image(self._normalised(batch.pixels))
        said = model.get_conditional_embeddings(
            **self.tokenizer(batch.texts + batch.exemplar_texts)
        )
        seen = model.get_conditional_embeddings(
            conditional_pixel_values=self._normalised(batch.exemplars)
        )
        texts, described = said[:-shown].float(), said[-shown:].float()
        seen = seen.float()
        # Some prompts lie between words and picture, so that either, or both, can be asked with.
        blend = (torch.rand(shown, 1) * 2 - 1).clamp(min=0)
        conditions = torch.cat([texts, torch.lerp(seen, described, blend)])
        reduced = [r[batch.rows] for r in model.decoder.reduce(activations)]
        grid = (recipe.side // recipe.patch,) * 2
        logits = model.decoder(reduced, conditions, grid).float()
        loss = mask_loss(logits, batch_targets(batch, logits))
        loss = loss + recipe.naming * self.helpers.naming_loss(activations[-1], batch.patches)
        loss = loss + recipe.speaking * self.helpers.speaking_loss(
            torch.cat([texts, seen]), batch.traits
        )
        loss = loss + recipe.contrast * contrast_loss(
            seen, described, model.clip.logit_scale, batch.traits[-shown:]
        )
        return loss, logits.detach()

    def go_on_from(self, folder: Path) -> None:
        """Take the weights of a checkpoint of this architecture as the beginning."""
        checkpoint.load_weights(self.model, folder)
        self.averaged = [p.detach().clone() for p in self.model.parameters()]

    def save(self, folder: Path) -> None:
        """Write the averaged weights and what belongs to them as a Hugging Face folder."""
        model = CLIPSegForImageSegmentation(self.model.config)
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), self.averaged, strict=True):
                parameter.copy_(value)
        model.save_pretrained(folder, dtype=torch.float16)
        self.tokenizer.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(
            json.dumps(self.processor.to_dict(), indent=2) + "\n", encoding="utf-8"
        )


def batch_targets(batch: Batch, logits: Tensor) -> Tensor:
    """The targets at the size of the logits: the refined head draws smaller masks."""
    if logits.shape[-1] == batch.targets.shape[-1]:
        return batch.targets
    return F.interpolate(batch.targets[None], logits.shape[-2:], mode="area")[0]


def _iou(guess: Tensor, truth: Tensor) -> float:
    there = truth.flatten(1).any(dim=1)
    guess, truth = guess[there].flatten(1), truth[there].flatten(1)
    return ((guess & truth).sum(1) / (guess | truth).sum(1)).mean().item()


def run(recipe: Recipe, folder: Path, threads: int, start: Path | None = None) -> None:
    """Draw the scenes, train (on from a checkpoint, if given), save, evaluate, write the card."""
    started = time.monotonic()
    processor = ImageProcessor(recipe.side, recipe.side)
    data = pool.generate(
        recipe.scenes, FIRST_SEED + recipe.seed * recipe.scenes, processor, threads
    )
    trainer = Trainer(recipe, data, processor)
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
    card.write(folder, evaluate(Segmenter.from_pretrained(folder), CARD_SCENES), made)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(prog="python -m demo.train", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=CHECKPOINT)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--minutes", type=float, default=Recipe.minutes)
    parser.add_argument("--scenes", type=int, default=Recipe.scenes)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=Recipe.rate)
    parser.add_argument("--start", type=Path, help="a checkpoint to train on from")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    recipe = Recipe(
        steps=options.steps,
        minutes=options.minutes,
        scenes=options.scenes,
        seed=options.seed,
        rate=options.rate,
    )
    run(recipe, options.out, options.threads, options.start)


if __name__ == "__main__":
    main()
