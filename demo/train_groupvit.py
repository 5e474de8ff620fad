"""`python -m demo.train_groupvit`: the demo GroupViT on from the demo CLIPSeg, on a processor.

The published checkpoints learned to group from captions alone, 26 million of them. Here masks of
generated scenes tell which label of a vocabulary, or none, each pixel belongs to, and the model
learns through the very shares that `Segmenter` makes of its groups. What both demos have in common,
the text tower and the vision blocks, begins as the CLIPSeg's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo import CHECKPOINT, GROUPVIT
from demo.losses import gathering_loss, overlap, share_loss
from demo.pool import Pool, Style
from demo.sampling import KINDS_OF_THING, VocabularySampler
from demo.training import Recipe, Trainer, command, text_shape
from models import (
    GroupViTConfig,
    GroupViTModel,
    GroupViTTextConfig,
    GroupViTVisionConfig,
    ImageProcessor,
    checkpoint,
)
from models.clip import interpolated
from models.engines import BACKGROUND, shared_out
from models.outputs import Trace
from models.towers import unit

NOWHERE = -1e4  # in place of a cosine, where a vocabulary is shorter than the longest

# What both models have, by CLIPSeg's name and by GroupViT's.
FROM_CLIPSEG = {
    "clip.text_model": "text_model",
    "clip.vision_model.encoder.layers": "vision_model.encoder.stages.0.layers",
    "clip.vision_model.embeddings.patch_embedding": (
        "vision_model.embeddings.patch_embeddings.projection"
    ),
    "clip.vision_model.pre_layrnorm": "vision_model.embeddings.layernorm",
}


@dataclass(frozen=True)
class GroupViTRecipe(Recipe):
    """What made the demo checkpoint."""

    steps: int = 2500
    scenes: int = 8000
    rate: float = 1e-3
    depths: tuple[int, int] = (8, 1)  # blocks before grouping, and after
    groups: int = 1 + KINDS_OF_THING
    gathering: float = 1.0  # weight of what each group is to gather
    between: int = 256  # width inside the projections
    drawn: int = 2  # masks are compared at the input's size divided by this


def configuration(recipe: GroupViTRecipe, vocabulary_size: int) -> GroupViTConfig:
    """The architecture of a recipe."""
    return GroupViTConfig(
        text_config=GroupViTTextConfig(**text_shape(recipe, vocabulary_size)),
        vision_config=GroupViTVisionConfig(
            hidden_size=recipe.width,
            intermediate_size=4 * recipe.width,
            depths=list(recipe.depths),
            num_hidden_layers=sum(recipe.depths),
            num_group_tokens=[recipe.groups, 0],
            num_output_groups=[recipe.groups] * 2,
            num_attention_heads=recipe.width // 32,
            hidden_act="quick_gelu",  # as CLIPSeg's
            image_size=recipe.side,
            patch_size=recipe.patch,
            assign_mlp_ratio=[0.5, 1],
        ),
        projection_dim=recipe.joint,
        projection_intermediate_dim=recipe.between,
        segmentation_side=recipe.side,
        background_similarity=BACKGROUND,
        templates=["{}"],
    )


class GroupViTTrainer(Trainer[GroupViTModel, GroupViTRecipe]):
    """Masks supervise the shares that labels and background have in every pixel."""

    style = Style(cut=True)

    def __init__(self, recipe: GroupViTRecipe, data: Pool, processor: ImageProcessor) -> None:
        super().__init__(recipe, data, processor)
        self.sampler = VocabularySampler(data, recipe.seed, recipe.images, recipe.patch)
        self._patches = torch.empty(0)  # what the first stage made of the last batch
        first = self.model.vision_model.encoder.stages[0].get_submodule("downsample")
        first.register_forward_pre_hook(self._keep)

    def _model(self, vocabulary_size: int) -> GroupViTModel:
        """Not in training mode: groups are chosen without noise, as later in use.

        Batch normalisation, in the projections, then is a scale and a shift that are learned.
        """
        return GroupViTModel(configuration(self.recipe, vocabulary_size)).eval()

    def go_on_from(self, folder: Path) -> None:
        """Begin with another GroupViT's weights, or with what a CLIPSeg has in common with it.

        That is the text tower and the vision blocks, of the same widths, which know phrases and
        patches already; blocks beyond those change nothing yet; groups and projections are new.
        """
        if checkpoint.read_json(folder, checkpoint.CONFIG).get("model_type") == "clipseg":
            weights = checkpoint.read_weights(folder)
            self._make_identities()
            common = self._of_clipseg(weights)
            self.model.load_state_dict({**self.model.state_dict(), **common})
            self.forget_average()
        else:
            super().go_on_from(folder)

    def _make_identities(self) -> None:
        """Let the first stage's blocks pass on what they get, where CLIPSeg's will not follow."""
        for layer in self.model.vision_model.encoder.stages[0].get_submodule("layers").children():
            for last in (layer.get_submodule("self_attn.out_proj"), layer.get_submodule("mlp.fc2")):
                for parameter in last.parameters():
                    nn.init.zeros_(parameter)

    def _of_clipseg(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """CLIPSeg's weights under GroupViT's names."""
        common = {
            f"{own}.{name.removeprefix(its + '.')}": value.float()
            for its, own in FROM_CLIPSEG.items()
            for name, value in weights.items()
            if name.startswith(its + ".")
        }
        # CLIPSeg adds positions before it normalises, GroupViT after: bring them to that size.
        positions = weights["clip.vision_model.embeddings.position_embedding.weight"][1:].float()
        side, native = self.recipe.side // self.recipe.patch, math.isqrt(len(positions))
        positions = interpolated(positions, native, side, side)
        kernel = common[FROM_CLIPSEG["clip.vision_model.embeddings.patch_embedding"] + ".weight"]
        pixels = self.normalised(self.sampler.draw().pixels)
        patches = F.conv2d(pixels, kernel, stride=self.recipe.patch).flatten(2).mT
        spread = (patches + positions).std(dim=-1).mean()
        gain = common["vision_model.embeddings.layernorm.weight"]
        common["vision_model.embeddings.position_embeddings"] = (positions * gain / spread)[None]
        return common

    def _keep(self, _: object, inputs: tuple[Tensor, Tensor]) -> None:
        self._patches = inputs[0]

    def _loss(self) -> tuple[Tensor, float]:
        model, recipe, batch = self.model, self.recipe, self.sampler.draw()
        trace = Trace(attentions=True)
        pixels = self.normalised(batch.pixels)
        groups = model.vision_model(pixels, trace).last_hidden_state
        embeds = unit(model.visual_projection(groups.flatten(0, 1)).float())
        embeds = embeds.unflatten(0, groups.shape[:2])  # (B, G, C)
        maps = model.group_maps(trace.attentions or (), pixels).float()
        tokens = self.tokenizer(batch.texts)
        said = model.get_text_features(tokens["input_ids"], tokens["attention_mask"]).float()
        images, slots = batch.places.unbind(dim=1)
        cosines = embeds.new_full((*embeds.shape[:2], batch.targets.shape[1]), NOWHERE)
        cosines[images, :, slots] = (embeds[images] * unit(said)[:, None]).sum(dim=-1)
        shares = shared_out(cosines, model.logit_scale, BACKGROUND)
        patches = torch.einsum("bgn,bghw->bnhw", shares, maps).float()
        targets = F.avg_pool2d(batch.targets, recipe.drawn)
        drawn = F.interpolate(patches, targets.shape[-2:], mode="bilinear")
        loss = share_loss(drawn, targets)
        loss = loss + recipe.gathering * gathering_loss(maps, batch.things)
        loss = loss + recipe.naming * self.helpers.naming_loss(self._patches, batch.patches)
        loss = loss + recipe.speaking * self.helpers.speaking_loss(said, batch.traits)
        return loss, overlap((drawn > 0.5).flatten(0, 1), (targets > 0.5).flatten(0, 1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and save."""
    command(GroupViTTrainer, GroupViTRecipe(), GROUPVIT, arguments, start=CHECKPOINT)


if __name__ == "__main__":
    main()
