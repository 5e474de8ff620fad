"""A worker whose device broke."""

import logging
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from backend.worker.device import LOST, watched

CUDA = torch.device("cuda", 0)
BROKEN = "CUDA error: an illegal memory access was encountered\nFor debugging consider ..."
DEFECT = {"error": "InternalError", "detail": "A defect"}


class Ended(BaseException):
    """The process would be gone."""


@pytest.fixture(autouse=True)
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    statuses: list[int] = []

    def end(status: int) -> None:
        statuses.append(status)
        raise Ended

    monkeypatch.setattr("os._exit", end)
    return statuses


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """What was probed; its first probe succeeds, the others fail."""
    devices: list[torch.device] = []

    def probe(device: torch.device) -> None:
        devices.append(device)
        if len(devices) > 1:
            raise RuntimeError(BROKEN)

    monkeypatch.setattr("backend.worker.device.probe", probe)
    return devices


def answers(*told: dict[str, Any]) -> Any:
    def answer(payloads: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], float]]:
        return [(one, 0.0) for one in told]

    return answer


def test_a_worker_whose_device_broke_ends_without_an_answer(
    asked: list[torch.device], exits: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    answer = watched(answers({"regions": []}, DEFECT), CUDA)
    assert answer([{}, {}]) == [({"regions": []}, 0.0), (DEFECT, 0.0)]  # the device is well
    with caplog.at_level(logging.ERROR), pytest.raises(Ended):
        answer([{}, {}])
    assert asked == [CUDA, CUDA]
    assert exits == [LOST]
    [line] = caplog.messages
    assert line == (
        "cuda:0 is of no use any more (CUDA error: an illegal memory access was encountered): "
        "this worker ends"
    )


@pytest.mark.parametrize(
    "told", [{"regions": []}, {"error": "OutOfMemory"}, {"error": "BadPrompt"}]
)
def test_a_device_is_not_asked_after_what_was_expected(
    asked: list[torch.device], told: dict[str, Any]
) -> None:
    assert watched(answers(told), CUDA)([{}]) == [(told, 0.0)]
    assert asked == []


def test_a_cpu_is_never_asked(asked: list[torch.device]) -> None:
    assert watched(answers(DEFECT), torch.device("cpu"))([{}]) == [(DEFECT, 0.0)]
    assert asked == []


def test_a_device_that_is_full_is_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: torch.device) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("backend.worker.device.probe", full)
    assert watched(answers(DEFECT), CUDA)([{}]) == [(DEFECT, 0.0)]
