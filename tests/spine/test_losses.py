"""utils/losses.py, the losses of the segmenters: against torch's own functions and numbers worked out by hand."""
import math

import pytest
import torch
import torch.nn.functional as F

from utils.errors import UserError
from utils.losses import PARTS, SegmentationLoss, balanced_weights, class_scores, cross_entropy, dice, focal, label_smoothing, lovasz, ohem, tversky

K, SHAPE = 5, (2, 12, 17)
WEIGHTS = [0.5, 2.0, 0.0, 1.0, 3.0]
ALL = dict.fromkeys(PARTS, 1.0)


def example(seed=0, channels=K, classes=K, spread=3.0):
    """Random logits (B, channels, H, W) that want a gradient, masks (B, H, W) with a part ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(SHAPE[0], channels, *SHAPE[1:], generator=generator) * spread
    masks = torch.randint(0, classes, SHAPE, generator=generator)
    masks[torch.rand(SHAPE, generator=generator) < 0.3] = 255
    return logits.requires_grad_(), masks


def targets(masks):
    return [{"mask": mask} for mask in masks]


def columns(probabilities, truth=0):
    """One row of pixels of two classes, whose true class `truth` has these probabilities. -> (1, 2, 1, n), (1, 1, n)"""
    right = torch.tensor(probabilities, dtype=torch.float64).log()
    wrong = torch.log1p(-torch.tensor(probabilities, dtype=torch.float64))
    pair = [right, wrong] if truth == 0 else [wrong, right]
    return torch.stack(pair)[None, :, None].float(), torch.full((1, 1, len(probabilities)), truth)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_equals_torch(weights):
    logits, masks = example()
    given = None if weights is None else torch.tensor(weights)
    ours, theirs = cross_entropy(logits, masks, given), F.cross_entropy(logits, masks, given, ignore_index=255)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert torch.allclose(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)), rtol=1e-4, atol=1e-8)


def test_focal_by_hand():
    logits, masks = columns([0.9, 0.5, 0.2])
    expected = [-(1 - p) ** 2 * math.log(p) for p in (0.9, 0.5, 0.2)]
    assert focal(logits, masks).item() == pytest.approx(sum(expected) / 3, rel=1e-5)
    masks[0, 0, 1] = 255
    assert focal(logits, masks).item() == pytest.approx((expected[0] + expected[2]) / 2, rel=1e-5)
    masks[0, 0, 2] = 1                                                              # p of class 1 is 0.8 there; weights 1 and 3
    expected = (expected[0] - 3 * 0.2**2 * math.log(0.8)) / 4
    assert focal(logits, masks, torch.tensor([1.0, 3.0])).item() == pytest.approx(expected, rel=1e-5)


def test_focal_with_gamma_0_is_cross_entropy():
    logits, masks = example()
    assert focal(logits, masks, torch.tensor(WEIGHTS), gamma=0.0).item() == pytest.approx(
        cross_entropy(logits, masks, torch.tensor(WEIGHTS)).item(), rel=1e-6)


def test_ohem_takes_what_is_below_the_threshold():
    logits, masks = columns([0.99, 0.72, 0.68, 0.3])
    assert ohem(logits, masks).item() == pytest.approx(-(math.log(0.68) + math.log(0.3)) / 2, rel=1e-5)
    masks[0, 0, 3] = 255
    assert ohem(logits, masks).item() == pytest.approx(-math.log(0.68), rel=1e-5)


def test_ohem_keeps_a_share():
    """100 pixels, all above the threshold: the hardest 5 of the 80 that are labelled are 4."""
    probabilities = torch.linspace(0.75, 0.99, 100)[torch.randperm(100, generator=torch.Generator().manual_seed(0))]
    logits, masks = columns(probabilities.tolist())
    masks[0, 0, probabilities.argsort()[:20]] = 255                                 # the hardest of all are not labelled
    hardest = probabilities.double().sort().values[20:24]
    assert ohem(logits, masks).item() == pytest.approx(-hardest.log().mean().item(), rel=1e-4)
    assert ohem(logits, masks, share=0.0).item() == pytest.approx(-hardest[0].log().item(), rel=1e-4)      # never nothing
    weights = torch.tensor([2.0, 1.0])
    assert ohem(logits, masks, weights).item() == pytest.approx(-hardest.log().mean().item(), rel=1e-4)


def test_ohem_weighs_classes():
    logits, masks = columns([0.6, 0.9])
    masks[0, 0, 1] = 1                                                              # p of class 1 is 0.1 there: both are hard
    expected = -(math.log(0.6) + 3 * math.log(0.1)) / 4
    assert ohem(logits, masks, torch.tensor([1.0, 3.0])).item() == pytest.approx(expected, rel=1e-5)


def test_dice_by_hand():
    logits, masks = columns([0.9, 0.6, 0.3, 0.8])
    masks[0, 0, 1:3] = torch.tensor([1, 255])                                       # p of class 0: 0.9, 0.6, (0.3), 0.8; truth 0, 1, -, 0
    expected = (2 * 1.7 / (2.3 + 2) + 2 * 0.4 / (0.7 + 1)) / 2
    assert dice(logits, masks).item() == pytest.approx(1 - expected, rel=1e-5)
    more = torch.cat([logits, torch.full((1, 3, 1, 4), -1e4)], 1)                   # three classes that occur nowhere
    assert dice(more, masks).item() == pytest.approx(1 - expected, rel=1e-5)
    assert dice(logits, masks, torch.tensor([0.0, 9.0])).item() == dice(logits, masks).item()


def test_tversky_by_hand():
    """Class 0: 1.7 right, 0.6 wrongly, 0.3 missing; class 1: 0.4, 0.3, 0.6. With 0.5 and 0.5 it is dice."""
    logits, masks = columns([0.9, 0.6, 0.3, 0.8])
    masks[0, 0, 1:3] = torch.tensor([1, 255])
    expected = (1.7 / (1.7 + 0.3 * 0.6 + 0.7 * 0.3) + 0.4 / (0.4 + 0.3 * 0.3 + 0.7 * 0.6)) / 2
    assert tversky(logits, masks).item() == pytest.approx(1 - expected, rel=1e-5)
    logits, masks = example()
    assert tversky(logits, masks, taken=0.5, missed=0.5).item() == pytest.approx(dice(logits, masks).item(), rel=1e-5)


def slow_lovasz(p, masks):
    """From the definition, with sets: the Lovasz extension of 1 - IoU, summed over the pixels from the worst on."""
    labels, rows = masks[masks != 255].tolist(), p.permute(0, 2, 3, 1)[masks != 255].tolist()
    losses = []
    for c in sorted(set(labels)):
        true = {i for i, label in enumerate(labels) if label == c}
        errors = [1 - row[c] if i in true else row[c] for i, row in enumerate(rows)]
        wrong, before, loss = set(), 0.0, 0.0
        for i in sorted(range(len(labels)), key=lambda i: -errors[i]):
            wrong.add(i)
            lost = 1 - len(true - wrong) / len(true | wrong)
            loss, before = loss + errors[i] * (lost - before), lost
        losses.append(loss)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("seed", [0, 1])
def test_lovasz_is_the_extension_of_the_iou(seed):
    logits, masks = example(seed)
    masks[masks == 2] = 255                                                         # does not occur
    assert lovasz(logits, masks).item() == pytest.approx(slow_lovasz(logits.detach().softmax(1), masks), rel=1e-5)

    # Where every answer is sure it is 1 - IoU, as get_miou counts it.
    labels = torch.randint(0, 2, SHAPE, generator=torch.Generator().manual_seed(seed))
    truth = torch.where(torch.arange(SHAPE[2]) < 9, labels, 1 - labels)
    sure = F.one_hot(labels, 2).permute(0, 3, 1, 2) * 100.0
    ious = [((labels == c) & (truth == c)).sum() / ((labels == c) | (truth == c)).sum() for c in (0, 1)]
    assert lovasz(sure, truth).item() == pytest.approx(1 - float(sum(ious)) / 2, rel=1e-5)


@pytest.mark.parametrize("amount", [0.1, 0.4])
def test_label_smoothing_equals_torch(amount):
    logits, masks = example()
    ours = (1 - amount) * cross_entropy(logits, masks) + amount * label_smoothing(logits, masks)
    theirs = F.cross_entropy(logits, masks, ignore_index=255, label_smoothing=amount)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert torch.allclose(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("name", [name for name in PARTS if name != "label_smoothing"])
def test_right_and_confident_is_0_and_wrong_is_not(name):
    _, masks = example()
    masks[masks == 3] = 1                                                           # class 3 does not occur
    masks[0, 0, 0] = 4
    right = F.one_hot(masks.where(masks != 255, 3), K).permute(0, 3, 1, 2) * 50.0   # class 3 is predicted where nothing is labelled
    assert PARTS[name](right, masks).item() == pytest.approx(0, abs=1e-6)
    assert PARTS[name](right.roll(1, 1), masks).item() > 0.99


@pytest.mark.parametrize("name", PARTS)
def test_what_stands_at_ignored_pixels_changes_nothing(name):
    """Bit for bit, the gradient too."""
    logits, masks = example()
    value = PARTS[name](logits, masks, torch.tensor(WEIGHTS))
    (gradient,) = torch.autograd.grad(value, logits)
    ignored = (masks == 255)[:, None].expand(-1, K, -1, -1)
    assert gradient[ignored].abs().max() == 0 and gradient[~ignored].abs().max() > 0
    other = torch.where(ignored, torch.randn_like(logits) * 1e4, logits).detach().requires_grad_()
    moved = PARTS[name](other, masks, torch.tensor(WEIGHTS))
    assert torch.equal(moved, value) and torch.equal(torch.autograd.grad(moved, other)[0], gradient)


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0]])
def test_nothing_labelled(sigmoid, weights):
    criterion = SegmentationLoss(2, ALL, weights, sigmoid)
    logits, masks = example(channels=criterion.channels, classes=2)
    losses = criterion(logits, targets(torch.full_like(masks, 255)))
    for value in losses.values():
        assert value.item() == 0
        (gradient,) = torch.autograd.grad(value, logits, retain_graph=True)
        assert torch.equal(gradient, torch.zeros_like(logits))


def test_only_classes_of_weight_0():
    logits, masks = example()
    losses = SegmentationLoss(K, ALL, WEIGHTS)(logits, targets(torch.full_like(masks, 2)))
    assert losses["cross_entropy"].item() == losses["focal"].item() == losses["ohem"].item() == 0 and losses["dice"].item() > 0


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_extreme_logits(name, scale):
    logits, masks = example()
    logits = (logits.detach().sign() * scale).requires_grad_()
    value = PARTS[name](logits, masks)
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()


@pytest.mark.parametrize("name", PARTS)
def test_gradient(name):
    """Numerically, in float32: along a random direction."""
    logits, masks = example(spread=1.0)
    value = PARTS[name](logits, masks, torch.tensor(WEIGHTS))
    (gradient,) = torch.autograd.grad(value, logits)
    step = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)) * 1e-3
    ahead, back = (PARTS[name](logits.detach() + sign * step, masks, torch.tensor(WEIGHTS)).item() for sign in (1, -1))
    assert (gradient * step).sum().item() == pytest.approx((ahead - back) / 2, rel=0.02, abs=2e-7)


def test_sigmoid_equals_two_channels():
    x, masks = example(channels=1, classes=2)
    one, two = SegmentationLoss(2, ALL, [1.0, 4.0], sigmoid=True), SegmentationLoss(2, ALL, [1.0, 4.0])
    assert (one.channels, two.channels) == (1, 2)
    pair = torch.cat([torch.zeros_like(x), x], 1)
    ours, theirs = one(x, targets(masks)), two(pair, targets(masks))
    assert ours == theirs and list(ours) == list(PARTS)
    valid = masks != 255
    weight = torch.tensor([1.0, 4.0])[masks[valid]]
    binary = F.binary_cross_entropy_with_logits(x[:, 0][valid], masks[valid].float(), weight, reduction="sum") / weight.sum()
    assert ours["cross_entropy"].item() == pytest.approx(binary.item(), rel=1e-5)


def test_class_scores():
    logits, _ = example()
    scores = class_scores(logits)
    assert scores.shape == logits.shape and torch.allclose(scores.sum(1), torch.ones(SHAPE))
    x = torch.tensor([-1e4, -2.0, 0.0, 3.0, 1e4]).view(1, 1, 1, 5)
    assert torch.allclose(class_scores(x), torch.cat([(-x).sigmoid(), x.sigmoid()], 1), atol=1e-7)
    assert class_scores(logits.bfloat16()).dtype == torch.float32


def test_weight_prefix_and_parts():
    logits, masks = example()
    one = SegmentationLoss(K)(logits, targets(masks))
    assert list(one) == ["cross_entropy"] and one["cross_entropy"].shape == ()
    two = SegmentationLoss(K, {"dice": 0.5, "cross_entropy": 2})(logits, targets(masks), weight=0.4, prefix="aux_")
    assert list(two) == ["aux_dice", "aux_cross_entropy"]
    assert two["aux_cross_entropy"].item() == pytest.approx(0.8 * one["cross_entropy"].item())
    assert two["aux_dice"].item() == pytest.approx(0.2 * dice(logits, masks).item())


def test_autocast_computes_in_float32():
    logits, masks = example()
    half = logits.detach().bfloat16()
    criterion = SegmentationLoss(K, ALL, WEIGHTS)
    with torch.autocast("cpu", torch.bfloat16):
        under = criterion(half, targets(masks))
        scores = class_scores(half)
    plain = criterion(half.float(), targets(masks))
    assert all(value.dtype == torch.float32 for value in under.values()) and scores.dtype == torch.float32
    assert under == plain
    assert {name: part(half, masks, torch.tensor(WEIGHTS)) for name, part in PARTS.items()} == plain


def test_class_weights_are_no_part_of_the_checkpoint():
    criterion = SegmentationLoss(K, class_weights=WEIGHTS)
    assert not criterion.state_dict() and [name for name, _ in criterion.named_buffers()] == ["class_weights"]


def test_no_array_of_ones_and_zeros():
    """What the losses of single pixels keep for the backward pass: log p, and no second array of its size."""
    logits, masks = example()
    for name in ("cross_entropy", "focal", "ohem"):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda saved, kept=kept: kept.append(saved) or saved, lambda saved: saved):
            PARTS[name](logits, masks)
        assert len({saved.data_ptr() for saved in kept if saved.numel() >= logits.numel()}) == 1, name


@pytest.mark.parametrize("arguments, sentence", [
    ({"parts": {"crossentropy": 1.0}}, 'there is no part "crossentropy". Did you mean "cross_entropy"? Parts: cross_entropy, focal'),
    ({"parts": {"dice": 0.0}}, 'the weight of "dice" must be a number above 0'),
    ({"parts": {"dice": float("nan")}}, 'the weight of "dice" must be'),
    ({"parts": {"dice": "1"}}, 'the weight of "dice" must be'),
    ({"parts": {}}, "expected parts with their weights"),
    ({"parts": "dice"}, "expected parts with their weights"),
    ({"class_weights": [1.0, 2.0]}, "holds 2 numbers: expected 5, one for each class, background included"),
    ({"class_weights": "balance"}, "holds 'balance': expected 5"),
    ({"class_weights": [1, 1, 1, 1, -1]}, "expected numbers, 0 or more"),
    ({"class_weights": [0, 0, 0, 0, 0]}, "one of them above 0"),
    ({"class_weights": [1, 1, 1, 1, float("inf")]}, "expected numbers, 0 or more"),
    ({"sigmoid": True}, "sigmoid=True is for two classes, background and one more; there are 5"),
])
def test_mistakes(arguments, sentence):
    with pytest.raises(UserError) as caught:
        SegmentationLoss(K, **arguments)
    assert sentence in str(caught.value)


def test_shapes_that_do_not_fit():
    logits, masks = example()
    for wrong in (logits[:, :4], logits[:, :, :-1], logits[:1]):
        with pytest.raises(ValueError, match="do not fit"):
            SegmentationLoss(K)(wrong, targets(masks))


def test_balanced_weights():
    assert balanced_weights([400, 100, 0, 50]) == [0.25, 1.0, 0.0, 2.0]             # median of 400, 100, 50
    assert balanced_weights(torch.tensor([100, 300])) == [2.0, pytest.approx(2 / 3)]
    assert SegmentationLoss(3, class_weights=balanced_weights([7, 7, 0])).class_weights.tolist() == [1.0, 1.0, 0.0]
    with pytest.raises(UserError, match="contain no labelled pixel"):
        balanced_weights([0, 0])
