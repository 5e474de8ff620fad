"""Trainings by themselves, on request, stopped, and with everybody killed at every stage."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import requests
from redis import Redis

from backend import broker
from backend.connect import connect
from backend.duties import learn
from backend.errors import LabelStudioUnavailable
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.wiring import Address
from backend.learning import promotion
from backend.learning.collected import Collected
from backend.learning.dataset import Part
from backend.learning.measure import Figures, Measured
from backend.learning.versions import Versions
from backend.reader import Reader
from backend.settings import Settings
from backend.showcase import free_port
from backend.trainer import Trainer
from backend.training import TrainingLane
from tests.backend.fake_label_studio import TOKEN
from tests.live.conftest import ImageHost, Up, wait_until
from tests.live.school import School, school

pytestmark = pytest.mark.live


@pytest.fixture
def pupils(image_host: ImageHost, launch: Callable[..., Up]) -> Iterator[School]:
    yield from school(image_host, launch)


def test_a_training_that_was_asked_for_runs_and_is_told(pupils: School) -> None:
    up = pupils.begin()
    answer = pupils.webhook(up, "START_TRAINING")
    assert (answer.status_code, answer.json()["job"]) == (201, f"train-{pupils.project}-1")
    told = pupils.wait_for(up, "done")
    assert told["outcome"] in {"promoted", "rejected"}
    assert told["reason"]
    (version,) = pupils.versions(up)["versions"]
    assert version["id"] == told["version"]
    assert version["settings"]["steps"] == 4
    book = up.get(f"/prompts?project={pupils.project}")
    assert book["note"]["by"].startswith("measured on ")
    assert all(label["exemplars"] for label in book["labels"].values())


def test_enough_news_and_then_quiet_start_a_training_by_itself(pupils: School) -> None:
    up = pupils.begin(TRAIN_AFTER=5, TRAIN_QUIET=1.5)
    for task in pupils.tasks[:4]:
        pupils.submitted(up, task)
    wait_until(lambda: pupils.state(up).get("news") == 4)
    time.sleep(2)
    assert pupils.state(up)["state"] == "none"
    (gone,) = pupils.studio.tasks[pupils.tasks[0]]["annotations"]
    pupils.webhook(up, "ANNOTATIONS_DELETED", annotations=[{"id": gone["id"]}])
    pupils.wait_for(up, "done")
    assert pupils.state(up)["news"] == 0
    assert up.get("/jobs")["events"]["count"] == 0


def test_without_an_api_key_what_webhooks_brought_is_learnt_from(pupils: School) -> None:
    up = pupils.begin(LABEL_STUDIO_API_KEY="", TRAIN_AFTER=len(pupils.tasks), TRAIN_QUIET=0.5)
    for task in pupils.tasks:
        pupils.submitted(up, task)
    told = pupils.wait_for(up, "done")
    (version,) = pupils.versions(up)["versions"]
    assert version["id"] == told["version"]
    assert sum(version["metrics"]["data"]["images"].values()) == len(pupils.tasks)
    if told["outcome"] == "promoted":
        wait_until(lambda: "without LABEL_STUDIO_URL" in up.log.read_text())


def test_what_is_accepted_while_the_broker_is_away_outlives_the_web_and_is_news_once_it_is_back(
    pupils: School, tmp_path: Path
) -> None:
    port = free_port()

    def serve() -> subprocess.Popen[bytes]:
        kept = ["--dir", str(tmp_path), "--save", "", "--appendonly", "yes"]
        return subprocess.Popen([broker.find_server(None), "--port", str(port), *kept])

    server = serve()
    try:
        redis_url = f"redis://127.0.0.1:{port}/0"
        up = pupils.begin(LABEL_STUDIO_API_KEY="", REDIS_URL=redis_url, TRAIN_AFTER=99)
        pupils.submitted(up, pupils.tasks[0])
        wait_until(lambda: pupils.state(up).get("news") == 1)
        server.kill()
        server.wait()
        for task in pupils.tasks[1:4]:
            pupils.submitted(up, task)
        assert up.get("/health")["broker"] == "DOWN"
        wait_until(lambda: len(list((up.data_dir / "backlog").glob("[0-9]*.json"))) == 3)
        up.kill("backend.cli web")
        server = serve()
        wait_until(lambda: pupils.state(up).get("news") == 4, 60)
    finally:
        server.kill()
        server.wait()


def test_one_accepted_mask_is_shown_to_the_next_image_by_itself(pupils: School) -> None:
    for task in pupils.tasks[1:]:
        pupils.studio.tasks[task]["annotations"].clear()
    up = pupils.begin(PROMPTS_AFTER=1)
    before = pupils.predicted(up)
    client = LabelStudio(pupils.studio.url, TOKEN)
    connect(client, pupils.project, Address(up.url))
    pupils.studio.look(str(before))
    pupils.submitted(up, pupils.tasks[0])
    wait_until(lambda: pupils.predicted(up) != before, 60)
    book = up.get(f"/prompts?project={pupils.project}")
    (exemplar,) = book["labels"]["Bright"]["exemplars"]
    assert exemplar["task"] == pupils.tasks[0]
    now = pupils.predicted(up)
    pupils.studio.look(str(now))
    wait_until(lambda: pupils.studio.projects[pupils.project]["model_version"] == now, 60)
    assert pupils.state(up)["state"] == "none"  # nothing was trained


@pytest.mark.parametrize("remembered", [True, False])
def test_what_is_kept_of_a_prediction_is_measured_by_itself(
    pupils: School, remembered: bool
) -> None:
    up = pupils.begin(
        LABEL_STUDIO_API_KEY="",
        MODEL_SCORE_THRESHOLD=0.001,  # both labels are found everywhere
        ANNOTATION_CACHE_MB=64 if remembered else 0,
    )
    (entry,) = pupils.predict(up).json()["results"]
    kept, refused = entry["result"]
    assert kept["value"]["brushlabels"] != refused["value"]["brushlabels"]
    (annotation,) = pupils.studio.tasks[pupils.tasks[0]]["annotations"]
    region = {**kept, "origin": "prediction"}
    annotation |= {"result": [region], "parent_prediction": 1, "lead_time": 4.0}
    pupils.submitted(up, pupils.tasks[0])
    wait_until(lambda: bool(pupils.versions(up)["accepted"]["weights"]))
    (figures,) = pupils.versions(up)["accepted"]["weights"].values()
    # where it is not known what was predicted, nobody knows what was deleted either
    assert (figures["predicted"], figures["untouched"]) == (2 if remembered else 1, 1)
    assert figures["seconds_saved"] > 0


def test_requests_during_a_run_give_one_more(pupils: School) -> None:
    up = pupils.begin()
    hold = threading.Event()
    pupils.images.before = lambda path, count: (hold.wait(60), None)[1]
    first = pupils.ask(up)
    pupils.wait_for(up, "measuring")
    second = {pupils.ask(up) for _ in range(5)}
    assert len(second) == 1
    assert pupils.state(up)["next"]["job"] in second
    hold.set()
    last = pupils.wait_for(up, "done", second.pop())
    assert last["next"] is None
    assert first.endswith("-1")
    assert last["job"].endswith("-2")


def test_predictions_are_answered_while_a_training_runs(pupils: School) -> None:
    up = pupils.begin(TRAIN_STEPS=2000)
    pupils.ask(up)
    pupils.wait_for(up, "training")
    assert all(pupils.predicted(up) for _ in range(5))
    assert pupils.state(up)["state"] == "training"
    stop = [sys.executable, "-m", "backend.cli", "train", "--project", str(pupils.project)]
    done = subprocess.run(
        [*stop, "--stop", "--backend", up.url], capture_output=True, text=True, check=True
    )
    assert "is stopped" in done.stdout
    assert "by hand" in pupils.wait_for(up, "stopped")["reason"]
    answer = requests.delete(f"{up.url}/train?project={pupils.project}", timeout=10)
    assert answer.json() == {"project": pupils.project, "stopped": False}


def test_a_trainer_that_is_told_to_stop_lets_the_next_go_on(pupils: School) -> None:
    up = pupils.begin(TRAIN_STEPS=120)
    job = pupils.ask(up)
    run = up.data_dir / "models" / str(pupils.project) / ".training/run.pt"
    wait_until(run.exists, 120)
    for pid in up.family("backend.cli trainer"):
        subprocess.run(["kill", str(pid)], check=True)
    told = pupils.wait_for(up, "done", job)
    assert told["version"] == pupils.versions(up)["versions"][0]["id"]


def test_what_cannot_be_trained_is_told_and_left(pupils: School) -> None:
    for task in pupils.tasks[3:]:
        pupils.studio.tasks[task]["annotations"].clear()
    up = pupils.begin()
    pupils.ask(up)
    told = pupils.wait_for(up, "failed")
    assert told["error"] == "TooLittleData"
    assert "accept some more" in told["reason"]
    assert told["next"] is None


def test_where_label_studio_is_away_a_training_waits_for_it(pupils: School) -> None:
    up = pupils.begin(LABEL_STUDIO_URL="http://127.0.0.1:9")
    job = pupils.ask(up)
    wait_until(lambda: "cannot be reached" in str(pupils.state(up).get("reason")))
    told = pupils.state(up)
    assert (told["state"], told["job"]) == ("waiting", job)


def test_a_promotion_moves_label_studio_and_predicts_open_tasks_anew(pupils: School) -> None:
    up = pupils.begin(TRAIN_STEPS=100)
    studio = pupils.studio
    client = LabelStudio(studio.url, TOKEN)
    before = pupils.predicted(up)
    assert before is not None
    studio.model_version = before
    connect(client, pupils.project, Address(up.url))
    still_open = [studio.add_task(pupils.project, **studio.tasks[pupils.tasks[0]]["data"])]
    pupils.ask(up)
    told = pupils.wait_for(up, "done")
    assert told["outcome"] == "promoted", told
    now = pupils.predicted(up)
    assert now is not None
    assert now != before
    studio.look(now)
    wait_until(lambda: studio.projects[pupils.project]["model_version"] == now, 60)
    assert [one["title"] for one in studio.backends.values()] == [now]
    wait_until(lambda: len(studio.predictions) == len(still_open), 60)
    assert [(one["task"], one["model_version"]) for one in studio.predictions] == [
        (still_open[0], now)
    ]
    wait_until(lambda: pupils.state(up)["to_follow"] is None, 60)

    # the weights of before; what prompts were measured to be worth stays in the book
    model, weights, _, asked = now.split("-")
    back = f"{model}-{weights}-{asked}"
    studio.look(back)
    rollback = ["versions", "rollback", "--project", str(pupils.project), "--backend", up.url]
    subprocess.run(
        [sys.executable, "-m", "backend.cli", *rollback],
        env={
            **os.environ,
            "MODEL_DIR": str(up.data_dir / "models"),
            "LABEL_STUDIO_URL": studio.url,
            "LABEL_STUDIO_API_KEY": TOKEN,
        },
        check=True,
    )
    assert pupils.predicted(up) == back
    assert studio.projects[pupils.project]["model_version"] == back
    wait_until(lambda: len(studio.predictions) == 2 * len(still_open), 60)
    assert studio.predictions[-1]["model_version"] == back


def test_what_cannot_be_followed_for_whatever_reason_ends_no_trainer(
    redis: Redis, tmp_path: Path
) -> None:
    redis.flushdb()
    lane, tries = TrainingLane(redis), list[int]()
    lane.follow(7, "one")

    def move_on(project: int) -> str:
        tries.append(project)
        raise KeyError("model_version")

    def learn(*_: object) -> NoReturn:
        raise AssertionError

    reader = Reader(redis, Collected(tmp_path), lane, [], Settings.from_environment({}))
    Trainer(lane, "one", reader, learn, move_on, [], lambda: bool(tries)).run()
    assert lane.to_follow() == [(7, "one")]


class _Killed(BaseException):
    """What is in the way of all that would have followed."""


@pytest.mark.parametrize("then", [_Killed, LabelStudioUnavailable("it is away")])
def test_a_promotion_is_to_be_followed_whatever_happens_to_its_trainer_then(
    pupils: School,
    redis: Redis,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    then: BaseException | type[BaseException],
) -> None:
    for rule, open_to_all in (("SURE", 0.0), ("MOST_LOST", 1.0), ("LEAST_KEPT", 0.0)):
        monkeypatch.setattr(promotion, rule, open_to_all)
    known = {"LABEL_STUDIO_URL": pupils.studio.url, "LABEL_STUDIO_API_KEY": TOKEN}
    folders = {"MODEL_DIR": str(tmp_path / "models"), "PROMPTBRUSH_DATA_DIR": str(tmp_path)}
    few = {"PROMPTBRUSH_CHECKPOINT": str(tiny_checkpoint), "TRAIN_STEPS": "1"}
    settings = Settings.from_environment({**known, **folders, **few, "IMAGE_HOSTS": "127.0.0.1"})
    redis.flushdb()
    lane, write = TrainingLane(redis), Figures.write

    def unless_promoted(
        self: Figures, *arguments: Any, tuned: str | None, **others: Any
    ) -> Measured:
        if tuned is not None:
            raise then
        return write(self, *arguments, tuned=tuned, **others)

    monkeypatch.setattr(Figures, "write", unless_promoted)
    if then is _Killed:
        with pytest.raises(_Killed):
            learn(settings, pupils.project, lane, lambda _: None)
    else:
        assert learn(settings, pupils.project, lane, lambda _: None).verdict.promoted
    assert Versions(settings.model_dir).active(pupils.project) is not None
    assert [project for project, _ in lane.to_follow()] == [pupils.project]


@pytest.mark.parametrize("role", ["backend.cli trainer", "backend.cli worker", "valkey-server"])
def test_killed_at_any_stage_the_run_ends_well_and_the_active_version_serves(
    pupils: School, role: str
) -> None:
    up = pupils.begin(TRAIN_STEPS=100)
    models = up.data_dir / "models" / str(pupils.project)
    held, released = f"/{pupils.of(Part.TRAINING)[-1]}.png", threading.Event()

    def hold(path: str, count: int) -> None:
        if path == held:
            released.wait(120)

    pupils.images.before = hold

    def survive() -> None:
        """Kill now; the service goes on."""
        up.kill(role)
        wait_until(lambda: bool(up.family(role)), 60)
        wait_until(lambda: pupils.predicted(up) is not None, 60)
        served = pupils.versions(up)["served"]
        assert served is None or served[:8] in str(pupils.predicted(up))

    job = pupils.ask(up)
    pupils.wait_for(up, "measuring", job)
    survive()
    pupils.submitted(up, pupils.tasks[0])
    released.set()
    pupils.wait_for(up, "training", job)
    with _publishing_held(models / ".lock"):
        pupils.wait_for(up, "judging", job)
        survive()
    told = pupils.wait_for(up, "done", job)
    assert told["version"] in {one["id"] for one in pupils.versions(up)["versions"]}
    wait_until(lambda: up.get("/jobs")["events"]["count"] == 0)

    up.kill(role)  # while a request is on its way
    wait_until(lambda: bool(up.family(role)), 60)
    asked: list[str] = []

    def ask() -> bool:
        try:
            asked.append(pupils.ask(up))
        except (requests.RequestException, KeyError):
            return False
        return True

    wait_until(ask, 60)
    pupils.wait_for(up, "training", asked[0])
    with _publishing_held(models / ".lock"):
        survive()
    told = pupils.wait_for(up, "done", asked[0])
    versions = pupils.versions(up)
    assert told["version"] in {one["id"] for one in versions["versions"]}
    assert versions["served"] == versions["active"]
    assert not list(models.glob(".new-*"))


class _publishing_held:  # noqa: N801
    """Nobody can write among the versions meanwhile."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w")

    def __enter__(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()
