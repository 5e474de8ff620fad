"""A training's report."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from backend.learning.evaluate import Case, Evaluation, Score
from backend.learning.page import page
from backend.learning.promotion import decide

HISTORY = [(0, 0.0, 0.1), (20, 0.9, 0.4), (40, 0.6, 0.5)]


def report(label: str = "Car", looks: int = 2) -> str:
    scores = [Score(task, label, True, 0.5, 0.3) for task in range(3)]
    found = Evaluation(scores, [Case(scores[0], 0.5, 0.3, "data:image/jpeg;base64,AAAA")])
    account = {"images": {"training": 9}, "left_out": {label: {"count": 1, "tasks": [4]}}}
    return written(found, HISTORY[: looks + 1], account=account)


def written(
    found: Evaluation,
    history: Sequence[tuple[int, float, float]] = HISTORY,
    share: float = 1.0,
    account: Mapping[str, Any] | None = None,
) -> str:
    used = account or {"images": {}, "left_out": {}}
    was = "version 0123456789abcdef"
    return page("Version 1", was, share, decide(found), found, history, used, {"seed": 0})


def test_names_are_text() -> None:
    html = report("<script>alert(1)</script>")
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 3  # in the table, below a picture, and left out


def test_what_a_version_gains_is_told_where_a_label_is_not_too() -> None:
    told = [Score(1, "Car", True, 0.5, 0.4), *(Score(n, "Car", False, 0, n % 2) for n in range(4))]
    found = Evaluation(told)
    html = written(found)
    rows = [
        row.replace("</th>", "</td>").split("</td><td>")
        for row in html.split('<tr><th scope="row">')
    ]
    assert ["0.500", "0.400", "-0.100"] in [row[1:4] for row in rows if row[0] == "Car"]
    assert ["0.000", "0.500", "+0.500"] in [
        row[1:4] for row in rows if row[0] == "Car, where it is not"
    ]
    assert found.to_json()["absent"] == {"Car": {"iou": 0.5, "active_iou": 0.0, "images": 4}}


def test_where_nothing_judged_there_are_no_figures() -> None:
    found = Evaluation()
    verdict = decide(found)
    assert (verdict.promoted, "no held-out task" in verdict.reason) == (False, True)
    html = written(found)
    assert "0.000" not in html.partition("<h2>Training")[0]
    assert (found.to_json()["iou"], found.to_json()["active_iou"]) == (None, None)


def test_a_table_wider_than_the_screen_can_be_moved_by_keyboard() -> None:
    html = report()
    assert html.count("<table>") == 4
    places = re.findall(r'<div tabindex="0" role="group" aria-label="([^"]+)"><table>', html)
    assert places == ["IoU", "Images", "Left out", "Settings"]
    assert html.count("<main>") == html.count("</main>") == 1


def test_a_name_that_turns_the_text_around_leaves_what_follows_readable() -> None:
    assert "task 0, a?b: IoU 0.30, before 0.50" in report("a\u202eb")


def test_a_line_without_a_second_point_is_no_figure() -> None:
    assert "loss, smoothed" in report()
    html = report(looks=1)
    assert "loss, smoothed" not in html
    assert "mean IoU on validation tasks" in html


def test_it_says_which_version_it_was_judged_beside() -> None:
    assert "“Active” is what was served until then: version 0123456789abcdef." in report()


def test_it_says_where_less_is_served_than_what_did_best_on_validation() -> None:
    assert "moved back to 70% of their change" in written(Evaluation(), share=0.7)
    assert "moved back" not in report()
