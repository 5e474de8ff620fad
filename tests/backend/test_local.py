import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.label_interface.interface import LabelInterface
from PIL import Image

from backend import cli
from backend.errors import BadRequest, ImageMissing
from backend.inference.predictor import Predictor
from backend.labelstudio import brush
from backend.labelstudio.config import Kind, parse_label_config
from backend.labelstudio.starter import label_config
from backend.local import ExemplarFiles, predict
from backend.settings import Settings


@pytest.fixture
def settings(tiny_checkpoint: Path, tmp_path: Path) -> Settings:
    return Settings.from_environment(
        {
            "PROMPTBRUSH_CHECKPOINT": str(tiny_checkpoint),
            "PROMPTBRUSH_DATA_DIR": str(tmp_path / "data"),
            "MODEL_SCORE_THRESHOLD": "0.01",
            "DEVICE": "cpu",
        }
    )


def picture(path: Path, width: int = 60, height: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_masks_overlays_and_predictions_are_written(settings: Settings, tmp_path: Path) -> None:
    images = [picture(tmp_path / "a.png"), picture(tmp_path / "b" / "a.png", 30, 50)]
    text = predict(settings, images, ["a dog", 'the "red" one'], [], tmp_path / "out").table
    assert all(text.count(f"{image} ") == 2 for image in images)  # as they were given
    with Image.open(tmp_path / "out/masks/a--a-dog.png") as mask:
        assert mask.size == (60, 40)
        assert set(np.unique(np.asarray(mask))) <= {0, 255}
    assert (tmp_path / "out/masks/a-2--the-red-one.png").is_file()
    assert (tmp_path / "out/overlays/a-2.png").is_file()
    tasks = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [len(task["predictions"]) for task in tasks] == [1, 1]
    regions = tasks[1]["predictions"][0]["result"]
    assert [r["value"]["brushlabels"] for r in regions] == [["a dog"], ['the "red" one']]
    assert brush.decode(regions[0]["value"]["rle"], 50, 30).any()
    config = parse_label_config((tmp_path / "out/label_config.xml").read_text())
    assert [label.value for label in config.outputs[0].labels] == ["a dog", 'the "red" one']


def test_no_image_takes_anothers_files(settings: Settings, tmp_path: Path) -> None:
    names = ["a.png", "b/a.png", "a-2.png", "A.png", "c/a.png"]
    images = [picture(tmp_path / name) for name in names]
    predict(settings, images, ["a dog"], [], tmp_path / "out")
    for folder in ("overlays", "masks"):
        written = {path.name.casefold() for path in (tmp_path / "out" / folder).iterdir()}
        assert len(written) == len(images)


def test_names_and_prompts_of_any_bytes_and_length_are_written(
    settings: Settings, tmp_path: Path
) -> None:
    long, half = picture(tmp_path / f"{'赤' * 80}.png"), picture(tmp_path / "\udcff.png")
    prompts = ["\udcff", "a\x01dog", "丸" * 25]
    done = predict(settings, [long, half], prompts, [ExemplarFiles(half, None)], tmp_path / "out")
    done.table.encode()
    xml = (tmp_path / "out/label_config.xml").read_text(encoding="utf-8")
    labels = [label.value for label in parse_label_config(xml).outputs[0].labels]
    assert labels == ["\ufffd", "a\ufffddog", "丸" * 25, "\ufffd 2"]
    tasks = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [task["data"]["name"] for task in tasks] == [long.name, "\ufffd.png"]
    assert len(list((tmp_path / "out/masks").iterdir())) == 8


def test_predictions_take_the_forms_that_are_asked_for(settings: Settings, tmp_path: Path) -> None:
    images = [picture(tmp_path / "a.png")]
    forms = [Kind.POLYGON, Kind.RECTANGLE]
    predict(settings, images, ["a dog"], [], tmp_path / "out", forms)
    [task] = json.loads((tmp_path / "out/predictions.json").read_text())
    [prediction] = task["predictions"]
    kinds = {(region["from_name"], region["type"]) for region in prediction["result"]}
    assert kinds == {("polygon", "polygonlabels"), ("rectangle", "rectanglelabels")}
    xml = (tmp_path / "out/label_config.xml").read_text()
    assert [control.kind for control in parse_label_config(xml).outputs] == forms
    judge: Any = LabelInterface(xml)
    judge.validate()
    assert judge.validate_prediction(prediction, return_errors=True) == []


def test_what_follows_a_not_is_taken_away(settings: Settings, tmp_path: Path) -> None:
    image, said = picture(tmp_path / "a.png"), ["a dog", "a cat", "a dog, not a cat"]
    predict(settings, [image], said, [], tmp_path / "out")
    dog, cat, left = (
        np.asarray(Image.open(tmp_path / f"out/masks/a--{name}.png")) > 0
        for name in ("a-dog", "a-cat", "a-dog-not-a-cat")
    )
    assert (dog & cat).any()
    assert dog.sum() > left.sum()
    assert not (left & ~dog).any()
    with pytest.raises(BadRequest, match='"not a cat" does not say what to look for'):
        predict(settings, [image], ["not a cat"], [], tmp_path / "out")


def test_a_bad_image_costs_the_others_nothing(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no image")
    images = [tmp_path / "bad.png", tmp_path / "gone.png", picture(tmp_path / "fine.png")]
    done = predict(settings, images, ["a dog"], [], tmp_path / "out")
    assert "ImageUnreadable" in done.table
    assert "ImageMissing" in done.table
    assert done.failed == images[:2]
    assert len(json.loads((tmp_path / "out/predictions.json").read_text())) == 1


def test_a_folder_is_told_to_be_one_with_what_names_its_files(
    settings: Settings, tmp_path: Path
) -> None:
    done = predict(
        settings, [tmp_path, picture(tmp_path / "fine.png")], ["a dog"], [], tmp_path / "out"
    )
    assert f"is a folder: name its files, as by {tmp_path}/*." in done.table


def test_an_image_for_which_memory_does_not_suffice_costs_the_others_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Predictor.encode

    def lacking(predictor: Predictor, images: Sequence[tuple[str, Image.Image]]) -> Any:
        if images[0][1].width > 60:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return encode(predictor, images)

    monkeypatch.setattr(Predictor, "encode", lacking)
    large, small = picture(tmp_path / "large.png", 80), picture(tmp_path / "small.png")
    done = predict(settings, [large, small], ["a dog"], [], tmp_path / "out")
    assert done.failed == [large]
    assert "OutOfMemory: This machine has too little memory" in done.table
    assert (tmp_path / "out/overlays/small.png").is_file()


def test_the_command_names_the_images_that_failed(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, fine = tmp_path / "gone.png", picture(tmp_path / "fine.png")
    command = ["predict", "--prompt", "a dog", "--checkpoint", str(tiny_checkpoint)]
    command += ["--out", str(tmp_path / "out"), str(fine)]
    assert cli.main(command) == 0
    assert capsys.readouterr().err == ""
    assert cli.main([*command, str(gone)]) == 1
    told = capsys.readouterr()
    assert told.err == f"promptbrush: 1 of 2 images could not be worked on: {gone}\n"
    assert "predictions.json are in" in told.out


def test_only_bad_images_are_an_error(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="No image could be worked on"):
        predict(settings, [tmp_path / "gone.png"], ["a dog"], [], tmp_path / "out")


def test_a_run_that_comes_to_nothing_leaves_the_last_ones_predictions(
    settings: Settings, tmp_path: Path
) -> None:
    predict(settings, [picture(tmp_path / "a.png")], ["a dog"], [], tmp_path / "out")
    before = (tmp_path / "out/predictions.json").read_bytes()
    with pytest.raises(BadRequest):
        predict(settings, [tmp_path / "gone.png"], ["a cat"], [], tmp_path / "out")
    assert (tmp_path / "out/predictions.json").read_bytes() == before


def test_an_image_may_come_through_a_pipe(settings: Settings, tmp_path: Path) -> None:
    content, pipe = picture(tmp_path / "a.png").read_bytes(), tmp_path / "pipe"
    os.mkfifo(pipe)
    writing = threading.Thread(target=pipe.write_bytes, args=[content])
    writing.start()
    predict(settings, [pipe], ["a dog"], [], tmp_path / "out")
    writing.join()
    (task,) = json.loads((tmp_path / "out/predictions.json").read_text())
    assert task["data"]["image"].startswith("data:image/png;base64,")


def test_an_exemplar_with_a_mask_is_a_prompt_named_after_it(
    settings: Settings, tmp_path: Path
) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 10:30] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    exemplar = picture(tmp_path / "widget.png")
    done = predict(
        settings,
        [exemplar],
        [],
        [ExemplarFiles.from_text(f"{exemplar}:{tmp_path / 'mask.png'}")],
        tmp_path / "out",
    )
    assert "widget" in done.table
    assert (tmp_path / "out/masks/widget--widget.png").is_file()


def test_a_mask_on_transparent_is_what_it_is_on_black(settings: Settings, tmp_path: Path) -> None:
    image, mask = picture(tmp_path / "a.png"), Image.new("L", (60, 40))
    mask.paste(255, (10, 10, 30, 30))
    drawn = Image.new("RGBA", mask.size)
    drawn.putalpha(mask)
    scores = []
    for one in (mask, drawn):
        one.save(tmp_path / "mask.png")
        predict(settings, [image], [], [ExemplarFiles(image, tmp_path / "mask.png")], tmp_path)
        (task,) = json.loads((tmp_path / "predictions.json").read_text())
        scores.append(task["predictions"][0]["score"])
    assert scores[0] == scores[1]


def test_exemplars_of_one_name_are_labels_of_their_own(settings: Settings, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png")
    shown = [ExemplarFiles(picture(tmp_path / f"{folder}/cup.png"), None) for folder in "bc"]
    predict(settings, [image], ["cup"], shown, tmp_path / "out")
    config = parse_label_config((tmp_path / "out/label_config.xml").read_text())
    assert [label.value for label in config.outputs[0].labels] == ["cup", "cup 2", "cup 3"]


def test_the_project_asks_for_what_the_prompts_meant(settings: Settings, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png")
    said = ["a red circle, not blue", "a ripe one, round, not green", "not ripe"]
    predict(settings, [image], said[:2], [], tmp_path / "out")
    config = parse_label_config((tmp_path / "out/label_config.xml").read_text())
    first, second = config.outputs[0].labels
    assert (first.value, first.prompts, first.negatives) == (said[0], ("a red circle",), ("blue",))
    assert second.prompts == (said[1],)  # which no list of texts can hold
    (label,) = parse_label_config(label_config(said[2:])).outputs[0].labels
    assert label.prompts == ("not ripe",)


def test_unusable_wishes_are_told(settings: Settings, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png")
    with pytest.raises(BadRequest, match="--prompt"):
        predict(settings, [image], [], [], tmp_path / "out")
    with pytest.raises(ImageMissing, match=r"gone\.png"):
        predict(
            settings, [image], [], [ExemplarFiles(tmp_path / "gone.png", None)], tmp_path / "out"
        )
    small = picture(tmp_path / "small.png", 5, 5)
    with pytest.raises(BadRequest, match="must be equal"):
        predict(settings, [image], [], [ExemplarFiles(image, small)], tmp_path / "out")


def test_a_colon_in_an_existing_path_is_part_of_it(tmp_path: Path) -> None:
    odd = picture(tmp_path / "a:b.png")
    assert ExemplarFiles.from_text(str(odd)) == ExemplarFiles(odd, None)
    assert ExemplarFiles.from_text("x.png:y.png") == ExemplarFiles(Path("x.png"), Path("y.png"))


@pytest.mark.parametrize("text", ["", "x.png:", ":y.png", ":"])
def test_an_exemplar_without_a_name_is_told(text: str) -> None:
    with pytest.raises(BadRequest, match=f'--exemplar "{text}" .* give IMAGE or IMAGE:MASK'):
        ExemplarFiles.from_text(text)
