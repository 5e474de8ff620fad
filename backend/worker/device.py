"""Whether the device that the model computes on still does."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import torch

from backend.delivery import Answer
from backend.errors import InternalError
from backend.worker.jobs import Answerer

log = logging.getLogger(__name__)

LOST = 71  # exit status when the device is of no use any more


def watched(answer: Answerer, device: torch.device) -> Answerer:
    """The same answers; where the device broke under them the process ends instead.

    After some errors (a fault in a kernel, a GPU that fell off the bus) CUDA refuses everything
    that the process asks for, and a worker would answer all that waits with them, quickly. The
    next process starts afresh, and gets the tasks.
    """

    def answered(payloads: Sequence[Answer]) -> list[tuple[Answer, float]]:
        answers = answer(payloads)
        if any(told.get("error") == InternalError.__name__ for told, _ in answers):
            problem = _problem(device)
            if problem is not None:
                log.error("%s is of no use any more (%s): this worker ends", device, problem)
                os._exit(LOST)  # an orderly end would ask the device, which may hang
        return answers

    return answered


def _problem(device: torch.device) -> str | None:
    """Why not even a small sum can be computed; None if it can. A full device is none of it."""
    if device.type == "cpu":
        return None
    try:
        probe(device)
    except torch.OutOfMemoryError:
        return None
    except RuntimeError as error:
        return str(error).partition("\n")[0]  # CUDA's goes on with how to debug kernels
    return None


def probe(device: torch.device) -> None:
    """Compute a little, and wait for it; raises what torch raises."""
    torch.ones(2, device=device).sum().item()
