"""The labeling configuration: which brushes to fill, from which image, prompted with what.

    <BrushLabels name="brush" toName="image" model_score_threshold="0.4">
      <Label value="RedCar"/>                                  prompted with "red car"
      <Label value="Animal" predicted_values="a dog, a cat"/>  prompted with both
      <Label value="Other" model_skip="true"/>                 left to people
    </BrushLabels>

What cannot be used is left out and told in `LabelConfig.problems`, so that one slip in a label
costs that label and nothing else.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

from backend.errors import BadLabelConfig

LONGEST_PROMPT = 500  # characters; text encoders read some 75 tokens and ignore the rest

_CAMEL = re.compile(r"(?<=[a-zß-ÿ]{2})(?=[A-ZÀ-Þ])|(?<=[A-ZÀ-Þ])(?=[A-ZÀ-Þ][a-zß-ÿ])")
_SEPARATORS = re.compile(r"[\s_-]+")
_LATIN_ENDS = "\u0250"  # the first code point after the Latin blocks


@dataclass(frozen=True, slots=True)
class Label:
    """A label as results carry it, and the texts that stand for it."""

    value: str
    prompts: tuple[str, ...]
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class BrushControl:
    """A `<BrushLabels>` tag; `image_key` names the image's URL in the task's data."""

    name: str
    to_name: str
    image_key: str
    labels: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class TextControl:
    """A `<TextArea>` tag beside a brush; a smart one calls the backend when text is entered."""

    name: str
    to_name: str
    smart: bool = True


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """All that is used of a labeling configuration, and in words what could not be used."""

    brushes: tuple[BrushControl, ...]
    texts: tuple[TextControl, ...] = ()
    problems: tuple[str, ...] = ()


def parse_label_config(xml: str) -> LabelConfig:
    """Read a project's labeling configuration.

    Raises:
        BadLabelConfig: It is not XML, or has no image or no brush that could be used.
    """
    root = _parse_xml(xml)
    problems: list[str] = []
    images = dict(_images(root, problems))
    if not images:
        raise BadLabelConfig(
            "the labeling configuration has no usable <Image> tag: "
            f'add <Image name="image" value="$image"/>{_told(problems)}'
        )
    named = list(_named_controls(root, problems))
    found = (_brush(tag, images, problems) for tag in named if _kind(tag) == "brushlabels")
    brushes = tuple(brush for brush in found if brush)
    if not brushes:
        raise BadLabelConfig(
            "the labeling configuration has no brush to fill: "
            'add <BrushLabels name="brush" toName="image"> with at least one <Label value="..."/>'
            f"{_told(problems)}"
        )
    pictured = {brush.to_name for brush in brushes}
    texts = tuple(
        TextControl(tag.get("name", ""), tag.get("toName", ""), _is_smart(tag))
        for tag in named
        if _kind(tag) == "textarea" and tag.get("toName") in pictured
    )
    return LabelConfig(brushes, texts, tuple(problems))


def words_of(value: str) -> str:
    """A label's value as one would say it: "RedCar", "red_car" and "red-car" are all "red car"."""
    if max(value, default="") >= _LATIN_ENDS:
        return value.strip()
    return _SEPARATORS.sub(" ", _CAMEL.sub(" ", value)).strip().lower()


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
    """Name and key of each image that shows a field of the task."""
    for tag in root.iter():
        if _kind(tag) != "image":
            continue
        name, value = tag.get("name", ""), tag.get("value", "")
        if name and value.startswith("$") and len(value) > 1:
            yield name, value[1:]
        else:
            problems.append(
                f'<Image name="{name}" value="{value}"> is left out: '
                'it needs a name and a value that is a field of the task, as in value="$image"'
            )


def _named_controls(root: ET.Element, problems: list[str]) -> Iterator[ET.Element]:
    """Brushes and text areas that have a name of their own and are not to be skipped."""
    names: set[str] = set()
    for tag in root.iter():
        if _kind(tag) not in {"brushlabels", "textarea"} or _is_skipped(tag):
            continue
        name = tag.get("name", "")
        if not name:
            problems.append(f"a <{tag.tag}> without a name is left out: give it name=...")
        elif name in names:
            problems.append(f'a second control named "{name}" is left out: names must differ')
        else:
            names.add(name)
            yield tag


def _brush(tag: ET.Element, images: dict[str, str], problems: list[str]) -> BrushControl | None:
    name, to_name = tag.get("name", ""), tag.get("toName", "")
    told = f'<BrushLabels name="{name}">'
    if to_name not in images:
        problems.append(f'{told} is left out: toName="{to_name}" is not the name of an <Image>')
        return None
    if tag.get("value", "").startswith("$"):
        problems.append(
            f"{told} takes labels from the tasks ({tag.get('value')}), which is not supported: "
            "list them as <Label> tags"
        )
    default = _threshold(tag, told, problems)
    labels: dict[str, Label] = {}
    for child in tag.iter():
        if _kind(child) != "label" or _is_skipped(child):
            continue
        label = _label(child, default, problems)
        if label and label.value in labels:
            problems.append(f'the label "{label.value}" occurs twice in {told}: the first counts')
        elif label:
            labels[label.value] = label
    if not labels:
        problems.append(f"{told} is left out: it has no usable <Label>")
        return None
    return BrushControl(name, to_name, images[to_name], tuple(labels.values()))


def _label(tag: ET.Element, threshold: float | None, problems: list[str]) -> Label | None:
    shown = tag.get("value", "")
    value = tag.get("alias") or shown  # the editor stores the alias where there is one
    if not value.strip():
        problems.append("a <Label> without a value is left out")
        return None
    listed = [text.strip() for text in tag.get("predicted_values", "").split(",")]
    texts = [text for text in listed if text] or [words_of(shown) or words_of(value)]
    prompts: list[str] = []
    for text in dict.fromkeys(texts):
        if not text:
            problems.append(f'the label "{value}" holds no words to prompt with')
        elif len(text) > LONGEST_PROMPT:
            problems.append(
                f'a prompt of "{value[:40]}" has {len(text)} characters, '
                f"more than {LONGEST_PROMPT}: it is left out"
            )
        else:
            prompts.append(text)
    if not prompts:
        problems.append(f'the label "{value[:40]}" is left out: set predicted_values="..."')
        return None
    own = _threshold(tag, f'the label "{value}"', problems)
    return Label(value, tuple(prompts), threshold if own is None else own)


def _threshold(tag: ET.Element, told: str, problems: list[str]) -> float | None:
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


def _kind(tag: ET.Element) -> str:
    """The tag's name; the editor reads it in any case."""
    return tag.tag.lower()


def _is_skipped(tag: ET.Element) -> bool:
    return tag.get("model_skip", "").lower() == "true"


def _is_smart(tag: ET.Element) -> bool:
    """Smart unless told otherwise, as in the editor; a note on one region is never a prompt."""
    return tag.get("smart", "").lower() != "false" and tag.get("perRegion", "").lower() != "true"


def _told(problems: list[str]) -> str:
    return "".join(f"; {problem}" for problem in problems)
