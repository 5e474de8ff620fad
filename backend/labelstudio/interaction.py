"""What annotators ask with the editor's smart tools, and the words that answer them.

A request carries all rectangles, or all points, of one label, or all texts of an annotation. A
phrase that was typed earlier is found in the drafts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from backend.labelstudio import offers
from backend.labelstudio.config import SUGGESTIONS, LabelConfig, Role, TextControl
from backend.labelstudio.geometry import Point, Rectangle
from backend.labelstudio.origin import weights_in
from backend.labelstudio.regions import text_region

REMARK = "⚠"  # what follows it in a prompt is our answer, never part of the phrase
PROMPT = "prompt"  # the text area of that name is asked first
NOTES = ("note", "message")  # names of a text area that is not smart and takes our answers
LONGEST_REMARK = 300  # characters
_TORN = re.compile("[\ud800-\udfff]")  # half a sign, which JSON can write and no encoder takes

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Interaction:
    """What one request asks; rectangles and points never come together."""

    prompt: str | None = None  # what was typed, now or earlier
    remarked: bool = False  # the prompt's text area holds an answer of ours
    chose: bool = False  # the prompt is a phrase of ours that was chosen, not what was typed
    mistaken: str | None = None  # why the prompt, which means to choose a phrase, chooses none
    wonders: str | None = None  # phrases are wanted: for a label, or "", for the image
    to_name: str | None = None  # the <Image> that rectangles and points are on
    label: str | None = None  # of the rectangles and points
    rectangles: tuple[Rectangle, ...] = ()  # oldest first
    points: tuple[Point, ...] = ()
    role: Role | None = None  # that the labeling configuration gives to the rectangles

    @property
    def asks(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self.prompt or self.rectangles or self.points)

    @classmethod
    def read(cls, context: object, drafts: object, config: LabelConfig) -> Self:
        """Understand `params.context` of a request and the `drafts` of its task."""
        regions = _regions(context)
        shapes = _shapes(regions)
        saved = _draft(drafts, regions)
        if not shapes:
            return cls(**asdict(_typed(regions, config, saved)))
        typed = _typed(saved, config)
        if typed.wonders is not None or typed.mistaken:  # no phrase was chosen yet
            typed = replace(typed, prompt=None)
        newest = shapes[-1][0]
        roles = {tool.name: tool.role for tool in config.tools}
        return cls(
            prompt=typed.prompt,
            remarked=typed.remarked,
            chose=typed.chose,
            to_name=_text(newest, "to_name"),
            label=next(filter(None, map(_label, reversed(regions))), None),
            rectangles=tuple(shape for _, shape in shapes if isinstance(shape, Rectangle)),
            points=tuple(shape for _, shape in shapes if isinstance(shape, Point)),
            role=roles.get(_text(newest, "from_name") or ""),
        )

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        role = raw["role"]
        return cls(
            **{
                **raw,
                "rectangles": tuple(Rectangle(**one) for one in raw["rectangles"]),
                "points": tuple(Point(**one) for one in raw["points"]),
                "role": None if role is None else Role(role),
            }
        )

    def to_json(self) -> Json:
        """What crosses the queue."""
        return asdict(self)


def remarks(interaction: Interaction, config: LabelConfig, words: str, failed: bool) -> list[Json]:
    """Regions that tell an annotator how a request went; the editor applies them at once.

    A note takes every answer, so that none outlives its request. Without one, a failure is added
    to the prompt's own text area, and a success takes it away. A phrase that was chosen by number
    is written out there.
    """
    if len(words) > LONGEST_REMARK:
        words = words[: LONGEST_REMARK - 1] + "…"
    typed = interaction.prompt or ""
    failure = f"{typed} {REMARK} {words}".strip()
    note = note_of(config)
    prompt = prompt_of(config)
    told = [text_region(note, failure if failed else words)] if note else []
    if prompt and failed and not note:
        return [text_region(prompt, failure)]
    if prompt and (interaction.chose or (interaction.remarked and not note)):
        told.append(text_region(prompt, typed))
    return told


def prompt_of(config: LabelConfig) -> TextControl | None:
    """The smart text area called "prompt", else the first smart one."""
    smart = [text for text in config.texts if text.smart and text.name != SUGGESTIONS]
    return next((text for text in smart if text.name == PROMPT), smart[0] if smart else None)


def note_of(config: LabelConfig) -> TextControl | None:
    """The text area that takes every answer in words, if there is one."""
    return next((text for text in config.texts if not text.smart and text.name in NOTES), None)


def phrases(result: object, config: LabelConfig) -> list[str]:
    """What was typed as a prompt and stayed in an annotation's `result`, oldest first.

    Our own remarks are no part of it, nor are questions and what has no letter or digit in it.
    """
    control = prompt_of(config)
    lines = [line for region in _mappings(result) for line in _lines(region, control)]
    said = [line.partition(REMARK)[0].strip() for line in lines]
    return [
        phrase
        for phrase in said
        if any(sign.isalnum() for sign in phrase) and offers.about(phrase, config) is None
    ]


def suggested(result: object, config: LabelConfig) -> set[str]:
    """The phrases that an annotation's `result` has in our lists, or ticked."""
    regions = _mappings(result)
    return {*offers.offered(lists(regions, config)).values(), *_ticked(regions, config)}


def lists(regions: Sequence[Mapping[str, Any]], config: LabelConfig) -> list[str]:
    """What text areas hold, in which our lists may be, as remarks as well."""
    texts = [line for text in config.texts for one in regions for line in _lines(one, text)]
    return [line.rpartition(REMARK)[2] for line in texts]


@dataclass(frozen=True, slots=True)
class _Typed:
    """What a prompt's text area says; see the fields of that name of `Interaction`."""

    prompt: str | None
    remarked: bool
    chose: bool = False
    mistaken: str | None = None
    wonders: str | None = None


def _typed(
    regions: Sequence[Mapping[str, Any]],
    config: LabelConfig,
    saved: Sequence[Mapping[str, Any]] = (),
) -> _Typed:
    """The newest phrase of the prompt's text area.

    All texts and choices of an annotation come together, in no useful order, so the name decides.
    A phrase may have been chosen of those that were offered; an empty prompt takes what is ticked,
    and else asks what there is. A list in the prompt itself is gone with what was written over it,
    and stands in what was `saved` before.
    """
    control = prompt_of(config)
    lines = [line for region in regions for line in _lines(region, control)]
    phrases = [line.partition(REMARK)[0].strip() for line in lines]
    typed = next((phrase for phrase in reversed(phrases) if phrase), None)
    remarked = any(REMARK in line for line in lines)
    ticked = _ticked(regions, config)
    if typed is None and lines and not remarked:
        typed = offers.TAKE if ticked else offers.WONDER
    if typed is None:
        return _Typed(None, remarked)
    listed = lists(regions, config)
    if not offers.offered(listed):
        listed = lists(saved, config)
    label, said = offers.addressed(typed, config)
    chosen = offers.chosen(said, listed, ticked)
    if chosen is not None:
        own, phrase = offers.addressed(chosen, config)
        if offers.takes(typed) and not own:
            before = [line.partition(REMARK)[0] for one in saved for line in _lines(one, control)]
            label = offers.wondered([*before, *phrases], config)
        if label:
            chosen = f"{label}: {phrase}"
        return _Typed(chosen, remarked, chose=True)
    mistaken = offers.mistaken(said, listed, ticked, config)
    return _Typed(typed, remarked, mistaken=mistaken, wonders=offers.about(typed, config))


def _ticked(regions: Sequence[Mapping[str, Any]], config: LabelConfig) -> list[str]:
    """The phrases that are ticked."""
    if config.choice is None:
        return []
    ticked: list[str] = []
    for region in regions:
        choices = _value(region).get("choices")
        if region.get("from_name") == config.choice.name and isinstance(choices, list):
            values = [tuple(one) if isinstance(one, list) else one for one in choices]
            ticked += [
                known.phrase
                for value in values
                for known in config.choice.choices
                if known.value == value
            ]
    return ticked


def _lines(region: Mapping[str, Any], control: TextControl | None) -> list[str]:
    """What a text area holds, oldest first."""
    if control is None or region.get("type") != "textarea":
        return []
    if region.get("from_name") != control.name:
        return []
    held = _value(region).get("text")
    lines = held if isinstance(held, list) else [held]
    return [line for line in lines if isinstance(line, str) and not _TORN.search(line)]


def _draft(drafts: object, regions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The regions of the draft that a request's own regions belong to, else of the newest one.

    The editor saves drafts some seconds late, so the newest region may be in none.
    """
    ids = {_text(region, "id") for region in regions} - {None}
    found = _mappings(drafts)

    def rank(draft: Mapping[str, Any]) -> tuple[int, str]:
        shared = ids & {_text(region, "id") for region in _regions(draft)}
        return len(shared), _text(draft, "updated_at") or ""

    return _regions(max(found, key=rank, default=None))


def _shapes(
    regions: Sequence[Mapping[str, Any]],
) -> list[tuple[Mapping[str, Any], Rectangle | Point]]:
    """Rectangles or points with their regions, oldest first.

    A tag that holds no labels itself sends two regions of one id. What was predicted and accepted
    comes too, where rectangles are filled, and nobody drew it to ask with.
    """
    newest = _text(regions[-1], "id") if regions else None
    shapes: dict[object, tuple[Mapping[str, Any], Rectangle | Point]] = {}
    for number, region in enumerate(regions):
        name, shape = _text(region, "id"), _shape(region)
        if shape is not None and (name == newest or weights_in(name) is None):
            shapes.setdefault(name or number, (region, shape))
    return list(shapes.values())


def _shape(region: Mapping[str, Any]) -> Rectangle | Point | None:
    kind = (_text(region, "type") or "").removesuffix("labels")
    try:
        match kind:
            case "rectangle":
                keys = ("x", "y", "width", "height", "rotation")
                return Rectangle(*(_number(region, key) for key in keys))
            case "keypoint":
                positive = region.get("is_positive") is not False
                return Point(_number(region, "x"), _number(region, "y"), positive)
    except ValueError:
        return None
    return None


def _label(region: Mapping[str, Any]) -> str | None:
    """A region's label; one that is given several goes by the first."""
    value = _value(region)
    for key in (_text(region, "type") or "", "labels"):
        labels = value.get(key)
        if isinstance(labels, list) and labels and isinstance(labels[0], str):
            return labels[0]
    return None


def _number(region: Mapping[str, Any], key: str) -> float:
    number = _value(region).get(key, 0 if key == "rotation" else None)
    if isinstance(number, int | float) and abs(number) < 1e6:  # nor a NaN
        return float(number)
    raise ValueError(f"{key} is no number")


def _regions(holder: object) -> list[Mapping[str, Any]]:
    return _mappings(holder.get("result") if isinstance(holder, Mapping) else None)


def _mappings(listed: object) -> list[Mapping[str, Any]]:
    return [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []


def _value(region: Mapping[str, Any]) -> Mapping[str, Any]:
    value = region.get("value")
    return value if isinstance(value, Mapping) else {}


def _text(holder: Mapping[str, Any], key: str) -> str | None:
    text = holder.get(key)
    return text if isinstance(text, str) else None
