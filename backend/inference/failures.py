"""What went wrong with a task, as it is told."""

from __future__ import annotations

import logging

import torch

from backend.errors import BackendError, InternalError, OutOfMemory

log = logging.getLogger(__name__)

# torch's words where it has no class of its own for this: on a CPU, and on Apple's GPUs
HOST_FULL = "DefaultCPUAllocator"
DEVICE_FULL = "out of memory"


def failure(error: Exception) -> BackendError:
    """The error to answer with; a defect of ours is logged whole and told in short."""
    if isinstance(error, BackendError):
        return error
    advice = _advice(error)
    if advice is None:
        log.error("a task failed unexpectedly", exc_info=error)
        return InternalError("A defect in promptbrush; the worker's log has the traceback.")
    log.warning("a task needs more memory than there is: %s", str(error).partition("\n")[0])
    return OutOfMemory(advice)


def make_room() -> None:
    """Give back what torch keeps of a GPU's memory for itself, which others may need."""
    torch.cuda.empty_cache()


def _advice(error: Exception) -> str | None:
    """What to do where memory did not suffice; None if that is not what went wrong."""
    told = str(error) if isinstance(error, RuntimeError) else ""
    if isinstance(error, MemoryError) or HOST_FULL in told:
        return (
            "This machine has too little memory for the task's image: set fewer WORKERS, a smaller "
            "BATCH_SIZE or FEATURE_CACHE_MB, or refuse such images by IMAGE_MAX_MEGAPIXELS."
        )
    if isinstance(error, torch.OutOfMemoryError) or DEVICE_FULL in told:
        return (
            "The GPU has too little memory for the task's image: set fewer WORKERS, a smaller "
            "BATCH_SIZE or FEATURE_CACHE_MB, PROMPTBRUSH_DTYPE=bfloat16, or another DEVICE."
        )
    return None
