"""A labeling configuration to begin with: controls to fill, prompt, and tools to point with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from xml.sax.saxutils import quoteattr

from backend.labelstudio.config import Kind
from backend.labelstudio.negation import understood
from backend.overlay import COLOURS

_HINT = "What to find, or label: what to find"

# In the editor's own choice, two labels may get the same colour.
_COLOURS = [f"#{bytes(colour).hex()}" for colour in COLOURS]


def label_config(labels: Sequence[str], forms: Sequence[Kind] = (Kind.BRUSH,)) -> str:
    """A control of each form, named after it, a text area, smart rectangles and smart keypoints.

    Rectangles and keypoints repeat the labels, as the editor keeps a selection of labels per tool.
    """
    filled = [
        _row(form.capitalize(), f"{form.capitalize()}Labels", f'name="{form}"', "true", labels)
        for form in dict.fromkeys(forms)
    ]
    return "\n".join(
        [
            "<View>",
            '  <TextArea name="prompt" toName="image" editable="true" rows="1" maxSubmissions="1"',
            f'            showSubmitButton="true" placeholder="{_HINT}"/>',
            *filled,
            _row("Like this", "RectangleLabels", 'name="box" smart="true"', "false", labels),
            _row("Here", "KeyPointLabels", 'name="point" smart="true"', "false", labels),
            '  <Image name="image" value="$image" zoom="true" zoomControl="true"/>',
            "</View>",
            "",
        ]
    )


def _row(title: str, tag: str, attributes: str, output: str, labels: Sequence[str]) -> str:
    """A tool's labels behind its title; above the image, so that they stay in sight.

    Three rows and the beginning of a fourth, of many labels, so that the image does as well.
    """
    return "\n".join(
        [
            '  <View style="display: flex; gap: 1em; align-items: center">',
            f'    <Header value="{title}" size="6"/>',
            '    <View style="max-height: 9em; overflow: auto">',
            f'      <{tag} {attributes} toName="image" model_output="{output}">',
            *(
                f'        <Label value={quoteattr(label)}{_meant(label)} background="{colour}"/>'
                for label, colour in zip(labels, cycle(_COLOURS), strict=False)
            ),
            f"      </{tag}>",
            "    </View>",
            "  </View>",
        ]
    )


def _meant(label: str) -> str:
    """What a label with a "not" in it asks for, which else is asked for as it stands.

    These attributes are lists, so that a text with a comma in it has no place there.
    """
    wanted, unwanted = understood(label)
    if not (wanted and unwanted) or any("," in text for text in (wanted, *unwanted)):
        return ""
    values = quoteattr(", ".join(unwanted))
    return f" predicted_values={quoteattr(wanted)} negative_values={values}"
