"""Every field of every documented output, as transformers 4.37.2 gave it (tests/golden)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import models
from tests.outputs import tensors

FOLDER = Path(__file__).parents[1] / "golden"
FILES = sorted(FOLDER.glob("*.safetensors"))


def plan_of(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        plan: dict[str, Any] = json.loads(file.metadata()["plan"])
    return plan


CALLS = [(path, call) for path in FILES for call in plan_of(path)["calls"]]


def tensors_under(path: Path, front: str) -> dict[str, Tensor]:
    with safe_open(path, "pt") as file:
        return {
            key.removeprefix(front): file.get_tensor(key)
            for key in file.keys()  # noqa: SIM118
            if key.startswith(front)
        }


def shapes(output: Any) -> Any:
    if isinstance(output, Tensor):
        return "x".join(map(str, output.shape))
    return [shapes(value) for value in output]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """The recorded weights as Hugging Face folders."""
    folders = {}
    for path in FILES:
        plan = plan_of(path)
        folders[path] = tmp_path_factory.mktemp(path.stem)
        (folders[path] / "config.json").write_text(json.dumps(plan["config"]))
        save_file(tensors_under(path, "weights/"), folders[path] / "model.safetensors")
    return folders


@pytest.mark.parametrize(("path", "call"), CALLS, ids=[f"{p.stem}-{c}" for p, c in CALLS])
@pytest.mark.parametrize("form", ["plain", "full"])
def test_every_output_is_the_recorded_one(
    checkpoints: dict[Path, Path], path: Path, call: str, form: str
) -> None:
    plan = plan_of(path)["calls"][call]
    model = getattr(models, plan["class"]).from_pretrained(checkpoints[path])
    inputs: dict[str, Any] = tensors_under(path, f"{call}/in/")
    inputs |= dict.fromkeys(plan["flags"], True)
    asked = form == "full"
    inputs |= {"output_attentions": asked, "output_hidden_states": asked}
    with torch.no_grad():
        output = model(**inputs)
        as_tuple = model(**inputs, return_dict=False)
    ours = dict(tensors(output))
    expected = tensors_under(path, f"{call}/{form}/")
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-5, msg=lambda m: name + m)  # noqa: B023
    assert shapes(as_tuple) == plan["tuples"][form]
