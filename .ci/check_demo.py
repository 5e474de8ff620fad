"""Check what `make demo` wrote: overlays, contact sheet, and tasks with readable masks."""

import json
import sys
from pathlib import Path

from PIL import Image

from backend.labelstudio import brush


def main(out: Path) -> None:
    """Exit with an error if anything is missing or does not fit."""
    tasks = json.loads((out / "predictions.json").read_text())
    assert len(tasks) >= 4, "too few tasks"
    regions = 0
    for task in tasks:
        assert task["data"]["image"].startswith("data:image/")
        with Image.open(out / f"{Path(task['data']['name']).stem}.png") as overlay:
            overlay.load()
        (prediction,) = task["predictions"]
        assert prediction["model_version"].startswith("clipseg-")
        for region in prediction["result"]:
            height, width = region["original_height"], region["original_width"]
            mask = brush.decode(region["value"]["rle"], height, width)
            assert 0 < (mask == 255).mean() < 0.9, "a mask is empty or covers everything"
            regions += 1
    assert regions >= len(tasks), "too few masks"
    with Image.open(out / "contact-sheet.png") as sheet:
        assert min(sheet.size) > 400
    sys.stdout.write(f"{len(tasks)} tasks with {regions} masks are right\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
