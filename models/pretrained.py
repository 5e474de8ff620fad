"""Loading and saving, the same for every model class."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import nn

from models import checkpoint
from models.config import PretrainedConfig
from models.outputs import ModelOutput, Trace

Output = TypeVar("Output", bound=ModelOutput)


class PretrainedModel(nn.Module):
    """A model with a configuration, in the Hugging Face folder layout."""

    config_class: ClassVar[type[PretrainedConfig]]
    part: ClassVar[str] = ""  # the key of this model's configuration in that of the whole model
    config: Any

    @classmethod
    def from_pretrained(cls, id_or_folder: str | Path) -> Self:
        """Load from a folder or a hub id, strictly, ready for inference.

        A text or vision model, and a model inside a segmentation model, also load from the
        checkpoint of the whole.

        Raises:
            CheckpointError: it cannot be found, or does not fit; the message says what.
        """
        folder = checkpoint.locate(id_or_folder)
        config = checkpoint.read_config(folder, cls.config_class, cls.part)
        try:
            with torch.device("meta"):  # memory is taken once the weights are found to fit
                model = cls(config)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            # whatever torch says of sizes that make no layer
            raise checkpoint.CheckpointError(
                f"{folder / checkpoint.CONFIG} cannot be used: {error}"
            ) from error
        checkpoint.load_weights(model, folder)
        return model.eval()

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write `config.json` and `model.safetensors` as other implementations read them."""
        checkpoint.save(self, self.config.to_dict(), Path(folder), dtype)

    def _trace(
        self, output_attentions: bool | None = None, output_hidden_states: bool | None = None
    ) -> Trace:
        """A collector of what a forward was asked to return besides its result."""
        return Trace(
            hidden_states=self.config.switch("output_hidden_states", output_hidden_states),
            attentions=self.config.switch("output_attentions", output_attentions),
        )

    def _answer(self, output: Output, return_dict: bool | None) -> Output | tuple[Any, ...]:
        """The output, or its tuple where that is wanted."""
        return output if self.config.switch("return_dict", return_dict) else output.to_tuple()
