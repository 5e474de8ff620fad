"""`python -m demo.train_clipseg`: the demo CLIPSeg from nothing, on a processor, under an hour.

Everything is trained together, unlike the published checkpoints, whose CLIP was frozen: text
tower, vision tower and decoder learn from masks of generated scenes. Two helpers make it quick,
and both are thrown away afterwards: small heads that name the shape, colour and texture of every
patch and of every condition, and CLIP's contrast between exemplars and their descriptions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from demo import CHECKPOINT
from demo.losses import contrast_loss, mask_loss, overlap
from demo.pool import Pool, Style
from demo.sampling import PromptSampler
from demo.training import Recipe, Trainer, command, text_shape
from models import (
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPSegTextConfig,
    CLIPSegVisionConfig,
    ImageProcessor,
)

UNSAID = 0.6  # of the way from exemplars to words that do not say all of it, at most


@dataclass(frozen=True)
class CLIPSegRecipe(Recipe):
    """The defaults train one like the shipped checkpoint, whose card tells how it came about."""

    steps: int = 6000
    minutes: float = 54
    images: int = 12
    scenes: int = 16_000
    side: int = 96
    depth: int = 6
    extract: tuple[int, ...] = (1, 3, 5)
    reduce: int = 64
    decoder_hidden: int = 256
    decoder_heads: int = 2
    refined: bool = False
    prompts: int = 4  # by words, of each image
    shown: int = 24  # by exemplars, of a batch
    contrast: float = 0.1


def configuration(recipe: CLIPSegRecipe, vocabulary_size: int) -> CLIPSegConfig:
    """The architecture of a recipe."""
    return CLIPSegConfig(
        text_config=CLIPSegTextConfig(**text_shape(recipe, vocabulary_size)),
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


class CLIPSegTrainer(Trainer[CLIPSegForImageSegmentation, CLIPSegRecipe]):
    """Masks supervise what the decoder draws for each prompt by itself."""

    style = Style(nameless=True)

    def __init__(self, recipe: CLIPSegRecipe, data: Pool, processor: ImageProcessor) -> None:
        super().__init__(recipe, data, processor)
        self.sampler = PromptSampler(
            data, recipe.seed, recipe.images, recipe.prompts, recipe.shown, recipe.patch
        )

    def _model(self, vocabulary_size: int) -> CLIPSegForImageSegmentation:
        return CLIPSegForImageSegmentation(configuration(self.recipe, vocabulary_size)).train()

    def _loss(self) -> tuple[Tensor, float]:
        model, recipe, batch = self.model, self.recipe, self.sampler.draw()
        shown = len(batch.shares)
        activations = model.encode_image(self.normalised(batch.pixels))
        said = model.get_conditional_embeddings(
            **self.tokenizer(batch.texts + batch.exemplar_texts)
        )
        seen = batch.shares @ model.get_conditional_embeddings(
            conditional_pixel_values=self.normalised(batch.exemplars)
        )
        texts, described = said[:-shown].float(), said[-shown:].float()
        seen = seen.float()
        # Some prompts lie between words and picture, so that either, or both, can be asked with;
        # those whose words do not say it all stay nearer to the picture.
        furthest = torch.where(batch.complete, 1.0, UNSAID)[:, None]
        blend = (torch.rand(shown, 1) * 2 - 1).clamp(min=0) * furthest
        conditions = torch.cat([texts, torch.lerp(seen, described, blend)])
        reduced = [r[batch.rows] for r in model.decoder.reduce(activations)]
        grid = (recipe.side // recipe.patch,) * 2
        logits = model.decoder(reduced, conditions, grid).float()
        targets = batch.targets
        if logits.shape != targets.shape:  # the refined head draws smaller masks
            targets = F.interpolate(targets[None], logits.shape[-2:], mode="area")[0]
        loss = mask_loss(logits, targets)
        cells = activations[-1][:, 1:]  # without the class token
        loss = loss + recipe.naming * self.helpers.naming_loss(cells, batch.patches)
        loss = loss + recipe.speaking * self.helpers.speaking_loss(
            torch.cat([texts, seen]), batch.traits
        )
        paired = batch.complete
        loss = loss + recipe.contrast * contrast_loss(
            seen[paired], described[paired], model.clip.logit_scale, batch.traits[-shown:][paired]
        )
        return loss, overlap(logits > 0, targets > 0.5)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and save."""
    command(CLIPSegTrainer, CLIPSegRecipe(), CHECKPOINT, arguments)


if __name__ == "__main__":
    main()
