"""The worker process: everything it needs, made once and wired together."""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path

import torch
from redis.exceptions import RedisError

from backend import broker
from backend.diskcache import DiskCache
from backend.errors import BadPrompt, BadSetting, CheckpointUnavailable, QueueUnavailable
from backend.inference.books import Books
from backend.inference.clusters import Clusters
from backend.inference.features import FeatureCache, FeatureStore
from backend.inference.pipeline import Pipeline
from backend.inference.scores import ProjectScores
from backend.inference.vocabulary import vocabulary
from backend.labelstudio.images import ImageStore
from backend.learning.commands import Accepted, Learner
from backend.learning.registry import Registry
from backend.queue import PREDICT, SUGGEST, PredictionQueue, WorkerPulse, connect
from backend.settings import DEMO, DEMO_GROUPVIT, DEMOS, PUBLISHED, Settings
from backend.worker.device import watched
from backend.worker.jobs import BatchWorker
from backend.worker.serving import Serving
from backend.worker.suggesting import Suggester
from demo import CHECKPOINT, GROUPVIT
from models import CheckpointError, Segmenter, UnusableDtype, checkpoint
from models.reading import check_texts

log = logging.getLogger(__name__)

MEGABYTE = 1024**2
DEMO_FOLDERS = {DEMO: CHECKPOINT, DEMO_GROUPVIT: GROUPVIT}


def load(name: str, device: str | None, dtype: str) -> tuple[Segmenter, str]:
    """A checkpoint by its setting, and the digest of its files.

    Raises:
        CheckpointUnavailable: it cannot be used, or had; then the message names the demo as what
            can.
        BadSetting: the device cannot compute in `dtype`.
    """
    folder: Path | None = None
    try:
        folder = DEMO_FOLDERS.get(name) or checkpoint.locate(name)
        segmenter = Segmenter.from_pretrained(folder, device=device, dtype=getattr(torch, dtype))
        return segmenter, checkpoint.digest(folder)
    except CheckpointError as error:
        # where there is a folder, the network is not what is missing
        hint = "" if folder else f" PROMPTBRUSH_CHECKPOINT={DEMO} needs no network."
        raise CheckpointUnavailable(f"{error}{hint}") from error
    except UnusableDtype as error:
        raise BadSetting(f"PROMPTBRUSH_DTYPE={dtype} cannot be used: {error}") from error
    except (RuntimeError, AssertionError) as error:  # torch's words for a device it lacks
        reason = str(error).partition("\n")[0]  # CUDA's goes on with how to debug kernels
        raise CheckpointUnavailable(
            f"DEVICE={device or 'auto'} cannot be used: {reason}"
        ) from error


def check_read(name: str, texts: Sequence[str]) -> None:
    """Make sure that a checkpoint's model reads texts, if the checkpoint is on this machine.

    Raises:
        BadPrompt: one is longer than it reads.
    """
    folder = DEMO_FOLDERS.get(name) or checkpoint.at_hand(name)
    if folder is None:
        return
    try:
        check_texts(folder, texts)
    except CheckpointError as error:
        log.warning("whether texts are short enough is not known: %s", error)
    except ValueError as error:
        raise BadPrompt(str(error)) from error


def feature_cache(
    settings: Settings, segmenter: Segmenter, digest: str, memory_mb: int
) -> FeatureCache:
    """Where encoded images are kept: so many in this process, and on disk for the others."""
    disk = DiskCache(settings.data_dir / "features", settings.feature_cache_disk_mb * MEGABYTE)
    return FeatureCache(memory_mb * MEGABYTE, FeatureStore(disk, segmenter, digest))


def learner_of(settings: Settings, project: int, accepted: Accepted) -> Learner:
    """What learns from a project's accepted work, with the model.

    Images that workers have encoded are not encoded again, and none is held in memory twice.

    Raises:
        CheckpointUnavailable, BadSetting: as in `load`.
    """
    base, digest = load(settings.checkpoint, settings.device, settings.dtype)
    features = feature_cache(settings, base, digest, 0)
    return Learner(settings, base, digest, features, project, accepted)


def run(settings: Settings, name: str | None = None) -> None:
    """Load the model and work the queue until SIGTERM.

    Raises:
        QueueUnavailable: the broker does not answer, before anything is loaded.
        BrokerUnavailable: it cannot be used.
    """
    connection = connect(settings.broker_url)
    try:
        broker.check(connection)
    except RedisError as error:
        raise QueueUnavailable(f"The broker at REDIS_URL does not answer: {error}") from error
    words = vocabulary(settings)
    segmenter, digest = load(settings.checkpoint, settings.device, settings.dtype)
    identity = WorkerPulse(
        # no other has it, nor the one before, whose tasks would seem to be in good hands
        name=f"{name or 'worker'}-{uuid.uuid4().hex[:8]}",
        host=socket.gethostname(),
        pid=os.getpid(),
        model=segmenter.name,
        checkpoint=settings.checkpoint,
        digest=digest,
        device=str(segmenter.device),
    )
    for told in PredictionQueue(connection).warnings(identity):
        log.warning("%s", told)
    serving = Serving(
        segmenter,
        digest,
        feature_cache(settings, segmenter, digest, settings.feature_cache_mb),
        Registry(settings.model_dir),
        settings.versions_in_memory,
    )
    images = ImageStore.of(settings)
    pipeline = Pipeline(
        serving.of,
        images,
        threshold=settings.threshold,
        books=Books(settings.model_dir).serving,
        vocabulary=words,
        scores=ProjectScores(settings.model_dir).of,
        clusters=Clusters(settings.model_dir).of,
    )
    suggester = Suggester(settings, serving.of, images, words)
    if settings.checkpoint in DEMOS:
        log.warning(
            "serving the demo checkpoint, trained on drawn shapes; for photographs set "
            "PROMPTBRUSH_CHECKPOINT=%s",
            PUBLISHED,
        )
    answerers = {PREDICT: pipeline.answer, SUGGEST: suggester.answer}
    BatchWorker(
        connection,
        identity,
        {kind: watched(answer, segmenter.device) for kind, answer in answerers.items()},
        batch_size=settings.batch_size,
        job_timeout=settings.job_timeout,
    ).serve()
