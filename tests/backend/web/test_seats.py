"""How many may wait for a prediction at once."""

from contextlib import ExitStack

import pytest

from backend.errors import QueueUnavailable
from backend.web.seats import SPARE, Seats


@pytest.mark.parametrize(
    ("threads", "number"), [(1, 1), (SPARE, 1), (SPARE + 1, 1), (SPARE + 3, 3)]
)
def test_all_threads_but_the_spare_ones_may_wait_and_at_least_one(
    threads: int, number: int
) -> None:
    seats = Seats(threads)
    with ExitStack() as taken:
        for _ in range(number):
            taken.enter_context(seats.one())
        with pytest.raises(QueueUnavailable, match=f"^{number} requests wait already"), seats.one():
            pass
