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


def test_columns_that_do_not_fit_go_on_below_beside_the_first_one() -> None:
    told = table(["label", "texts", "IoU", "by hand"], [["Car", "a car", "0.5", "-"]], width=18)
    assert told.splitlines() == [
        "label  texts  IoU",
        "-----  -----  ---",
        "Car    a car  0.5",
        "",
        "label  by hand",
        "-----  -------",
        "Car          -",
    ]
    long = ["what takes more than half", "1", "2"]  # again and again, it would fill all
    assert len(table(["text", "", ""], [long], width=18).splitlines()) == 3
