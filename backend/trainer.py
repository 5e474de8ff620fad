"""`promptbrush trainer`: the process that trains projects, one at a time.

It works the training lane, and it alone reads Label Studio's events: when enough was accepted, the
project's prompts are measured, and a training is due. Predictions and the web never wait for it:
it is a process of its own, and a nice one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from backend.duties import Interrupted, learn, measure_prompts, move_on
from backend.errors import (
    AlreadyTraining,
    BackendError,
    InternalError,
    LabelStudioUnavailable,
)
from backend.learning.acceptance import measure
from backend.learning.collected import Collected
from backend.learning.gauge import Gauge
from backend.learning.source import studio_of
from backend.outage import Outage
from backend.queue import connect as connect_broker
from backend.reader import Reader
from backend.settings import Settings
from backend.training import STOPPED, Run, TrainingLane
from backend.trainscripts import Word

if TYPE_CHECKING:
    from backend.learning.train import Progress, Told, Trained

log = logging.getLogger(__name__)

NICENESS = 10  # a tenth of the share of others that compute; with 19 it would hardly ever end
LOOK = 0.5  # seconds between looks for something to train
BEAT = 1.0  # seconds between signs of life, and looks for events
TELL = 0.5  # seconds between words of progress
MOST_DEATHS = 3  # a run that took down its trainer this often is given up
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 600.0  # seconds, where Label Studio or the backend is away
MOST_FOLLOWS = 6  # tries to bring a promotion to a Label Studio that answers


@dataclass(slots=True)
class _Held:
    """A run, and the last word about it."""

    run: Run
    word: Word = Word.GO_ON


class Trainer:
    """Works the lane until it is told to stop.

    Args:
        lane: What is to be trained.
        name: Of this trainer in the lane.
        reader: Reads events.
        learn: Trains a project.
        move_on: Brings the version of a project to Label Studio; tells what was done.
        gauges: Measure what can be by itself.
        stopping: Whether to stop.
    """

    def __init__(
        self,
        lane: TrainingLane,
        name: str,
        reader: Reader,
        learn: Callable[[int, Told], Trained],
        move_on: Callable[[int], str],
        gauges: Sequence[Gauge],
        stopping: Callable[[], bool],
    ) -> None:
        self._lane = lane
        self._name = name
        self._reader = reader
        self._learn = learn
        self._move_on = move_on
        self._gauges = gauges
        self._stopping = stopping
        self._outage = Outage(log)
        self._held: _Held | None = None
        self._measuring = False
        self._reading = threading.Lock()
        self._ended = threading.Event()
        self._pauses: dict[int, float] = {}  # by project
        self._follows: dict[tuple[int, str], tuple[int, float]] = {}  # tries, and when again

    def run(self) -> None:
        """Train what is due until told to stop."""
        attendant = threading.Thread(target=self._attend, name="attendant", daemon=True)
        attendant.start()
        try:
            while not self._stopping():
                try:
                    self._follow_up()
                    self._read_all()
                    run = self._lane.take(self._name)
                    self._outage.ends()
                except RedisError as error:
                    self._outage.goes_on(error)
                    run = None
                if run is not None:
                    self._work(run)
                elif not self._measure():
                    self._rest(LOOK)
        finally:
            self._ended.set()
            attendant.join()
            with contextlib.suppress(RedisError):
                self._lane.end_pulse(self._name)

    def _measure(self) -> bool:
        """Measure a project of each gauge, if there is one; events are read meanwhile."""
        self._measuring = True
        measured = [gauge.catch_up() for gauge in self._gauges]
        self._measuring = False
        return any(measured)

    # one run

    def _work(self, run: Run) -> None:
        """Train a project, and say how it went."""
        if run.deaths >= MOST_DEATHS:
            reason = (
                f"The trainer died {run.deaths} times while it trained project {run.project}, and "
                "the run is given up. If nobody killed it there may be too little memory: set a "
                "smaller TRAIN_MEMORY_MB or fewer WORKERS where it runs. Then ask for a training "
                "again, which goes on from this one's last look at the validation tasks."
            )
            log.error("%s", reason)
            self._insist(lambda: self._lane.end(run, self._name, "failed", reason=reason))
            return
        log.info("%s begins", run.name)
        with contextlib.suppress(RedisError):  # the run is ours, and needs no broker to go on
            self._read_all()  # what came between the last look and the request counts
        self._held = held = _Held(run)
        try:
            trained = self._learn(run.project, self._teller(held))
        except Interrupted:
            self._interrupted(held)
        except AlreadyTraining as error:
            self._pause(run, str(error))
        except LabelStudioUnavailable as error:
            self._pause(run, str(error), error.after)
        except BackendError as error:
            self._fail(run, error)
        except OSError as error:
            self._fail(run, BackendError(f"Something could not be read or written: {error}"))
        except Exception:
            log.exception("%s failed unexpectedly", run.name)
            self._fail(run, InternalError("A defect of ours; the trainer's log has the traceback."))
        else:
            self._done(run, trained)
        finally:
            self._held = None

    def _teller(self, held: _Held) -> Told:
        """Says where a run is, and interrupts it when that is wanted."""
        last_stage, tell_at = "", 0.0

        def told(progress: Progress) -> None:
            nonlocal last_stage, tell_at
            if self._stopping() or held.word is not Word.GO_ON:
                raise Interrupted
            if progress.stage == last_stage and time.monotonic() < tell_at:
                return
            last_stage, tell_at = progress.stage, time.monotonic() + TELL
            look = {} if progress.look is None else asdict(progress.look)
            try:
                self._lane.tell(held.run, state=progress.stage, images=progress.images, **look)
            except RedisError as error:
                log.debug("where %s is was not told: %s", held.run.name, error)

        return told

    def _interrupted(self, held: _Held) -> None:
        run = held.run
        if held.word is Word.STOP:
            log.info("%s: %s", run.name, STOPPED)
            self._insist(lambda: self._lane.end(run, self._name, "stopped", reason=STOPPED))
        elif held.word is Word.LOST:
            log.warning("%s: another trainer has it", run.name)
        else:
            log.info("%s pauses: this trainer was told to stop", run.name)
            reason = "its trainer was stopped"
            with contextlib.suppress(RedisError):  # its lease runs out then
                self._lane.pause(run, self._name, 0, reason)

    def _pause(self, run: Run, reason: str, asked: float | None = None) -> None:
        """Let go of a run for the seconds that are asked for, else for ever longer."""
        seconds = self._pauses.get(run.project, FIRST_PAUSE)
        if asked is None:
            self._pauses[run.project] = min(2 * seconds, LONGEST_PAUSE)
        else:
            seconds = asked
        told = f"{reason.rstrip('.')}. It is tried again every {seconds:.0f} s or more."
        log.warning("%s waits %.0f s: %s", run.name, seconds, reason)
        self._insist(lambda: self._lane.pause(run, self._name, round(seconds), told))

    def _fail(self, run: Run, error: BackendError) -> None:
        self._pauses.pop(run.project, None)
        log.warning("%s failed: %s: %s", run.name, error.name, error)
        self._insist(
            lambda: self._lane.end(run, self._name, "failed", error=error.name, reason=str(error))
        )

    def _done(self, run: Run, trained: Trained) -> None:
        self._pauses.pop(run.project, None)
        version, verdict = trained.version, trained.verdict
        became = "promoted" if verdict.promoted else "rejected"
        log.info("%s: version %s is %s: %s", run.name, version.id, became, verdict.reason)
        self._insist(
            lambda: self._lane.end(
                run,
                self._name,
                "done",
                version=version.id,
                outcome=became,
                reason=verdict.reason,
                promoted=version.id if verdict.promoted else "",
            )
        )

    # what follows a promotion

    def _follow_up(self) -> None:
        """Bring promotions to Label Studio; what cannot be brought now is tried again later."""
        for project, version in self._lane.to_follow():
            tries, again = self._follows.get((project, version), (0, 0.0))
            if time.monotonic() < again:
                continue
            try:
                log.info("%s", self._move_on(project))
            except Exception as error:  # a defect, too: else no trainer would get beyond it
                trace = None if isinstance(error, BackendError) else error
                log.warning("version %s of project %d: %s", version, project, error, exc_info=trace)
                if isinstance(error, LabelStudioUnavailable) or tries + 1 < MOST_FOLLOWS:
                    asked = error.after if isinstance(error, LabelStudioUnavailable) else None
                    pause = asked or min(FIRST_PAUSE * 2**tries, LONGEST_PAUSE)
                    self._follows[project, version] = tries + 1, time.monotonic() + pause
                    continue
            self._follows.pop((project, version), None)
            self._lane.followed(project, version)

    # beside the runs

    def _attend(self) -> None:
        """Say that we live, and in a run hear whether to go on.

        Events are read here while the other thread trains or measures: only so many can wait.
        """
        while not self._ended.is_set():
            more = False
            try:
                self._lane.pulse(self._name)
                held = self._held
                if held is not None:
                    held.word = self._lane.renew(held.run, self._name)
                if held is not None or self._measuring:
                    more = self._read()
                self._outage.ends()
            except RedisError as error:
                self._outage.goes_on(error)
            if not more:
                self._ended.wait(BEAT)

    def _read_all(self) -> None:
        """Read every event that is there, before a run begins."""
        while self._read() and not self._stopping():
            pass

    def _read(self) -> bool:
        """Read some events, gives whether there may be more; the threads take turns."""
        with self._reading:
            return self._reader.read()

    def _insist(self, deed: Callable[[], None]) -> None:
        """Do something as soon as the broker answers."""
        while True:
            try:
                deed()
                self._outage.ends()
                return
            except RedisError as error:
                self._outage.goes_on(error)
                if self._stopping():
                    return
                self._rest(1.0)

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._stopping():
            time.sleep(min(0.1, seconds))


def run(settings: Settings, name: str | None = None) -> None:
    """Work the training lane until SIGTERM, niced."""
    yield_to_others()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    connection = connect_broker(settings.broker_url)
    lane = TrainingLane(connection)
    gauges = [
        Gauge(
            lambda project: measure(studio_of(settings), project, settings.model_dir),
            "what is accepted of predictions",
        )
    ]
    if settings.prompts_after:
        gauges.append(
            Gauge(
                lambda project: measure_prompts(settings, project, lane, stopped.is_set),
                "what labels are best asked with",
                first=settings.prompts_after,
                growth=2,
            )
        )
    Trainer(
        lane,
        name or f"trainer-{uuid.uuid4().hex[:8]}",
        Reader(connection, Collected(settings.model_dir), lane, gauges, settings),
        lambda project, told: learn(settings, project, lane, told),
        lambda project: move_on(settings, project),
        gauges,
        stopped.is_set,
    ).run()


def yield_to_others() -> None:
    """Leave most of the time to others that compute, predictions among them."""
    os.nice(NICENESS)
    # Linux may share out time among sessions first, and `up` starts each child in its own
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICENESS), encoding="ascii")
