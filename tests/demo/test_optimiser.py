import torch

from demo.optimiser import Muon, orthogonal


def test_orthogonal_updates_have_singular_values_near_one() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(3, 24, 64)))
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_muon_goes_downhill() -> None:
    torch.manual_seed(0)
    weight, goal = torch.nn.Parameter(torch.randn(8, 16)), torch.randn(8, 16)
    optimiser = Muon([weight], lr=0.2, decay=0.0)
    first = (weight - goal).square().sum().item()
    for _ in range(50):
        optimiser.zero_grad()
        loss = (weight - goal).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert loss.item() < 0.2 * first
