"""Tags of labeling configurations."""

IMAGE = '<Image name="image" value="$image"/>'


def view(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


def brush(*labels: str, attributes: str = 'name="brush" toName="image"') -> str:
    return f"<BrushLabels {attributes}>{''.join(labels)}</BrushLabels>"


def control(form: str, name: str, attributes: str = "", to_name: str = "image") -> str:
    holds = '<Label value="dog"/>' if form.endswith("Labels") else ""
    return f'<{form} name="{name}" toName="{to_name}" {attributes}>{holds}</{form}>'
