"""The IoU family and NMS against what can be worked out by hand or by brute force."""
import math

import pytest
import torch

from utils.boxes import complete_iou, cxcywh_to_xyxy, nms, pairwise_iou, size_iou, xyxy_to_cxcywh


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


def test_nms_of_nothing_and_of_too_much():
    boxes = random_boxes(5000)[None]
    empty = nms(boxes, torch.zeros(1, 5000, 2), 0.5, 0.5, 10)[0]
    assert empty["boxes"].shape == (0, 4) and len(empty["scores"]) == len(empty["labels"]) == 0 and empty["labels"].dtype == torch.int64
    scores = torch.rand(1, 5000, 2)
    best = nms(boxes, scores, 0.0, 0.99, 300)[0]["scores"]
    assert len(best) == 300 and best[0] == scores.max()
