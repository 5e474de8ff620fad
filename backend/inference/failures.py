"""What went wrong with a task or a training, as it is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from backend.errors import BackendError, InternalError, OutOfMemory

log = logging.getLogger(__name__)

# torch's words where it has no class of its own for this: on a CPU, and on Apple's GPUs
HOST_FULL = "DefaultCPUAllocator"
DEVICE_FULL = "out of memory"


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do where memory did not suffice."""

    host: str
    device: str


PREDICTING = Advice(
    "This machine has too little memory for the task's image: set fewer WORKERS, a smaller "
    "BATCH_SIZE or FEATURE_CACHE_MB, or refuse such images by IMAGE_MAX_MEGAPIXELS.",
    "The GPU has too little memory for the task's image: set fewer WORKERS, a smaller BATCH_SIZE "
    "or FEATURE_CACHE_MB, PROMPTBRUSH_DTYPE=bfloat16, or another DEVICE.",
)
LEARNING = Advice(
    "This machine has too little memory to learn beside what else runs: set a smaller "
    "TRAIN_MEMORY_MB, fewer WORKERS or a smaller FEATURE_CACHE_MB.",
    "The GPU has too little memory to learn beside what else runs: set fewer WORKERS, or another "
    "DEVICE where the training runs.",
)


def failure(error: Exception) -> BackendError:
    """The error to answer a task with; a defect of ours is logged whole and told in short."""
    if isinstance(error, BackendError):
        return error
    lack = _lack(error, PREDICTING)
    if lack is None:
        log.error("a task failed unexpectedly", exc_info=error)
        return InternalError("A defect in promptbrush; the worker's log has the traceback.")
    log.warning("a task needs more memory than there is: %s", _first_line(error))
    return lack


@contextmanager
def needing_memory() -> Iterator[None]:
    """Says what to do if memory does not suffice to learn.

    Raises:
        OutOfMemory: it did not.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        lack = _lack(error, LEARNING)
        if lack is None:
            raise
        log.warning("learning needs more memory than there is: %s", _first_line(error))
        raise lack from error


def make_room() -> None:
    """Give back what torch keeps of a GPU's memory for itself, which others may need."""
    torch.cuda.empty_cache()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _lack(error: Exception, advice: Advice) -> OutOfMemory | None:
    """The lack of memory that an error stands for; None if that is not what went wrong."""
    told = str(error) if isinstance(error, RuntimeError) else ""
    if isinstance(error, MemoryError) or HOST_FULL in told:
        return OutOfMemory(advice.host)
    if isinstance(error, torch.OutOfMemoryError) or DEVICE_FULL in told:
        return OutOfMemory(advice.device)
    return None
