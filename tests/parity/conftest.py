"""Comparing two models' outputs, field by field, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from tests.outputs import tensors


def at(output: Any, path: str) -> Any:
    """What lies at a path of the reference's output."""
    for part in path.split("."):
        output = output[int(part)] if part.isdigit() else getattr(output, part)
    return output


@pytest.fixture
def equal_fields() -> Callable[..., None]:
    """Every field that we give is the reference's, within 1e-4, besides those named.

    The documented fields are those of 4.37.2, which `tests/golden` holds; 5.x lacks some, or gives
    something else by their name.
    """

    def check(ours: Any, theirs: Any, besides: Sequence[str] = ()) -> None:
        for path, tensor in tensors(ours):
            if path.startswith(tuple(besides)):
                continue
            expected = at(theirs, path)
            torch.testing.assert_close(
                tensor,
                expected,
                rtol=1e-4,
                atol=1e-4 * float(expected.abs().max()),
                msg=lambda told, path=path: f"{path}: {told}",  # type: ignore[misc]
            )

    return check


@pytest.fixture
def equal_gradients() -> Callable[[nn.Module, nn.Module], None]:
    """Every parameter has the reference's gradient, within 1e-4, or neither has one."""

    def check(ours: nn.Module, theirs: nn.Module) -> None:
        expected = dict(theirs.named_parameters())
        # where a gradient is zero in theory, both sides have rounding errors of the others' size
        norms = [float(p.grad.norm()) for p in expected.values() if p.grad is not None]
        for name, parameter in ours.named_parameters():
            other = expected[name].grad
            assert (parameter.grad is None) == (other is None), name
            if parameter.grad is not None and other is not None:
                off = float((parameter.grad - other).norm())
                assert off <= 1e-4 * float(other.norm()) + 1e-6 * max(norms), name

    return check
