from collections import Counter

from backend.learning.dataset import Account, Part, part_of


def test_the_split_is_what_it_was() -> None:
    """What a version was judged by must never be learnt from later."""
    held_out = [task for task in range(1, 41) if part_of(task) is Part.HELD_OUT]
    assert held_out == [2, 3, 8, 11, 19, 29, 30, 33, 36]
    shares = Counter(part_of(task) for task in range(10_000))
    assert abs(shares[Part.HELD_OUT] - 2000) < 150
    assert abs(shares[Part.VALIDATION] - 2000) < 150


def test_each_reason_names_five_tasks_and_counts_them_all() -> None:
    account = Account()
    for task in (3, 3, 4, 5, 6, 7, 8):
        account.leave_out(task, "why")
    told = account.to_json()["left_out"]
    assert told == {"why": {"count": 7, "tasks": [3, 4, 5, 6, 7]}}
