"""Labels of a labeling configuration: what each is called in results, and what it is prompted with.

<Label value="RedCar"/>                                  prompted with "red car"
<Label value="Animal" predicted_values="a dog, a cat"/>  prompted with both
<Label value="Car" negative_values="shadow"/>            what is more of a shadow is not of the car
<Label value="Car" predicted_values="car, not shadow"/>  likewise
<Label value="Other" model_skip="true"/>                 left to people
<Choice value="red car" alias="rc"/>                     a phrase to choose, "rc" in results
"""

import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from backend.labelstudio.negation import heard

T = TypeVar("T")

LONGEST_PROMPT = 500  # characters; text encoders read some 75 tokens, and refuse more

_CAMEL = re.compile(r"(?<=[a-zß-ÿ]{2})(?=[A-ZÀ-Þ])|(?<=[A-ZÀ-Þ])(?=[A-ZÀ-Þ][a-zß-ÿ])")
_SEPARATORS = re.compile(r"[\s_-]+")
_LATIN_ENDS = "\u0250"  # the first code point after the Latin blocks


@dataclass(frozen=True, slots=True)
class Label:
    """A label as results carry it, and the texts that stand for it."""

    value: str
    prompts: tuple[str, ...]
    threshold: float | None = None
    worded: bool = False  # the prompts are given, not made of its value
    negatives: tuple[str, ...] = ()  # what wins over them where it is more likely
    shown: str = ""  # the name that people read, if it is another


@dataclass(frozen=True, slots=True)
class Choice:
    """A `<Choice>` as results carry it, and the phrase that people read.

    Where choices nest, results carry the way to each, from the outermost one on.
    """

    value: str | tuple[str, ...]
    phrase: str


def words_of(value: str) -> str:
    """A label's value as one would say it: "RedCar", "red_car" and "red-car" are all "red car"."""
    if max(value, default="") >= _LATIN_ENDS:
        return value.strip()
    return _SEPARATORS.sub(" ", _CAMEL.sub(" ", value)).strip().lower()


def as_read(text: str) -> str:
    """What text encoders read of a text, as far as case, spaces and accents go."""
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


def once_each(listed: Iterable[T], name: Callable[[T], str]) -> tuple[T, ...]:
    """The first of each name (a text's is how it is read): what stands twice would count twice."""
    found: dict[str, T] = {}
    for one in listed:
        found.setdefault(name(one), one)
    return tuple(found.values())


def labels_in(
    tag: ET.Element, told: str, default: float | None, problems: list[str]
) -> tuple[Label, ...]:
    """The usable labels below a tag that is `told` so in problems; `default` is its threshold."""
    if tag.get("value", "").startswith("$"):
        problems.append(
            f"{told} takes labels from the tasks ({tag.get('value')}), which is not supported: "
            "list them as <Label> tags"
        )
    labels: dict[str, Label] = {}
    for child in tag.iter():
        if child.tag.lower() != "label" or is_skipped(child):
            continue
        label = _label(child, default, problems)
        if label and label.value in labels:
            problems.append(f'the label "{label.value}" occurs twice in {told}: the first counts')
        elif label:
            labels[label.value] = label
    if not labels:
        problems.append(f"{told} is left out: it has no usable <Label>")
    return tuple(labels.values())


def choices_in(tag: ET.Element, nested: bool) -> tuple[Choice, ...]:
    """The usable choices below a tag.

    Of choices inside others the editor knows nothing unless they are `nested`; then those that hold
    others are ticked by what they hold alone.
    """
    choices: dict[str | tuple[str, ...], Choice] = {}
    ways: dict[ET.Element, tuple[str, ...]] = {tag: ()}  # to each tag, as results carry them
    for holder in tag.iter():
        way = ways[holder]
        for child in holder:
            shown = child.get("value", "")
            value = child.get("alias") or shown  # as with labels
            ways[child] = (*way, value) if _is_choice(child) else way
        if not _is_choice(holder) or is_skipped(holder) or not way[-1].strip():
            continue
        if not any(map(_is_choice, holder)) if nested else len(way) == 1:
            shown = holder.get("value", "")
            told = way if nested else way[0]
            choices.setdefault(told, Choice(told, shown if shown.strip() else way[-1]))
    return tuple(choices.values())


def _is_choice(tag: ET.Element) -> bool:
    return tag.tag.lower() == "choice"


def is_skipped(tag: ET.Element) -> bool:
    """Whether a label or a control is left to people."""
    return tag.get("model_skip", "").lower() == "true"


def threshold_of(tag: ET.Element, told: str, problems: list[str]) -> float | None:
    """The `model_score_threshold` of a label or a control, if it has a usable one."""
    text = tag.get("model_score_threshold")
    if text is None:
        return None
    try:
        threshold = float(text)
    except ValueError:
        threshold = 0.0
    if 0 < threshold < 1:
        return threshold
    problems.append(
        f'model_score_threshold="{text}" of {told} is ignored: give a number between 0 and 1'
    )
    return None


def _label(tag: ET.Element, default: float | None, problems: list[str]) -> Label | None:
    shown = tag.get("value", "")
    value = tag.get("alias") or shown  # the editor stores the alias where there is one
    if not value.strip():
        problems.append("a <Label> without a value is left out")
        return None
    name = words_of(shown) or words_of(value)
    given, unwanted = heard(_listed(tag, "predicted_values"), name)
    prompts = _usable(given or (name,), value, problems)
    if not prompts:
        problems.append(f'the label "{value[:40]}" is left out: set predicted_values="..."')
        return None
    own = threshold_of(tag, f'the label "{value}"', problems)
    negatives = _usable((*_listed(tag, "negative_values"), *unwanted), value, problems)
    threshold = default if own is None else own
    other = shown if shown.strip() not in {"", value.strip()} else ""
    return Label(value, prompts, threshold, bool(given), negatives, other)


def _listed(tag: ET.Element, attribute: str) -> tuple[str, ...]:
    """The texts that an attribute holds, without the empty ones."""
    texts = (text.strip() for text in tag.get(attribute, "").split(","))
    return tuple(text for text in texts if text)


def _usable(texts: Sequence[str], value: str, problems: list[str]) -> tuple[str, ...]:
    """Each of a label's texts once, without those that no prompt can be."""
    usable: list[str] = []
    for text in once_each(texts, as_read):
        if not text:
            problems.append(f'the label "{value}" holds no words to prompt with')
        elif len(text) > LONGEST_PROMPT:
            problems.append(
                f'a prompt of "{value[:40]}" has {len(text)} characters, '
                f"more than {LONGEST_PROMPT}: it is left out"
            )
        else:
            usable.append(text)
    return tuple(usable)
