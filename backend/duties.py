"""What the trainer does for a project: learn, measure prompts, move Label Studio on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from backend import connect
from backend.errors import BrokerUnavailable
from backend.follow import follow
from backend.inference.books import Books
from backend.labelstudio.wiring import Address
from backend.learning.source import studio_of
from backend.service import Backend
from backend.settings import Settings
from backend.training import TrainingLane

if TYPE_CHECKING:
    from backend.learning.commands import Learner
    from backend.learning.train import Progress, Told, Trained

log = logging.getLogger(__name__)


class Interrupted(Exception):
    """A run that ends before its time, and may go on later."""


def learn(settings: Settings, project: int, lane: TrainingLane, told: Told) -> Trained:
    """Train a project on what is accepted of it; Label Studio is to follow.

    Whatever becomes of the training, the prompts that are measured for it are asked from then on.
    """
    from backend.learning.recipe import Recipe

    learner = _learner(settings, project)
    with contextlib.suppress(RedisError):  # the run is ours, and needs no broker to go on
        lane.follow(project, _since(settings, project))
    return learner.learn(Recipe(steps=settings.train_steps), told)


def measure_prompts(
    settings: Settings, project: int, lane: TrainingLane, stopping: Callable[[], bool]
) -> None:
    """Measure what a project's labels are best asked with; Label Studio is to follow.

    It is not finished if the trainer is told to stop.

    Raises:
        BrokerUnavailable: the broker does not answer; nothing was measured.
        BackendError: what is accepted cannot be had.
    """

    def told(_: Progress) -> None:
        if stopping():
            raise Interrupted

    before = Books(settings.model_dir).book(project).number
    # said first: who is killed in between follows once too often rather than never
    try:
        lane.follow(project, _since(settings, project))
    except RedisError as error:
        raise BrokerUnavailable(f"The broker does not answer: {error}.") from None
    with contextlib.suppress(Interrupted):
        book = _learner(settings, project).measure(told).book
        if book.number > before:
            log.info("project %d: prompts %d, %s", project, book.number, book.note.by)


def _since(settings: Settings, project: int) -> str:
    """What the lane calls prompts that are measured from now on."""
    return f"prompts after {Books(settings.model_dir).book(project).number}"


def _learner(settings: Settings, project: int) -> Learner:
    """What learns, with the model.

    That is loaded for each time and let go after it, so that who never learns never pays for it.
    """
    from backend.learning.commands import accepted_in_studio
    from backend.worker.runtime import learner_of

    return learner_of(settings, project, accepted_in_studio(settings, studio_of(settings), project))


def move_on(settings: Settings, project: int) -> str:
    """Bring Label Studio to the version of a project that is served now; tells what was done."""
    if not settings.pushes:
        return (
            f"project {project}: nothing to move in Label Studio without LABEL_STUDIO_URL and "
            "LABEL_STUDIO_API_KEY; retrieve predictions there to see the new version's"
        )
    here = Address(settings.service_url, settings.basic_auth_user, settings.basic_auth_pass)
    return follow(connect.label_studio(settings), Backend(here, patience=5.0), project)
