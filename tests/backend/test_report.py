from backend.report import table


def test_columns_stay_in_line_whatever_letters_take_in_a_terminal() -> None:
    rows = [["Auto", "a", "1"], ["汽车", "b", "20"], ["Mu\u0308ll", "c", "3"], ["🚗", "d", "4"]]
    assert table(["label", "", "多"], rows).splitlines() == [
        "label     多",
        "-----  -  --",
        "Auto   a   1",
        "汽车   b  20",
        "Mu\u0308ll   c   3",
        "🚗     d   4",
    ]
