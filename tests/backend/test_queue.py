from dataclasses import replace

import pytest

from backend.errors import BadSetting
from backend.queue import Asking, PredictionQueue, WorkerPulse, connect, mixed


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3/cr3t@localhost:6379/0",
        "redis://:s3#cr3t@localhost",
        "redis://:s3cr3t@localhost:port",
        "redis://:s3cr3t@localhost?db=first",
        "redis://:s3cr3t@localhost?no_such_option=1",
        "redis://:s3cr3t@localhost?protocol=9",
        "rediss://:s3cr3t@localhost?ssl_cert_reqs=perhaps",
    ],
)
def test_an_address_of_a_broker_that_cannot_be_understood_is_told_without_its_password(
    url: str,
) -> None:
    with pytest.raises(BadSetting, match=r"REDIS_URL cannot be used: .*%2F") as caught:
        connect(url)
    assert "s3" not in str(caught.value)


def test_a_password_may_be_written_with_any_character() -> None:
    client = connect("redis://:s3%2Fcr%3At@localhost:6379/2")
    told = client.connection_pool.connection_kwargs
    assert (told["password"], told["db"]) == ("s3/cr:t", 2)


def test_an_answer_that_went_out_stays_so_where_the_broker_cannot_be_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    PredictionQueue(connect("redis://127.0.0.1:9")).finish(Asking("asker", ("job",)))
    assert "could not be told" in caplog.text


def test_workers_with_different_checkpoints_on_one_broker_are_told() -> None:
    demo = WorkerPulse("w1", "host", 1, "clipseg", "demo", "d1" * 32, "cpu")
    other = replace(demo, name="w2", checkpoint="/models/ours", digest="f0" * 32)
    assert mixed([]) == mixed([demo]) == mixed([demo, replace(demo, name="w3")]) == []
    (told,) = mixed([demo, other, replace(demo, name="w3")])
    assert "/models/ours (clipseg-f0f0f0f0), demo (clipseg-d1d1d1d1)" in told
    assert "another database number" in told
