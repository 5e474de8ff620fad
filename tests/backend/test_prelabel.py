"""The command on a Label Studio and a backend that answer from memory."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from backend.errors import BackendError
from backend.labelstudio.wiring import Address
from backend.prelabel import AT_ONCE, prelabel
from backend.service import Backend

Server = Any  # conftest.py has it
VERSION = "clipseg-1-2"


class Studio:
    """A project of which the first tasks have their prediction, and in the end all but `left`."""

    def __init__(self, tasks: int, having: int = 0, left: Sequence[int] = ()) -> None:
        self._numbers: Sequence[int] = range(having + 1, tasks + 1)
        self._left = left

    def project(self, project: int) -> dict[str, Any]:
        return {"id": project, "label_config": "<View/>"}

    def tasks(self, project: int, *, lacking: str | None = None, **_: Any) -> Iterator[Any]:
        assert lacking is not None
        numbers, self._numbers = self._numbers, self._left
        return iter({"id": number, "data": {}} for number in numbers)


class Busy(Backend):
    """A backend that works on `pace` tasks between two looks."""

    def __init__(self, pace: int, failing: Mapping[str, str] | None = None) -> None:
        super().__init__(Address("http://backend:9090"))
        self.lots: list[int] = []
        self.tasks: list[int] = []
        self._pace = pace
        self._pending = 0
        self._failing = dict(failing or {})

    def version(self, project: int, label_config: str) -> str:
        return VERSION

    def hand_over(
        self, project: int, label_config: str, tasks: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        self.lots.append(len(tasks))
        self.tasks += [task["id"] for task in tasks]
        self._pending += len(tasks)
        return {"model_version": VERSION}

    def progress(self, project: int, version: str) -> dict[str, Any]:
        self._pending = max(0, self._pending - self._pace)
        return {
            "pending": self._pending,
            "failed": len(self._failing),
            "reasons": self._failing,
            "trouble": None,
        }


def test_what_lacks_a_prediction_is_handed_over_in_lots_and_watched() -> None:
    backend = Busy(pace=100)
    report = prelabel(Studio(tasks=1000, having=450), backend, 7, poll=0)
    assert backend.tasks == list(range(451, 1001))
    assert max(backend.lots) == AT_ONCE
    assert (report.handed, report.pending, report.failures) == (550, 0, 0)
    assert "550 tasks lacked a prediction, 550 have one" in str(report)


def test_without_waiting_the_report_says_what_is_left() -> None:
    report = prelabel(Studio(tasks=300), Busy(pace=100), 7, wait=False)
    assert report.pending == 200
    assert "200 are worked on" in str(report)


def test_a_project_that_has_everything_is_done_at_once() -> None:
    backend = Busy(pace=1)
    report = prelabel(Studio(tasks=5, having=5), backend, 7)
    assert (report.handed, backend.lots) == (0, [])


def test_failures_are_told_by_reason_with_an_example() -> None:
    failing = {"4": "ImageMissing: gone", "9": "ImageMissing: gone", "11": "BadPrompt: too long"}
    report = prelabel(Studio(tasks=20), Busy(pace=20, failing=failing), 7)
    text = str(report)
    assert report.failures == 3
    assert "20 tasks lacked a prediction, 17 have one" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["2", "ImageMissing:", "gone", "4,", "9"] in rows
    assert ["1", "BadPrompt:", "too", "long", "11"] in rows


def test_images_that_are_missing_are_one_reason_whatever_they_are_called() -> None:
    missing = "ImageMissing: http://ls:8080/data/{} does not exist: ls answered {}"
    failing = {str(n): missing.format(f"cat-{n}.jpg", 404) for n in range(1, 5001)}
    failing["6000"] = missing.format("dog.jpg", 500)
    local = "ImageMissing: cats/{} cat.jpg is not in LOCAL_FILES_DOCUMENT_ROOT (/images)"
    failing |= {"7000": local.format("old"), "7001": local.format("young")}
    failing["8000"] = "BadPrompt: too long"
    _, _, _, _, *rows = str(prelabel(Studio(8000), Busy(8000, failing), 7)).splitlines()
    assert [row.split()[0] for row in rows] == ["5000", "2", "1", "1"]
    assert failing["1"] in rows[0]
    assert rows[0].endswith("1, 2, 3")


def test_what_failed_before_and_was_not_handed_over_now_is_not_counted() -> None:
    """As tasks that were deleted, or whose prediction came from elsewhere."""
    failing = {"2": "NotPushed: the task was deleted", "9": "ImageMissing: gone"}
    report = prelabel(Studio(tasks=10, having=5), Busy(pace=10, failing=failing), 7, poll=0)
    assert (report.handed, report.failures) == (5, 1)
    assert "5 tasks lacked a prediction, 4 have one" in str(report)
    report = prelabel(Studio(tasks=10, having=10), Busy(pace=10, failing=failing), 7, poll=0)
    assert (report.handed, report.failures) == (0, 0)
    assert str(report).endswith("no task lacks a prediction.")


def test_what_label_studio_asked_for_itself_is_not_taken_to_be_lost() -> None:
    class Saving(Studio):
        """Each time that it is asked, three more tasks have their prediction."""

        def tasks(self, project: int, *, lacking: str | None = None, **rest: Any) -> Iterator[Any]:
            self._left = list(self._numbers)[:-3]
            return super().tasks(project, lacking=lacking, **rest)

    report = prelabel(Saving(tasks=10), Busy(pace=10), 7, poll=0)
    assert (report.handed, report.lost) == (10, 0)


def test_a_labeling_configuration_that_is_changed_meanwhile_is_told() -> None:
    class Changing(Studio):
        def project(self, project: int) -> dict[str, Any]:
            row = super().project(project)
            return row if self._numbers else row | {"label_config": "<View></View>"}

    report = prelabel(Changing(tasks=10), Busy(pace=10), 7, poll=0)
    assert (report.handed, report.lost) == (10, 0)
    assert "labeling configuration was changed meanwhile" in str(report)


def test_what_the_queue_lost_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a broker without persistence was started again."""
    monkeypatch.setattr("backend.prelabel.SAVING", 0.0)
    studio = Studio(tasks=10, left=(2, 9, 77))
    report = prelabel(studio, Busy(pace=10, failing={"9": "ImageMissing: gone"}), 7, poll=0)
    assert (report.handed, report.failures, report.lost) == (10, 1, 1)
    assert "10 tasks lacked a prediction, 8 have one." in str(report)
    assert "1 still lack" in str(report)


def test_failures_beyond_those_that_are_named_are_not_taken_to_be_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backend.prelabel.SAVING", 0.0)

    class Terse(Busy):
        def progress(self, project: int, version: str) -> dict[str, Any]:
            return {**super().progress(project, version), "failed": 5}

    failing = dict.fromkeys(("1", "2"), "ImageMissing: gone")
    report = prelabel(Studio(10, left=range(1, 6)), Terse(pace=10, failing=failing), 7, poll=0)
    assert (report.failures, report.lost) == (5, 0)


def test_another_version_served_meanwhile_is_waited_for() -> None:
    looked: list[str] = []

    class Promoted(Busy):
        def hand_over(self, *given: Any) -> dict[str, Any]:
            super().hand_over(*given)
            return {"model_version": VERSION if len(self.lots) == 1 else "clipseg-1-3"}

        def progress(self, project: int, version: str) -> dict[str, Any]:
            looked.append(version)
            return super().progress(project, version)

    report = prelabel(Studio(tasks=300), Promoted(pace=1000), 7, poll=0)
    assert looked == [VERSION, "clipseg-1-3"]
    assert report.version == "clipseg-1-3"


def told(content: object, status: int = 200) -> dict[str, Any]:
    return {"body": json.dumps(content).encode(), "status": status}


def test_credentials_of_the_machine_are_not_taken_for_the_backends(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login other password secret")
    monkeypatch.setenv("NETRC", str(netrc))
    server.reply("/train", b'{"job": "train-7-1"}')
    for user in ("ls", None):
        Backend(Address(server.url, user, "s3cret"), patience=0.5).train(7)
    assert [one.authorization for one in server.requests] == ["Basic bHM6czNjcmV0", None]


def test_a_backend_that_is_not_ready_is_asked_again(server: Server) -> None:
    answers = iter(
        [
            told({"error": "QueueUnavailable", "detail": "no"}, status=503),
            told({"model_version": None}),
            told({"model_version": VERSION}),
        ]
    )
    server.decide("/setup", lambda _: next(answers))
    backend = Backend(Address(server.url, "ls", "s3cret"), patience=0.5)
    assert backend.version(7, "<View/>") == VERSION
    assert all(request.authorization.startswith("Basic ") for request in server.requests)


def test_a_backend_that_stays_away_is_told() -> None:
    with pytest.raises(BackendError, match="promptbrush up"):
        Backend(Address("http://127.0.0.1:9"), patience=0.05).progress(7, VERSION)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (told({"error": "QueueUnavailable", "detail": "none."}, status=503), r": none\.$"),
        (told({"error": "NowhereToPush", "detail": "set it"}, status=409), "set it"),
        ({"body": b"<html>", "status": 502}, "502, and not as promptbrush does"),
        ({"body": b"<html>"}, "200, and not as promptbrush does"),
    ],
)
def test_a_backend_that_refuses_is_told(server: Server, answer: Any, words: str) -> None:
    server.decide("/prelabel", lambda _: answer)
    with pytest.raises(BackendError, match=words):
        Backend(Address(server.url), patience=0.05).hand_over(7, "<View/>", [])
