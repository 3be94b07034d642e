"""The IoU family and NMS against what can be worked out by hand or by brute force."""
import math

import numpy as np
import pytest
import torch
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import batched_nms

from utils.boxes import (
    clip,
    complete_iou,
    cxcywh_to_xyxy,
    decode,
    encode,
    hard_nms,
    match,
    nms,
    pairwise_iou,
    size_iou,
    soft_nms,
    xyxy_to_cxcywh,
)


def random_boxes(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 80
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * 60], 1)


def test_layouts():
    boxes = random_boxes(50)
    assert torch.allclose(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes, atol=1e-4)
    assert cxcywh_to_xyxy(torch.tensor([10.0, 20, 4, 6])).tolist() == [8, 17, 12, 23]


def test_pairwise_iou():
    a = torch.tensor([[0.0, 0, 10, 10], [0, 0, 0, 0]])
    b = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 10, 20, 20], [0, 0, 5, 5]])
    assert torch.allclose(pairwise_iou(a, b), torch.tensor([[1, 1 / 3, 0, 0.25], [0, 0, 0, 0]]))
    one, two = random_boxes(20), random_boxes(30, 1)
    assert torch.equal(pairwise_iou(one[None], two[None])[0], pairwise_iou(one, two))


def test_size_iou():
    assert torch.allclose(size_iou(torch.tensor([[2.0, 4]]), torch.tensor([[4.0, 2], [2, 4], [1, 4]])), torch.tensor([[1 / 3, 1, 0.5]]))


def test_complete_iou():
    box = torch.tensor([[0.0, 0, 10, 20]])
    assert complete_iou(box, box).item() == pytest.approx(1, abs=1e-5)
    # beside it, same shape: IoU 0, centres 20 apart, hull 30 x 20
    assert complete_iou(box, box + torch.tensor([20.0, 0, 20, 0])).item() == pytest.approx(-400 / (900 + 400), abs=1e-5)
    # same centre, turned: IoU 100 / 300, no distance, v = 4 / pi^2 (atan 1/2 - atan 2)^2
    turned = torch.tensor([[-5.0, 5, 15, 15]])
    v = 4 / math.pi**2 * (math.atan(0.5) - math.atan(2)) ** 2
    assert complete_iou(box, turned).item() == pytest.approx(1 / 3 - v * v / (1 - 1 / 3 + v), abs=1e-5)


def test_complete_iou_pulls_in_the_right_direction():
    """Following the gradient of 1 - CIoU, also from far away, ends on the target."""
    box, truth = torch.tensor([[0.0, 0, 5, 5]], requires_grad=True), torch.tensor([[60.0, 40, 90, 100]])
    solver = torch.optim.Adam([box], 1.0)
    for _ in range(600):
        solver.zero_grad()
        (1 - complete_iou(box, truth)).sum().backward()
        solver.step()
    assert complete_iou(box, truth).item() > 0.9


def brute_nms(boxes, scores, threshold, iou_threshold, most):
    pairs = sorted(((s.item(), n, k) for n, row in enumerate(scores) for k, s in enumerate(row) if s > threshold), reverse=True)
    kept = []
    for score, n, k in pairs:
        if all(k != other or pairwise_iou(boxes[n:n + 1], boxes[m:m + 1]).item() <= iou_threshold for _, m, other in kept):
            kept.append((score, n, k))
    return kept[:most]


@pytest.mark.parametrize("seed", range(10))
def test_nms_equals_brute_force(seed):
    boxes, scores = random_boxes(40, seed), torch.rand(40, 3, generator=torch.Generator().manual_seed(seed))
    found = nms(boxes[None], scores[None], 0.3, 0.4, 25)[0]
    expected = brute_nms(boxes, scores, 0.3, 0.4, 25)
    assert [(round(s, 6), k) for s, _, k in expected] == [(round(s, 6), k) for s, k in zip(found["scores"].tolist(), found["labels"].tolist())]
    assert torch.equal(found["boxes"], boxes[[n for _, n, _ in expected]])


def slow_diou(one, two):
    """DIoU of two boxes, as the paper writes it."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = one.tolist(), two.tolist()
    shared = max(0, min(x2, u2) - max(x1, u1)) * max(0, min(y2, v2) - max(y1, v1))
    iou = shared / ((x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared)
    apart = ((x1 + x2 - u1 - u2) / 2) ** 2 + ((y1 + y2 - v1 - v2) / 2) ** 2
    return iou, iou - apart / ((max(x2, u2) - min(x1, u1)) ** 2 + (max(y2, v2) - min(y1, v1)) ** 2)


def slow_nms(boxes, scores, kind, least, limit, agnostic):
    """Each pair with each other: -> [(score, prediction, class)]."""
    waiting = [[s.item(), n, k] for n, row in enumerate(scores) for k, s in enumerate(row) if s > least[k]]
    kept = []
    while waiting:
        waiting.sort(reverse=True)
        best = waiting.pop(0)
        kept.append(tuple(best))
        for other in list(waiting):
            if not agnostic and other[2] != best[2]:
                continue
            iou, diou = slow_diou(boxes[best[1]], boxes[other[1]])
            if kind == "soft":
                other[0] *= math.exp(-iou * iou / 0.5)
            if kind == "soft" and other[0] <= least[other[2]] or kind == "diou" and diou > limit or kind == "hard" and iou > limit:
                waiting.remove(other)
    return kept


@pytest.mark.parametrize("kind", ["hard", "diou", "soft"])
@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_kinds_of_nms_equal_slow_ones(kind, agnostic, seed):
    """With a threshold for each class, of which one wants nothing."""
    boxes, scores = random_boxes(40, seed), torch.rand(40, 3, generator=torch.Generator().manual_seed(seed))
    least = [0.3, 0.6, math.inf]
    (found,) = nms(boxes[None], scores[None], least, 0.4, 1000, kind=kind, agnostic=agnostic)
    expected = slow_nms(boxes, scores, kind, least, 0.4, agnostic)
    assert found["scores"].tolist() == pytest.approx([score for score, _, _ in expected], abs=1e-5)
    assert found["labels"].tolist() == [k for _, _, k in expected] and 2 not in found["labels"]
    assert torch.equal(found["boxes"], boxes[[n for _, n, _ in expected]]) and 5 < len(expected) < 60
    (few,) = nms(boxes[None], scores[None], least, 0.4, 1000, kind=kind, agnostic=agnostic, most_per_class=3)
    for label in (0, 1):
        assert torch.equal(few["boxes"][few["labels"] == label], found["boxes"][found["labels"] == label][:3])


@pytest.mark.parametrize("count", [0, 1, 60, 1500])
def test_nms_of_groups_equals_torchvision(count):
    rng = np.random.default_rng(count)
    corners = rng.integers(0, 90, (count, 2))
    boxes = torch.from_numpy(np.hstack([corners, corners + rng.integers(5, 60, (count, 2))])).double()
    scores, group = torch.from_numpy(rng.integers(0, 200, count) / 200), torch.from_numpy(rng.integers(0, 4, count))
    assert torch.equal(hard_nms(boxes, scores, group, 0.45), batched_nms(boxes, scores, group, 0.45))


def test_two_objects_close_together():
    """What the two kinder ones are for: IoU 0.52, which nms_iou=0.5 takes for one object."""
    boxes, scores = torch.tensor([[[0.0, 0, 20, 20], [6.3, 0, 26.3, 20]]]), torch.tensor([[[0.9], [0.8]]])
    assert [len(nms(boxes, scores, 0.1, 0.5, 10, kind=kind)[0]["boxes"]) for kind in ("hard", "diou", "soft")] == [1, 2, 2]
    softer = nms(boxes, scores, 0.1, 0.5, 10, kind="soft")[0]["scores"]
    assert softer.tolist() == pytest.approx([0.9, 0.8 * math.exp(-((274 / 526) ** 2) / 0.5)])
    assert soft_nms(boxes[0], scores[0, :, 0], torch.tensor([0, 1]), torch.zeros(2))[1].tolist() == pytest.approx([0.9, 0.8])


def test_nms_of_nothing_and_of_too_much():
    boxes = random_boxes(5000)[None]
    empty = nms(boxes, torch.zeros(1, 5000, 2), 0.5, 0.5, 10)[0]
    assert empty["boxes"].shape == (0, 4) and len(empty["scores"]) == len(empty["labels"]) == 0 and empty["labels"].dtype == torch.int64
    scores = torch.linspace(0.1, 0.9, 10000).view(1, 5000, 2)           # the best come last
    best = nms(boxes, scores, 0.0, 0.99, 300)[0]["scores"]
    assert len(best) == 300 and best[0] == scores.max()


def test_nms_beside_a_huge_box():
    """A box that ran away must not blur the others: classes are kept apart exactly."""
    boxes, scores = random_boxes(60), torch.rand(60, 80, generator=torch.Generator().manual_seed(0)) ** 4
    alone = nms(boxes[None], scores[None], 0.3, 0.5, 10_000)[0]
    huge = torch.cat([boxes, torch.tensor([[0, 0, 7.6e6, 7.6e6]])])
    low = torch.zeros(1, 80)
    low[0, 0] = 0.301
    beside = nms(huge[None], torch.cat([scores, low])[None], 0.3, 0.5, 10_000)[0]
    keep = beside["boxes"][:, 2] < 1e6
    assert torch.equal(beside["boxes"][keep], alone["boxes"]) and torch.equal(beside["labels"][keep], alone["labels"])


def test_alpha_of_complete_iou_is_a_constant():
    """d CIoU / d box with alpha held fixed, against numbers from small steps."""
    box, truth = torch.tensor([[0.0, 0, 10, 30]], dtype=torch.float64), torch.tensor([[2.0, 3, 26, 20]], dtype=torch.float64)
    box.requires_grad_(True)
    complete_iou(box, truth).sum().backward()

    def parts(b):
        sizes = [(x[:, 2:] - x[:, :2])[0] for x in (b, truth)]
        angles = [torch.atan(s[0] / s[1]) for s in sizes]
        v = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
        iou = pairwise_iou(b, truth)[0, 0]
        return complete_iou(b, truth)[0] + v * v / (1 - iou + v), v, v / (1 - iou + v)
    with torch.no_grad():
        alpha = parts(box)[2]
        for i in range(4):
            step = torch.zeros(1, 4, dtype=torch.float64)
            step[0, i] = 1e-6
            (up, v_up, _), (down, v_down, _) = parts(box + step), parts(box - step)
            assert box.grad[0, i].item() == pytest.approx(((up - down) - alpha * (v_up - v_down)).item() / 2e-6, abs=1e-5)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_encode_and_decode(weights):
    boxes, anchors = random_boxes(40), random_boxes(40, 1)
    deltas = encode(boxes, anchors, weights)
    assert torch.allclose(decode(deltas, anchors, weights), boxes, atol=1e-3)
    assert torch.allclose(deltas, BoxCoder(weights).encode_single(boxes, anchors), atol=1e-5)
    wild = torch.randn(40, 4) * 30                                      # far beyond what a box may grow
    expected = BoxCoder(weights).decode_single(wild, anchors)
    assert torch.allclose(decode(wild, anchors, weights), expected, rtol=1e-4) and expected.isfinite().all()
    assert encode(torch.tensor([20.0, 10, 40, 50]), torch.tensor([10.0, 10, 20, 30])).tolist() == pytest.approx([1.5, 0.5, math.log(2), math.log(2)])


def test_clip():
    assert clip(torch.tensor([[-5.0, -1, 30, 9], [3, 4, 5, 99]]), (20, 25)).tolist() == [[0, 0, 25, 9], [3, 4, 5, 20]]


@pytest.mark.parametrize("high, low, rescue", [(0.5, 0.4, True), (0.7, 0.3, True), (0.5, 0.5, False)])
def test_match_equals_torchvision(high, low, rescue):
    for seed in range(8):
        iou = pairwise_iou(random_boxes(7, seed), random_boxes(300, 50 + seed))
        iou[:, 5:8] = iou[:, 4:5]                                       # ties
        assert torch.equal(match(iou, high, low, rescue), Matcher(high, low, rescue)(iou))


def test_match_without_objects():
    assert match(torch.zeros(0, 4), 0.5, 0.4, True).tolist() == [-1, -1, -1, -1]


def test_nms_with_a_box_for_every_class():
    boxes = torch.stack([random_boxes(30, k) for k in range(3)], 1)     # (30, 3, 4)
    scores = torch.rand(30, 3, generator=torch.Generator().manual_seed(5))
    found = nms(boxes[None], scores[None], 0.2, 0.4, 100)[0]
    alone = [nms(boxes[None, :, k], scores[None, :, k:k + 1], 0.2, 0.4, 100)[0] for k in range(3)]
    for k, one in enumerate(alone):
        assert torch.equal(found["boxes"][found["labels"] == k], one["boxes"]) and len(one["boxes"])


def test_nms_takes_so_many_candidates():
    """Of each part, and of each class; nothing overlaps here, so what enters comes out."""
    corner = torch.arange(12.0)[:, None] * torch.tensor([20.0, 0.0])
    boxes = torch.cat([corner, corner + 10], 1)[None]
    scores = torch.tensor([[i / 100 + 0.1, 0.05 - i / 1000] for i in range(12)])[None]       # class 0 rises, class 1 falls
    def taken(**limits):
        found = nms(boxes, scores, 0.01, 0.5, 100, **limits)[0]
        return sorted(zip((found["boxes"][:, 0] / 20).int().tolist(), found["labels"].tolist()))
    assert taken(max_candidates=2, parts=[4, 8]) == [(2, 0), (3, 0), (10, 0), (11, 0)]
    assert taken(per_class=2) == [(0, 1), (1, 1), (10, 0), (11, 0)]
    assert taken(per_class=2, max_candidates=3) == [(0, 1), (10, 0), (11, 0)]
    assert len(taken(per_class=50)) == 24
