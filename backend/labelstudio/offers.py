"""Phrases offered to an annotator, and which one was chosen.

"?" in the prompt asks what is in the image, "Car?" or "?Car" how the label might be said. The
answer fills a text area named "suggestions" with numbered phrases, and ticks those of a `<Choices>`
of that name that are there. A number in the prompt chooses a phrase of the list, "!" what is
ticked: the editor asks nothing by itself when something is ticked. "Car: 2", "Car: !" and "Car!"
choose it for that label, "2, not the shadow" without something.
Without such controls the list goes where remarks go.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from backend.labelstudio.config import SUGGESTIONS, LabelConfig
from backend.labelstudio.negation import NOT
from backend.labelstudio.regions import choices_region, text_region

WONDER, TAKE = "?", "!"  # what is typed to be offered phrases, and to take what is ticked
MOST = 5  # phrases in a list
BETWEEN = " · "  # phrases of a list in one line

_LISTED = re.compile(r"(\d+) (.+) \(\d\.\d\d\)")  # an annotator's own "2 dents" is none
_ENDS = re.compile(rf"(?<=\(\d\.\d\d\)){BETWEEN}(?=\d)")  # of a phrase: a label may be "A · B"
_NUMBER = re.compile(rf"[#({WONDER}{TAKE}]*(\d{{1,9}})[\s.):{WONDER}{TAKE}]*")  # as in lists
_NUMBERS = re.compile(r"[-+#(]*\d[-+#&.,;:()\s\d]*")
_OF_A_LABEL = re.compile("(.+)[:：](.+)", re.DOTALL)

Json = dict[str, Any]


def about(prompt: str, config: LabelConfig) -> str | None:
    """What a prompt wonders about: "" the image, else a label; None if it is a phrase.

    A label may be called "Car?": that asks for it, "Car??" how it might be said.
    """
    typed, labels = _plain(prompt), _labels(config)
    said = typed.casefold()
    if said in labels and said != WONDER:
        return None
    if typed.startswith(WONDER):
        after = said.lstrip(f"{WONDER} ")
        for name in (after, after.rstrip(f"{WONDER} ")):
            if name in labels:
                return labels[name]
    if not typed.endswith(WONDER):
        return None
    named = [
        name
        for name in labels
        if said != name and said.startswith(name) and not said[len(name) :].strip(f"{WONDER}: ")
    ]
    if named:
        return labels[max(named, key=len)]
    return typed.rstrip(f"{WONDER} ").removesuffix(":").strip()


def addressed(prompt: str, config: LabelConfig) -> tuple[str, str]:
    """The label that a prompt names before its last colon, or "!", and what it says of it.

    "" and the prompt where it names none, or is a label's own name. A "!" behind a label says only
    something of it where there is something to tick.
    """
    parts, labels = _OF_A_LABEL.fullmatch(prompt.strip()), _labels(config)
    name, said = parts.groups() if parts else ("", "")
    if not parts and config.choice and prompt.strip().endswith((TAKE, "！")):
        name, said = prompt.rstrip(f"{TAKE}！ "), TAKE
    if _folded(name) not in labels or _folded(prompt) in labels:
        return "", prompt
    return name.strip(), said.strip()


def wondered(phrases: Sequence[str], config: LabelConfig) -> str:
    """The label whose phrases were ticked last, by what was typed, oldest first; "" for the image.

    It was wondered about, or one of the phrases was taken for it.
    """
    newest = next((one for one in reversed(phrases) if one.strip() and not takes(one)), "")
    about_it = about(newest, config)
    if about_it is None:
        label, said = addressed(newest, config)
        return label if said in words(config) else ""
    return about_it if _folded(about_it) in _labels(config) else ""


def words(config: LabelConfig) -> tuple[str, ...]:
    """The phrases to choose from, if the labeling configuration lists them."""
    control = config.choice
    return tuple(dict.fromkeys(one.phrase for one in control.choices)) if control else ()


def chosen(prompt: str, lines: Sequence[str], ticked: Sequence[str]) -> str | None:
    """The phrase that a prompt chooses; None if it chooses none.

    Args:
        prompt: What was typed.
        lines: What our lists hold.
        ticked: What is ticked.
    """
    if ticked and takes(prompt):
        return ticked[0]
    known = offered(lines)
    copied = _LISTED.fullmatch(prompt.strip())
    if copied and copied[2] in known.values():
        return copied[2]
    # what is typed before a list in the prompt itself has the question behind it: "2? ⚠ 1 red"
    typed, unwanted = _parts(prompt)
    number = _NUMBER.fullmatch(typed)
    phrase = known.get(str(int(number[1]))) if number else None
    return phrase and phrase + unwanted


def takes(prompt: str) -> bool:
    """Whether a prompt takes what is ticked."""
    return not _plain(prompt).strip(f"{TAKE} ")


def mistaken(
    prompt: str, lines: Sequence[str], ticked: Sequence[str], config: LabelConfig
) -> str | None:
    """Why a prompt that means to choose a phrase chooses none, for the annotator; else None.

    A number is a phrase like any other where there is no list.
    """
    known = offered(lines)
    if takes(prompt) and not ticked:
        if config.choice:
            return "Nothing is ticked: tick a phrase first, or type one."
        instead = 'type one, or "?" to be offered some'
        if known:
            instead = "type the number of one in the list, or a phrase"
        return f"There are no phrases to tick here: {instead}."
    number, _ = _parts(prompt)
    if known and _NUMBERS.fullmatch(number):
        return f"The list has no phrase {number[:9]}: type one of {', '.join(known)}, or a phrase."
    return None


def _parts(prompt: str) -> tuple[str, str]:
    """What may be a number, and what the prompt says that is not meant, from its "not" on."""
    typed = _plain(prompt)
    unwanted = NOT.search(typed)
    end = unwanted.start() if unwanted else len(typed)
    return typed[:end], typed[end:]


def _labels(config: LabelConfig) -> dict[str, str]:
    """The labels to fill by what is typed for them: what people read comes before an alias."""
    known = [label for control in config.outputs for label in control.labels]
    labels = {_folded(one.value): one.value for one in known}
    return labels | {_folded(one.shown): one.value for one in known if one.shown}


def _folded(typed: str) -> str:
    return _plain(typed).casefold()


def _plain(typed: str) -> str:
    """What was typed in the signs that questions are told by: "？" and "؟" are "?", "１" is "1"."""
    return unicodedata.normalize("NFKC", typed).replace("؟", WONDER).strip().lstrip("¿¡")


def offered(lines: Sequence[str]) -> dict[str, str]:
    """The phrases that our lists hold, by their numbers."""
    listed = (part.strip() for line in lines for part in _ENDS.split(line))
    matches = (match for one in listed if (match := _LISTED.fullmatch(one)))
    return {match[1]: str(match[2]) for match in matches}


def listed(phrases: Sequence[Mapping[str, Any]]) -> list[str]:
    """The phrases of a worker's answer, as numbered lines; "Car: red one" says whose it is."""
    return [
        f"{number} {': '.join(filter(None, (one.get('label'), one['text'])))} ({one['likely']:.2f})"
        for number, one in enumerate(phrases[:MOST], start=1)
    ]


def regions(phrases: Sequence[Mapping[str, Any]], config: LabelConfig) -> list[Json]:
    """What fills the controls for suggestions; nothing if there are none that could show one."""
    filled = [
        text_region(text, listed(phrases)) for text in config.texts if text.name == SUGGESTIONS
    ]
    control = config.choice
    known = {one.phrase: one for one in reversed(control.choices)} if control else {}
    there = [known[one["text"]] for one in phrases if one["text"] in known]
    if control and there:
        ticked = there[:1] if control.single else there
        filled.append(choices_region(control, ticked))
    return filled
