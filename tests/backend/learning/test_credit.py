"""What annotators accept of masks is told of the phrases that drew them."""

from pathlib import Path

import pytest

from backend.inference.books import Books
from backend.inference.promptbook import Entry, Origin, Phrase
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.starter import label_config
from backend.learning.acceptance import Acceptance, Row, Work
from backend.learning.credit import Credit, credit, credited
from backend.prompting import asked_digest, queries

PROJECT, BASE = 7, "b" * 64
CONFIG = parse_label_config(label_config(["Widget", "Gasket"]))
COG = Phrase("a cog", Origin.TYPED)


@pytest.fixture
def books(tmp_path: Path) -> Books:
    """A book whose second version is the first that says something of widgets."""
    books = Books(tmp_path)
    books.put(PROJECT, "one", Entry("Gasket").setting(threshold=0.3))
    books.put(PROJECT, "two", Entry("Widget", texts=(COG, Phrase("a gear", Origin.TYPED))))
    return books


def versions(books: Books) -> list[str | None]:
    """What names the queries of an empty book, of the first and of the second version."""
    return [asked_digest(queries(CONFIG, 0.4, one)) for one in books.ever_serving(PROJECT, BASE)]


def work(number: int, prompts: str | None, *rows: Row) -> Work:
    return Work(number, number, "", False, BASE[:8], prompts, prompts is not None, 1, None, rows)


def became(label: str, overlap: float) -> Row:
    """A mask that was predicted, and how much of it was accepted."""
    return Row(label, True, 0.8, overlap, overlap == 1)


def found(books: Books, *works: Work) -> dict[tuple[str, str], Credit]:
    ever = (queries(CONFIG, 0.4, one) for one in books.ever_serving(PROJECT, BASE))
    return dict(credit(Acceptance(works), ever))


def test_masks_count_for_the_phrases_that_their_version_was_asked_with(books: Books) -> None:
    empty, first, second = versions(books)
    told = found(
        books,
        work(1, empty, became("Widget", 0.1), became("Gasket", 1)),
        work(2, first, became("Widget", 0.96)),
        work(3, second, became("Widget", 1), became("Gasket", 0.5)),
        work(4, second, became("Widget", 0)),
    )
    assert told == {
        ("Widget", "widget"): Credit(2, 1),
        ("Widget", "a cog"): Credit(2, 1),
        ("Widget", "a gear"): Credit(2, 1),
        ("Gasket", "gasket"): Credit(2, 1),
    }


def test_what_nobody_predicted_or_knows_the_words_of_counts_for_no_phrase(books: Books) -> None:
    _, _, second = versions(books)
    missed = Row("Widget", False, None, 0, False)
    unknown = work(2, None, became("Widget", 1)), work(3, "12345678", became("Widget", 1))
    assert found(books, work(1, second, missed), *unknown) == {}


def test_masks_count_for_a_phrase_with_a_not_in_it(books: Books) -> None:
    texts = (Phrase("a cog, not its shadow", Origin.HAND), Phrase("a gear", Origin.HAND))
    books.put(PROJECT, "three", Entry("Widget").setting(texts=texts))
    told = found(books, work(1, versions(books)[-1], became("Widget", 1)))
    shares = [one.accepted for one in credited(books.book(PROJECT).entry("Widget"), told).texts]
    assert shares == [1, 1]


def test_an_entry_tells_the_share_that_was_accepted_and_of_how_many() -> None:
    stale = Phrase("a gear", Origin.TYPED, predicted=3, accepted=1)
    entry = Entry("Widget", texts=(COG, stale), negatives=(COG,), threshold=0.3)
    told = credited(entry, {("Widget", "a cog"): Credit(8, 6), ("Gasket", "a gear"): Credit(1, 1)})
    cog, gear = told.texts
    assert (cog.predicted, cog.accepted) == (8, 0.75)
    assert (gear.predicted, gear.accepted) == (0, None)
    assert (told.negatives, told.threshold) == (entry.negatives, entry.threshold)
