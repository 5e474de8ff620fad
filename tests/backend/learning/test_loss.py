import torch

from backend.learning.loss import mask_loss


def test_a_pixel_that_counts_more_costs_more_when_it_is_wrong() -> None:
    logits, targets = torch.full((1, 4, 4), -3.0), torch.zeros(1, 4, 4)
    targets[0, 0, 0] = 1
    weights = torch.ones(1, 4, 4)
    plain = mask_loss(logits, targets, weights)
    weights[0, 0, 0] = 4
    assert mask_loss(logits, targets, weights) > plain + 0.5


def test_rows_are_judged_by_themselves() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(3, 8, 8), (torch.rand(3, 8, 8) > 0.6).float()
    weights = torch.ones(3, 8, 8)
    alone = [mask_loss(logits[i : i + 1], targets[i : i + 1], weights[:1]) for i in range(3)]
    torch.testing.assert_close(mask_loss(logits, targets, weights), torch.cat(alone))


def test_what_weighs_nothing_costs_nothing() -> None:
    assert mask_loss(torch.ones(1, 4, 4), torch.ones(1, 4, 4), torch.zeros(1, 4, 4)) == 0


def test_a_few_wrong_pixels_cost_more_where_there_is_nothing_to_find() -> None:
    weights, logits = torch.ones(1, 20, 20), torch.full((1, 20, 20), -9.0)
    logits[0, 0, :4] = 9
    nothing, thing = torch.zeros(1, 20, 20), torch.zeros(1, 20, 20)
    thing[0, 10:] = 1
    found = logits.clone()
    found[0, 10:] = 9
    assert mask_loss(logits, nothing, weights) > 10 * mask_loss(found, thing, weights)
