"""A labeling configuration to begin with: brush, prompt, and tools to point with."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

BRUSH = "brush"  # the name of the control that is filled
_HINT = "What to find, or label: what to find"


def label_config(labels: Sequence[str]) -> str:
    """Brushes for the labels, a text area for phrases, smart rectangles and smart keypoints.

    Rectangles and keypoints repeat the labels, as the editor keeps a selection of labels per tool.
    """
    return "\n".join(
        [
            "<View>",
            '  <TextArea name="prompt" toName="image" editable="true" rows="1" maxSubmissions="1"',
            f'            showSubmitButton="true" placeholder="{_HINT}"/>',
            *_row("Brush", f'BrushLabels name="{BRUSH}" toName="image"', labels),
            *_row("Like this", 'RectangleLabels name="box" toName="image" smart="true"', labels),
            *_row("Here", 'KeyPointLabels name="point" toName="image" smart="true"', labels),
            '  <Image name="image" value="$image" zoom="true" zoomControl="true"/>',
            "</View>",
            "",
        ]
    )


def _row(title: str, tag: str, labels: Sequence[str]) -> list[str]:
    """A tool's labels behind its title; above the image, so that they stay in sight."""
    return [
        '  <View style="display: flex; gap: 1em; align-items: center">',
        f'    <Header value="{title}" size="6"/>',
        f"    <{tag}>",
        *(f"      <Label value={quoteattr(label)}/>" for label in labels),
        f"    </{tag.partition(' ')[0]}>",
        "  </View>",
    ]
