"""The labeling configuration: which controls to fill, from which image, prompted with what.

    <BrushLabels name="brush" toName="image" model_score_threshold="0.4">
      <Label value="RedCar"/>
    </BrushLabels>
    <RectangleLabels name="box" toName="image" model_output="true" model_instances="true">
      <Label value="RedCar"/>
    </RectangleLabels>

Brushes are filled. Other controls are filled where their image has no brush, or when they say
`model_output="true"`: beside a brush they are usually tools to prompt with.

What cannot be used is left out and told in `LabelConfig.problems`, so that one slip in a label
costs that label and nothing else.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from backend.errors import BadLabelConfig
from backend.labelstudio.labels import (
    Choice,
    Label,
    choices_in,
    is_skipped,
    labels_in,
    threshold_of,
)
from backend.labelstudio.tasks import FIELDS

SUGGESTIONS = "suggestions"  # the name of controls that phrases are suggested in
_YES_OR_NO = ("model_output", "model_skip", "model_instances", "model_compete")


class Kind(StrEnum):
    """The forms of a region. `<Brush>` takes labels of a `<Labels>`, `<BrushLabels>` its own."""

    BRUSH = "brush"
    BITMASK = "bitmask"
    POLYGON = "polygon"
    RECTANGLE = "rectangle"


class Role(StrEnum):
    """What a smart rectangle is for."""

    EXEMPLAR = "exemplar"  # find everything like what is in it
    REGION = "region"  # look nowhere but in it


@dataclass(frozen=True, slots=True)
class Control:
    """A tag to fill; `image_key` names the image's URL in the task's data."""

    name: str
    to_name: str
    image_key: str
    kind: Kind
    labels: tuple[Label, ...]
    labels_from: str | None = None  # the `<Labels>` tag beside a tag that holds no labels itself
    instances: bool = False  # a region for each connected part of a mask
    competes: bool = False  # a pixel is of the one label that is most likely there


@dataclass(frozen=True, slots=True)
class TextControl:
    """A `<TextArea>` tag beside a control to fill; a smart one asks when text is entered.

    Those that belong to single regions are left out: they are neither prompts nor notes.
    """

    name: str
    to_name: str
    smart: bool = True


@dataclass(frozen=True, slots=True)
class ChoiceControl:
    """A `<Choices>` tag beside a control to fill, named "suggestions": phrases to choose from."""

    name: str
    to_name: str
    choices: tuple[Choice, ...]
    single: bool = True  # one may be ticked at a time


@dataclass(frozen=True, slots=True)
class Tool:
    """A rectangle's tag whose role is said: `model_role="exemplar"` or `model_role="region"`."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """All that is used of a labeling configuration, and in words what could not be used."""

    outputs: tuple[Control, ...]
    texts: tuple[TextControl, ...] = ()
    tools: tuple[Tool, ...] = ()
    choice: ChoiceControl | None = None
    problems: tuple[str, ...] = ()
    images: frozenset[str] = frozenset()  # names of all tags that show one, of use or not
    label_names: frozenset[str] = frozenset()  # of all labels, as annotators and results tell them


def parse_label_config(xml: str) -> LabelConfig:
    """Read a project's labeling configuration.

    Raises:
        BadLabelConfig: It is not XML, or has no image or no control that could be used.
    """
    root = _parse_xml(xml)
    problems = list(_undecided(root))
    images = dict(_images(root, problems))
    if not images:
        raise BadLabelConfig(
            "the labeling configuration has no usable <Image> tag: "
            f'add <Image name="image" value="$image"/>{_told(problems)}'
        )
    named = list(_named_controls(root, problems))
    outputs = tuple(_outputs(named, images, problems))
    if not outputs:
        raise BadLabelConfig(
            "the labeling configuration has no control to fill: "
            'add <BrushLabels name="brush" toName="image"> with at least one <Label value="..."/>'
            f"{_told(problems)}"
        )
    pictured = {control.to_name for control in outputs}
    texts = tuple(
        TextControl(tag.get("name", ""), tag.get("toName", ""), _says(tag, "smart") is not False)
        for tag in named
        if _tag(tag) == "textarea" and tag.get("toName") in pictured
        if _says(tag, "perRegion") is not True
    )
    tools = tuple(_tools(named, problems))
    choice = next(_choices(named, pictured), None)
    shown = frozenset(tag.get("name", "") for tag in root.iter() if _tag(tag) == "image")
    label_names = frozenset(
        name
        for tag in root.iter()
        if _tag(tag) == "label"
        for name in (tag.get("value"), tag.get("alias"))
        if name
    )
    return LabelConfig(outputs, texts, tools, choice, tuple(problems), shown, label_names)


def _parse_xml(xml: str) -> ET.Element:
    if not isinstance(xml, str):
        raise BadLabelConfig(f"the labeling configuration is {type(xml).__name__}, not XML text")
    # No configuration needs a DTD, and entities can grow a few bytes to gigabytes.
    if "<!DOCTYPE" in xml:
        raise BadLabelConfig(
            "the labeling configuration declares a document type: remove <!DOCTYPE"
        )
    try:
        return ET.fromstring(xml.strip())
    except (ET.ParseError, ValueError) as error:
        raise BadLabelConfig(f"the labeling configuration is not valid XML: {error}") from error


def _images(root: ET.Element, problems: list[str]) -> Iterator[tuple[str, str]]:
    """Name and key of each image that shows a field of the task, or what one leads to."""
    repeated = {tag for one in root.iter() if _tag(one) == "repeater" for tag in one.iter()}
    for tag in root.iter():
        if _tag(tag) != "image":
            continue
        name, value = tag.get("name", ""), tag.get("value", "")
        if tag in repeated or tag.get("valueList"):
            problems.append(
                f'<Image name="{name}"> is left out: it shows a list of images, as a <Repeater> '
                "or a valueList does; give each image a tag of its own, as in "
                'value="$pages[0]"'
            )
        elif name and FIELDS.fullmatch(value):
            yield name, value[1:]
        elif name and FIELDS.search(value):
            yield name, value
        else:
            problems.append(
                f'<Image name="{name}" value="{value}"> is left out: '
                'it needs a name and a value that is a field of the task, as in value="$image"'
            )


def _named_controls(root: ET.Element, problems: list[str]) -> Iterator[ET.Element]:
    """Controls that have a name of their own and are not to be skipped."""
    names: set[str] = set()
    for tag in root.iter():
        used = _kind(tag) or _tag(tag) in {"labels", "textarea"} or _offers(tag)
        if not used or is_skipped(tag):
            continue
        name = tag.get("name", "")
        if not name:
            problems.append(f"a <{tag.tag}> without a name is left out: give it name=...")
        elif name in names:
            problems.append(f'a second control named "{name}" is left out: names must differ')
        else:
            names.add(name)
            yield tag


def _outputs(
    named: list[ET.Element], images: Mapping[str, str], problems: list[str]
) -> Iterator[Control]:
    """The controls to fill; problems of those that only people use are nobody's problems."""
    separate = {tag.get("toName", ""): tag for tag in reversed(named) if _tag(tag) == "labels"}
    found: list[tuple[ET.Element, Control | None, list[str]]] = []
    for tag in named:
        kind = _kind(tag)
        if kind:
            own: list[str] = []
            found.append((tag, _control(tag, kind, images, separate, own), own))
    brushed = {
        control.to_name
        for tag, control, _ in found
        if control and control.kind is Kind.BRUSH and _says(tag, "model_output") is not False
    }
    for tag, control, own in found:
        if _is_output(tag, brushed):
            problems += own
            if control:
                yield control


def _is_output(tag: ET.Element, brushed: set[str]) -> bool:
    said = _says(tag, "model_output")
    if said is not None:
        return said
    tool = tag.get("toName") in brushed or _says(tag, "smartOnly") is True
    return _kind(tag) is Kind.BRUSH or not tool


def _control(
    tag: ET.Element,
    kind: Kind,
    images: Mapping[str, str],
    separate: Mapping[str, ET.Element],
    problems: list[str],
) -> Control | None:
    name, to_name = tag.get("name", ""), tag.get("toName", "")
    told = f'<{tag.tag} name="{name}">'
    if to_name not in images:
        problems.append(f'{told} is left out: toName="{to_name}" is not the name of an <Image>')
        return None
    holder: ET.Element | None = tag
    if not _tag(tag).endswith("labels"):
        holder = separate.get(to_name)
    if holder is None:
        problems.append(
            f"{told} is left out: it has no labels; use <{tag.tag}Labels>, "
            f'or add <Labels name="labels" toName="{to_name}">'
        )
        return None
    threshold = threshold_of(tag, told, problems)
    labels_from = None
    if holder is not tag:
        labels_from = holder.get("name", "")
        told = f'<{holder.tag} name="{labels_from}">'
        if threshold is None:
            threshold = threshold_of(holder, told, problems)
    labels = labels_in(holder, told, threshold, problems)
    if not labels:
        return None
    instances = _says(tag, "model_instances") is True
    competes = _says(tag, "model_compete") is True
    return Control(name, to_name, images[to_name], kind, labels, labels_from, instances, competes)


def _choices(named: list[ET.Element], pictured: set[str]) -> Iterator[ChoiceControl]:
    for tag in named:
        name, to_name = tag.get("name", ""), tag.get("toName", "")
        if not _offers(tag) or to_name not in pictured:
            continue
        if choices := choices_in(tag, _says(tag, "allowNested") is True):
            single = tag.get("choice", "single").lower() != "multiple"
            yield ChoiceControl(name, to_name, choices, single)


def _tools(named: list[ET.Element], problems: list[str]) -> Iterator[Tool]:
    for tag in named:
        role = tag.get("model_role")
        if role is None:
            continue
        name = tag.get("name", "")
        if _kind(tag) is Kind.RECTANGLE and role.lower() in set(Role):
            yield Tool(name, Role(role.lower()))
        else:
            problems.append(
                f'model_role="{role}" of <{tag.tag} name="{name}"> is ignored: '
                "give a rectangle's tag the role exemplar or region"
            )


def _undecided(root: ET.Element) -> Iterator[str]:
    """What attributes say that is neither yes nor no, in words."""
    for tag in root.iter():
        key = "name" if tag.get("name") else "value"
        for attribute in _YES_OR_NO:
            if attribute in tag.attrib and _says(tag, attribute) is None:
                yield (
                    f'{attribute}="{tag.get(attribute)}" of <{tag.tag} {key}="{tag.get(key, "")}"> '
                    'is ignored: give "true" or "false"'
                )


def _offers(tag: ET.Element) -> bool:
    """Whether a tag lists phrases to choose from."""
    return _tag(tag) == "choices" and tag.get("name") == SUGGESTIONS


def _tag(tag: ET.Element) -> str:
    """The tag's name; the editor reads it in any case."""
    return tag.tag.lower()


def _kind(tag: ET.Element) -> Kind | None:
    """The form of region that a tag draws, if it is one that masks can take."""
    name = _tag(tag).removesuffix("labels")
    return Kind(name) if name in set(Kind) else None


def _says(tag: ET.Element, attribute: str) -> bool | None:
    """What a yes-or-no attribute says; None where it is absent or neither."""
    return {"true": True, "false": False}.get(tag.get(attribute, "").lower())


def _told(problems: list[str]) -> str:
    return "".join(f"; {problem}" for problem in problems)
