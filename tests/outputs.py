"""What an output of a model holds, for tests that compare it."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from torch import Tensor

from models.outputs import ModelOutput


def tensors(output: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor of an output of ours, with its path."""
    if isinstance(output, Tensor):
        yield name, output
    elif isinstance(output, ModelOutput):
        for field in fields(output):
            value = getattr(output, field.name)
            if value is not None:
                yield from tensors(value, f"{name}.{field.name}".lstrip("."))
    else:
        for index, value in enumerate(output):
            yield from tensors(value, f"{name}.{index}")
