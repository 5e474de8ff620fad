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
    tags = [f"    <Label value={quoteattr(label)}/>" for label in labels]
    return "\n".join(
        [
            "<View>",
            '  <TextArea name="prompt" toName="image" editable="true" rows="1" maxSubmissions="1"',
            f'            showSubmitButton="true" placeholder="{_HINT}"/>',
            '  <Image name="image" value="$image" zoom="true" zoomControl="true"/>',
            f'  <BrushLabels name="{BRUSH}" toName="image">',
            *tags,
            "  </BrushLabels>",
            '  <RectangleLabels name="box" toName="image" smart="true">',
            *tags,
            "  </RectangleLabels>",
            '  <KeyPointLabels name="point" toName="image" smart="true">',
            *tags,
            "  </KeyPointLabels>",
            "</View>",
            "",
        ]
    )
