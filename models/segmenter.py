"""The door to the models: encode an image once, then ask it any number of prompts."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from models import checkpoint, exemplar
from models.clip import LEGACY_EOS, check_patches
from models.clipseg import CLIPSegForImageSegmentation
from models.engines import CLIPSegEngine, Engine, GroupViTEngine, ImageFeatures
from models.exemplar import Exemplar
from models.groupvit import GroupViTModel
from models.image_processor import ImageProcessor, displayed
from models.tokenizer import CLIPTokenizer

REMEMBERED_TEXTS = 10_000
TEXTS_PER_PASS = 8  # more gain little, and a text alone costs as much as all of them
STRIP = 128  # rows enlarged at a time


class Segmenter:
    """A checkpoint, ready to answer.

    CLIPSeg judges each condition by itself. GroupViT's conditions compete: what one wins of a
    patch, the others and the background lose.
    """

    def __init__(
        self,
        model: CLIPSegForImageSegmentation | GroupViTModel,
        tokenizer: CLIPTokenizer,
        processor: ImageProcessor,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
    ) -> None:
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.device = torch.device(chosen)
        computed = _dtype(dtype or torch.float32)
        # On a CPU the weights stay in float32, and the products of the fast path are in `dtype`.
        self.precision = computed
        self.dtype = torch.float32 if self.device.type == "cpu" else computed
        self.model = model.eval().requires_grad_(False).to(self.device, self.dtype)
        self.tokenizer = tokenizer
        self.processor = processor
        self._context = int(model.config.text_config.max_position_embeddings)
        self._engine: Engine
        if isinstance(self.model, GroupViTModel):
            self._engine = GroupViTEngine(self.model, processor, computed)
        else:
            self._engine = CLIPSegEngine(self.model, processor, computed)
        self._texts: dict[str, Tensor] = {}

    @property
    def name(self) -> str:
        """The model's family: clipseg or groupvit."""
        return self._engine.name

    @classmethod
    def from_pretrained(
        cls,
        id_or_folder: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
    ) -> Self:
        """Load a checkpoint folder or hub id; device None takes CUDA where there is one.

        Raises:
            CheckpointError: it cannot be found, reached or used, or its parts do not go together.
            TypeError: `dtype` is none of torch's, nor the name of one.
            UnusableDtype: the device cannot compute in it.
        """
        folder = checkpoint.locate(id_or_folder)
        model, tokenizer = load_model(folder), CLIPTokenizer.from_pretrained(folder)
        processor = ImageProcessor.from_pretrained(folder)
        try:
            check_parts(model, tokenizer, processor)
        except ValueError as error:
            raise checkpoint.CheckpointError(f"Checkpoint {folder}: {error}") from None
        return cls(model, tokenizer, processor, device=device, dtype=dtype)

    def with_decoder(self, weights: Mapping[str, Tensor]) -> Self:
        """A segmenter with some parameters replaced, by the model's names; the rest is shared.

        So are texts that were encoded, and what was packed of the rest. A decoder costs a few
        megabytes and no second backbone.

        Raises:
            ValueError: the model has no such parameter, or one of another shape.
        """
        own = self.model.state_dict(keep_vars=True)
        for name, tensor in weights.items():
            if name not in own or own[name].shape != tensor.shape:
                shape = f"{tuple(own[name].shape)}" if name in own else "none of that name"
                raise ValueError(
                    f"{name} {tuple(tensor.shape)} does not fit {self.name}, which has {shape}."
                )
        changed = {
            name: tensor
            for name, tensor in weights.items()
            if not torch.equal(tensor.to(own[name]), own[name])
        }
        kept = {id(tensor): tensor for name, tensor in own.items() if name not in changed}
        tuned = copy.copy(self)
        tuned.model = copy.deepcopy(self.model, kept)
        tuned.model.load_state_dict(changed, strict=False)
        tuned._engine = self._engine.tuned(tuned.model, changed)
        if any(name.startswith(self._engine.of_texts) for name in changed):
            tuned._texts = {}
        return tuned

    def encodes_like(self, other: Self) -> bool:
        """Whether both give the same features, so that either can use what the other encoded."""
        ours, theirs = (one.model.state_dict(keep_vars=True) for one in (self, other))
        return all(
            tensor is theirs[name]
            for name, tensor in ours.items()
            if name.startswith(self._engine.of_features)
        )

    @torch.inference_mode()
    def encode_image(self, images: Image.Image | Sequence[Image.Image]) -> list[ImageFeatures]:
        """Encode PIL images as displayed (EXIF orientation applied); no prompt is needed.

        Raises:
            TypeError: one is no PIL image.
        """
        batch = [images] if isinstance(images, Image.Image) else list(images)
        for image in batch:
            if not isinstance(image, Image.Image):
                raise TypeError(
                    f"encode_image takes PIL images, not {type(image).__name__}: open a file with "
                    "PIL.Image.open, make one of an array with PIL.Image.fromarray."
                )
        if not batch:
            return []
        return self._engine.encode([displayed(image) for image in batch])

    @torch.inference_mode()
    def encode_text(self, prompts: str | Sequence[str]) -> Tensor:
        """Conditions (N, C), one per prompt; a prompt seen before costs nothing.

        Raises:
            ValueError: a prompt is empty or longer than the model reads.
        """
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not all(text.strip() for text in texts):
            raise ValueError("A prompt is empty: type what to look for.")
        if len(self._texts) + len(texts) > REMEMBERED_TEXTS:
            self._texts.clear()
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        self._texts |= zip(new, self._embedded(new), strict=True)
        if not texts:
            return torch.empty(0, self._engine.width, device=self.device, dtype=self.dtype)
        return torch.stack([self._texts[text] for text in texts])

    def _embedded(self, texts: Sequence[str]) -> list[Tensor]:
        """Conditions, each (C,), of texts that were not seen before.

        A condition depends on its text and nothing else, to the bit: the same product gives a row
        the same bits beside any others, but products of other shapes do not. So each pass has texts
        of one length, and as many of them; where there are fewer, the first fills it up.
        """
        templates = self._engine.templates
        said = [one.format(text) for text in texts for one in templates]
        rows = self.tokenizer.readable(said, self._context)
        alike: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            alike.setdefault(len(row), []).append(place)
        found: dict[int, Tensor] = {}
        for places in alike.values():
            for start in range(0, len(places), TEXTS_PER_PASS):
                some = places[start : start + TEXTS_PER_PASS]
                full = some + some[:1] * (TEXTS_PER_PASS - len(some))
                ids = torch.tensor([rows[place] for place in full], device=self.device)
                found |= zip(some, self._engine.embed_text(ids, torch.ones_like(ids)), strict=False)
        step = len(templates)
        return [
            torch.stack([found[place] for place in range(first, first + step)]).mean(dim=0)
            for first in range(0, len(rows), step)
        ]

    def reads(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text can be a prompt: not empty, and no longer than the model reads."""
        short = [
            self.tokenizer.reads([one.format(text) for text in texts], self._context)
            for one in self._engine.templates
        ]
        return [bool(text.strip()) and all(fit) for text, *fit in zip(texts, *short, strict=True)]

    @torch.inference_mode()
    def encode_exemplar(self, exemplars: Exemplar | Sequence[Exemplar]) -> Tensor:
        """Conditions (N, C), one per object shown in an image.

        Raises:
            ValueError: a mask or box does not fit its image, or marks nothing.
        """
        shown = [exemplars] if isinstance(exemplars, Exemplar) else list(exemplars)
        if not shown:
            return torch.empty(0, self._engine.width, device=self.device, dtype=self.dtype)
        # one at a time, so that a condition depends on its exemplar and nothing else
        pixels = [exemplar.prepare(one, self.processor) for one in shown]
        return torch.cat(
            [self._engine.embed_image(one.to(self.device, self.dtype)) for one in pixels]
        )

    @torch.inference_mode()
    def condition(
        self,
        texts: Sequence[str] = (),
        exemplars: Sequence[Exemplar] | Tensor = (),
        weight: float = 0.5,
    ) -> Tensor:
        """One condition (C,) for several texts and exemplars of the same thing.

        Texts are averaged, exemplars are averaged, and `weight` is the exemplars' share where
        there are both. CLIPSeg was trained on such mixtures (arXiv 2112.10003, section 3.2).
        Exemplars that were encoded before may be given as their conditions, (N, C).

        Raises:
            ValueError: there is neither text nor exemplar, one of them cannot be used, conditions
                are of another width, or the weight is outside [0, 1].
        """
        if not texts and not len(exemplars):
            raise ValueError("There is nothing to look for: give a text or an exemplar.")
        if not 0 <= weight <= 1:
            raise ValueError(f"The exemplars' weight is {weight}: it lies between 0 and 1.")
        if not len(exemplars):
            return self.encode_text(texts).mean(dim=0)
        if not isinstance(exemplars, Tensor):
            exemplars = self.encode_exemplar(exemplars)
        if exemplars.shape[1:] != (self._engine.width,):
            raise ValueError(
                f"The exemplars' conditions have {exemplars.shape[-1]} numbers, and {self.name} "
                f"takes {self._engine.width}: they were made by another checkpoint."
            )
        shown = exemplars.to(self.device, self.dtype).mean(dim=0)
        if not texts:
            return shown
        return torch.lerp(self.encode_text(texts).mean(dim=0), shown, weight)

    @property
    def competes(self) -> bool:
        """Whether what one condition wins, another loses."""
        return self._engine.competes

    @torch.inference_mode()
    def probabilities(self, features: ImageFeatures, conditions: Tensor) -> Tensor:
        """One image against N conditions at the model's resolution: (N, h', w') in [0, 1]."""
        rows = conditions.reshape(-1, conditions.shape[-1]).to(self.device, self.dtype)
        if not len(rows):
            return torch.empty(0, *features.grid, device=self.device)
        return self._engine.probabilities(features, rows)

    @torch.inference_mode()
    def each(self, features: ImageFeatures, conditions: Tensor) -> Tensor:
        """As `probabilities`, with each condition asked as if there were no other."""
        if not self._engine.competes or not len(conditions):
            return self.probabilities(features, conditions)
        return torch.cat([self.probabilities(features, row) for row in conditions])

    @torch.inference_mode()
    def patches(self, features: ImageFeatures) -> Tensor:
        """What is in each patch of an image, whatever it is asked for: (D, h, w)."""
        return self._engine.patches(features).float()

    @torch.inference_mode()
    def segment(self, features: Sequence[ImageFeatures], conditions: Tensor) -> list[Tensor]:
        """Every image against every condition: per image (N, H, W) in [0, 1], H and W its own."""
        return [resize(self.probabilities(one, conditions), one.size) for one in features]


def _dtype(given: torch.dtype | str) -> torch.dtype:
    found = getattr(torch, given, None) if isinstance(given, str) else given
    if not isinstance(found, torch.dtype):
        raise TypeError(
            f"dtype={given!r} is none: give torch.bfloat16, say, or its name, as 'bfloat16'."
        )
    return found


def family(folder: Path) -> type[CLIPSegForImageSegmentation | GroupViTModel]:
    """What a checkpoint folder holds.

    Raises:
        CheckpointError: it is neither model.
    """
    kind = checkpoint.read_json(folder, checkpoint.CONFIG).get("model_type")
    models: dict[str, type[CLIPSegForImageSegmentation | GroupViTModel]] = {
        "clipseg": CLIPSegForImageSegmentation,
        "groupvit": GroupViTModel,
    }
    if not isinstance(kind, str) or kind not in models:
        raise checkpoint.CheckpointError(
            f"Checkpoint {folder} holds a {kind!r} model; known: {', '.join(models)}."
        )
    return models[kind]


def load_model(folder: Path) -> CLIPSegForImageSegmentation | GroupViTModel:
    """The model of a checkpoint folder, whichever it holds.

    Raises:
        CheckpointError: it holds another one, or cannot be used.
    """
    return family(folder).from_pretrained(folder)


def check_parts(
    model: CLIPSegForImageSegmentation | GroupViTModel,
    tokenizer: CLIPTokenizer,
    processor: ImageProcessor,
) -> None:
    """Make sure that a tokenizer's texts and a processor's images are what a model reads.

    Raises:
        ValueError: texts end otherwise than the model looks for, which would make all of them mean
            the same, have tokens that it does not know, images have colours that it does not see,
            or patches do not fill them.
    """
    text, vision = model.config.text_config, model.config.vision_config
    end = tokenizer.encode([""])[0][-1]
    if text.eos_token_id not in {LEGACY_EOS, end}:
        raise ValueError(
            f"the tokenizer ends texts with token {end}, and the model, which knows "
            f"{text.vocab_size}, looks for {text.eos_token_id} (eos_token_id)."
        )
    if tokenizer.size() > text.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.size()} tokens, and the model knows {text.vocab_size} "
            "(vocab_size): take the tokenizer that it was trained with."
        )
    if vision.num_channels != 3:
        raise ValueError(
            f"the model takes images of {vision.num_channels} channels, and ours have three."
        )
    if isinstance(model, CLIPSegForImageSegmentation) and processor.fixed:  # else patches are whole
        height, width = processor.crop or (processor.height, processor.width)
        check_patches(torch.empty(height, width, device="meta"), vision.patch_size)


def resize(probabilities: Tensor, size: tuple[int, int]) -> Tensor:
    """Probabilities (N, h, w) at an image's displayed size: (N, H, W)."""
    if not len(probabilities):
        return probabilities.new_empty(0, *size)
    return F.interpolate(probabilities[None], size, mode="bilinear", align_corners=False)[0]


def marked(probabilities: Tensor, threshold: float, size: tuple[int, int]) -> Tensor:
    """Where probabilities (h, w) reach a threshold at an image's displayed size: bool (H, W).

    As `resize` and a comparison, in strips that stay in the cache, without the rows in which
    nothing is marked: on large images a mask costs a fraction of its probabilities.
    """
    height, width = size
    tall = resize(probabilities[None], (height, probabilities.shape[1]))[0]
    mask = torch.zeros(size, dtype=torch.bool, device=probabilities.device)
    rows = torch.nonzero(tall.amax(dim=1) >= threshold).flatten().tolist()
    if rows:
        for top in range(rows[0], rows[-1] + 1, STRIP):
            bottom = min(top + STRIP, rows[-1] + 1)
            strip = resize(tall[None, top:bottom], (bottom - top, width))[0]
            torch.ge(strip, threshold, out=mask[top:bottom])
    return mask
