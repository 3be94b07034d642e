"""YOLOv8 is the published network: parameters, outputs, assignments, losses, gradients, and its converted files load."""
import functools
import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yolo_modern
from exports import assert_exports
from torch import nn

import nets
from utils.boxes import xyxy_to_cxcywh
from utils.errors import UserError
from utils.evaluate import detect
from utils.weights import load_weights

DATA = Path(__file__).parents[1] / "data" / "yolo_modern"
PARAMETERS = {"n": 3_157_200, "s": 11_166_560, "m": 25_902_640, "l": 43_691_520, "x": 68_229_648}
# what the reference computes for its formula heads, in float64: box, class, dfl after the gains; their sum times the two images; sum of wanted scores
FORMULA = {"A": (2.6102101, 421.32012, 5.7388371, 859.33834, 6.2766046), "B": (2.8481314, 210.77966, 6.0989637, 439.45350, 12.6008887),
           "C": (0.0, 2631.40493, 0.0, 5262.80986, 0.0), "D": (2.9644444, 241.80015, 5.7319103, 500.99301, 10.9792602)}
NETWORK = {("n", "A"): (3.6909175, 232.42409, 3.8680729), ("s", "A"): (3.1199552, 440.67820, 3.6751045),
           ("n", "B"): (3.6728298, 149.25140, 4.4384743), ("s", "B"): (2.8323544, 141.52731, 3.9614151),
           ("n", "C"): (0, 1612.67833, 0), ("s", "C"): (0, 1647.59967, 0),
           ("n", "D"): (3.5620476, 132.84336, 3.8708186), ("s", "D"): (2.7102303, 166.21445, 4.2319549)}
LAST_DIGIT = (0.6e-7, 0.6e-5, 0.6e-7, 1.1e-5, 0.6e-7)       # as they are printed


# --- the network ---

@pytest.mark.parametrize("size", PARAMETERS)
def test_parameters(size):
    with torch.device("meta"):                              # no memory, no random numbers
        assert sum(p.numel() for p in nets.build("yolov8", 80, size=size).parameters()) == PARAMETERS[size]


@functools.cache
def reference(size):
    return dict(np.load(DATA / f"yolov8{size}.npz"))


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """size -> a file as the conversion makes it, with the reference's random weights."""
    @functools.cache
    def write(size):
        boxes, classes = {"n": (1.0, 0.9), "s": (0.75, 0.6)}[size]

        def gain(name):
            if name.startswith("model.22.cv") and name.endswith(".2.weight"):
                return boxes if ".cv2." in name else classes
            return 0.116 * (4 if name == "model.0.conv.weight" else 1)
        state = yolo_modern.state_dict(yolo_modern.names_and_shapes(reference(size)), gain,
                                       lambda name: -5 if ".cv3." in name else -0.3 * (np.arange(64) % 16))
        state["model.22.dfl.conv.weight"] = torch.arange(16.0).view(1, 16, 1, 1)
        path = tmp_path_factory.mktemp("converted") / f"yolov8{size}.pth"
        torch.save(state, path)
        return path
    return write


@pytest.fixture(scope="module")
def outcome(converted):
    """size -> model, what it says of the two pictures."""
    @functools.cache
    def run(size):
        model = nets.build("yolov8", 80, (256, 320), size=size).eval()
        load_weights(model, converted(size))
        with torch.no_grad():
            return model, model(yolo_modern.images())[0]
    return run


@pytest.mark.parametrize("size", ["n", "s"])
def test_converted_files_load(size, converted):
    """Every tensor, by its name; and the order is the file's, so that a plain list of values would do as well."""
    model = nets.build("yolov8", 80, size=size)
    report = load_weights(model, converted(size))
    assert len(report.loaded) == 298 and report.backbone == 1.0 and not report.missing and not report.different and not report.unused
    theirs, ours = torch.load(converted(size), weights_only=True).values(), model.state_dict().values()
    assert all(a.shape == b.shape and (a.equal(b) or not a.ndim) for a, b in zip(theirs, ours, strict=True))


@pytest.mark.parametrize("size", ["n", "s"])
def test_outputs_equal_the_reference(size, outcome):
    model, outputs = outcome(size)
    for level in range(3):                                              # measured 1.2e-5 (n), 4.3e-5 (s); values up to 11
        assert yolo_modern.furthest(outputs["sides"][level][:1], reference(size), f"box_l{level}") < 2e-4
        assert yolo_modern.furthest(outputs["classes"][level][:1], reference(size), f"cls_l{level}") < 2e-4
    with torch.no_grad():
        boxes, scores = model.decode(outputs)
    decoded = torch.cat([xyxy_to_cxcywh(boxes), scores], 2)[:1].transpose(1, 2)
    assert yolo_modern.furthest(decoded, reference(size), "decoded", relative=1e-4) < 0.005         # measured 2.5e-4, 8e-4 px absolute


def test_channels_last_is_the_same(outcome):
    model, outputs = outcome("n")
    images = yolo_modern.images().contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        again = model.decode(model(images)[0])
        for one, other in zip(again, model.decode(outputs)):
            assert torch.allclose(one, other, atol=1e-2)


@pytest.mark.parametrize("size, case", NETWORK)
def test_losses_through_the_network(size, case, outcome):
    model, outputs = outcome(size)
    losses = model.loss(outputs, yolo_modern.targets(case))
    assert [float(losses[name]) for name in ("box", "class", "dfl")] == pytest.approx(NETWORK[size, case], rel=2e-5)    # the bar is 2e-4
    # A wanted score holds the sixth power of an overlap: the stored float32 ones are 7e-4 from what float64 gives, and other processors
    # round otherwise by as much. A wrong exponent or a wrong overlap is off by more than a tenth.
    compare_assignment(model, outputs, case, reference(size), 2e-3)


def assigned(model, outputs, targets):
    """-> truth (B, N), wanted (B, N), as the loss has them."""
    found = []

    class Spy(type(model)):
        def assign(self, *inputs):
            found.extend(super().assign(*inputs))
            return found
    model.__class__ = Spy
    try:
        model.loss(outputs, targets)
    finally:
        model.__class__ = Spy.__base__
    return found


def compare_assignment(model, outputs, case, stored, tolerance):
    truth, wanted = assigned(model, outputs, yolo_modern.targets(case))
    for image in range(2):
        positive = wanted[image].nonzero()[:, 0].numpy()
        key = f"asg_{case}_img{image}_"
        if key + "anchor" not in stored:
            assert not len(positive)
            continue
        order = np.argsort(stored[key + "anchor"])
        assert positive.tolist() == stored[key + "anchor"][order].tolist()
        assert truth[image, positive].tolist() == stored[key + "gt"][order].tolist()
        assert np.allclose(wanted[image, positive], stored[key + "score"][order], rtol=tolerance, atol=1e-6)


# --- the loss, on heads made by a formula ---

@functools.cache
def heads_only(dtype=torch.float32, **options):
    """The network without the time that its random weights take: its loss does not need them."""
    with torch.device("meta"):
        model = nets.build("yolov8", 80, (256, 320), **options)
    model.mean.to_empty(device="cpu").weight.data = torch.arange(16.0).view(1, 16, 1, 1)
    model.cells = torch.tensor([[[0.0, 0.0, s, s]] for s in (8, 16, 32)])
    model.mean.to(dtype)
    return model


def formula_heads(dtype):
    values = np.random.RandomState(202).standard_normal((2, 144, 1680))
    values[:, :64] = 2.5 * values[:, :64] - 0.3 * (np.arange(64) % 16)[:, None]
    values[:, 64:] = 1.5 * values[:, 64:] - 5
    planted = [(0, 3, 109, (0, 0, 1, 1)), (0, 3, 110, (1, 0, 0, 1)), (0, 3, 149, (0, 1, 1, 0)),
               (1, 0, 1458, (15, 8, 2, 7)), (1, 0, 1457, (15, 9, 2, 7))]
    for image, label, cell, bins in planted:
        for side, distance in enumerate(bins):
            values[image, 16 * side + distance, cell] += 8
        values[image, 64 + label, cell] += 4
    levels = np.split(values, [1280, 1600], 2)
    maps = [torch.from_numpy(level).to(dtype).view(2, 144, 256 // s, 320 // s) for level, s in zip(levels, (8, 16, 32))]
    return {"sides": [m[:, :64].clone().requires_grad_() for m in maps], "classes": [m[:, 64:].clone().requires_grad_() for m in maps]}


@pytest.mark.parametrize("case", FORMULA)
def test_losses_on_formula_heads(case):
    """float64: to the last printed digit. The loss there is ours times the batch size."""
    model, outputs, truth = heads_only(torch.float64), formula_heads(torch.float64), yolo_modern.targets(case)
    losses = model.loss(outputs, truth)
    wanted = assigned(model, outputs, truth)[1]
    found = [*(losses[name].item() for name in ("box", "class", "dfl")), 2 * sum(losses.values()).item(), wanted.sum().item()]
    for value, expected, tolerance in zip(found, FORMULA[case], LAST_DIGIT):
        assert value == pytest.approx(expected, rel=0, abs=tolerance)
    compare_assignment(model, outputs, case, dict(np.load(DATA / "yolov8_heads.npz")), 1e-5)

    single = heads_only().loss(formula_heads(torch.float32), truth)
    assert all(value.dtype == torch.float32 for value in single.values())
    assert [single[name].item() for name in ("box", "class", "dfl")] == pytest.approx(FORMULA[case][:3], rel=2e-6)      # the bar is 5e-5


def slow_ciou(box, truth, eps=1e-7):
    (a, b, c, d), (e, f, g, h) = box, truth
    w1, h1, w2, h2 = c - a, d - b + eps, g - e, h - f + eps
    shared = max(min(c, g) - max(a, e), 0) * max(min(d, h) - max(b, f), 0)
    iou = shared / (w1 * h1 + w2 * h2 - shared + eps)
    far = ((a + c - e - g) ** 2 + (b + d - f - h) ** 2) / 4 / ((max(c, g) - min(a, e)) ** 2 + (max(d, h) - min(b, f)) ** 2 + eps)
    shape = 4 / math.pi**2 * (torch.atan(w1 / h1) - torch.atan(w2 / h2)) ** 2
    return iou - far - (shape / (1 - iou + shape + eps)).detach() * shape


def slow_loss(outputs, targets):
    """The same loss, one truth and one cell after the other, from the description alone."""
    box_loss = class_loss = dfl_loss = total = 0
    for image, target in enumerate(targets):
        cells = []                                          # x, y, stride, sides (4, 16), classes (K,), box px
        for sides, classes, stride in zip(outputs["sides"], outputs["classes"], (8, 16, 32)):
            for row in range(sides.shape[2]):
                for column in range(sides.shape[3]):
                    p = sides[image, :, row, column].view(4, 16)
                    left, top, right, bottom = (p.softmax(1) * torch.arange(16)).sum(1) * stride
                    x, y = (column + 0.5) * stride, (row + 0.5) * stride
                    cells.append((x, y, stride, p, classes[image, :, row, column], (x - left, y - top, x + right, y + bottom)))
        truths = list(zip(target["boxes"].tolist(), target["labels"].tolist()))
        takers = {}
        overlaps, metrics = torch.zeros(len(truths), len(cells)).double(), torch.zeros(len(truths), len(cells)).double()
        for g, ((left, top, right, bottom), label) in enumerate(truths):
            dx, dy = max(16 - (right - left), 0) / 2, max(16 - (bottom - top), 0) / 2
            for n, (x, y, _, _, classes, box) in enumerate(cells):
                if left - dx < x < right + dx and top - dy < y < bottom + dy:
                    truth = torch.tensor([left, top, right, bottom]).to(classes)
                    overlaps[g, n] = slow_ciou(box, truth).item()
                    overlaps[g, n] = max(overlaps[g, n], 0)
                    metrics[g, n] = classes[label].sigmoid().item() ** 0.5 * overlaps[g, n] ** 6
            for n in metrics[g].argsort(descending=True)[:10].tolist():
                if metrics[g, n] > 0:
                    takers.setdefault(n, []).append(g)
        owner = {n: gs[0] if len(gs) == 1 else int(overlaps[:, n].argmax()) for n, gs in takers.items()}
        wanted = torch.zeros(len(cells), outputs["classes"][0].shape[1]).double()
        for g, (box, label) in enumerate(truths):
            own = [n for n in owner if owner[n] == g]
            for n in own:
                weight = metrics[g, n] * max(overlaps[g, m] for m in own) / (max(metrics[g, m] for m in own) + 1e-9)
                wanted[n, label] = weight
                x, y, stride, p, _, predicted = cells[n]
                truth = torch.tensor(box).to(weight)
                box_loss = box_loss + weight * (1 - slow_ciou([v / stride for v in predicted], truth / stride))
                left, top, right, bottom = box
                for side, distance in enumerate((x - left, y - top, right - x, bottom - y)):
                    distance = min(max(distance / stride, 0), 14.99)
                    below, rest = int(distance), distance % 1
                    for bin, share in ((below, 1 - rest), (below + 1, rest)):
                        dfl_loss = dfl_loss + weight * share / 4 * F.cross_entropy(p[side][None], torch.tensor([bin]))
        logits = torch.stack([classes for *_, classes, _ in cells])
        class_loss = class_loss + F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
        total += wanted.sum().item()
    return {"box": 7.5 * box_loss / max(total, 1), "class": 0.5 * class_loss / max(total, 1), "dfl": 1.5 * dfl_loss / max(total, 1)}


def small_heads(*shape, classes=80):
    """Random heads in float64 for an input of (H, W), whose boxes overlap what is there a little."""
    torch.manual_seed(1)
    maps = [(shape[0] // s, shape[1] // s) for s in (8, 16, 32)]
    return {"sides": [(2 * torch.randn(2, 64, *m).double() - 0.2 * (torch.arange(64) % 16).view(-1, 1, 1)).requires_grad_() for m in maps],
            "classes": [(torch.randn(2, classes, *m).double() - 2).requires_grad_() for m in maps]}


def crowd(count, *shape):
    torch.manual_seed(2)
    size = 4 + torch.rand(count, 2) ** 2 * torch.tensor([shape[1], shape[0]]) * 0.8
    corner = torch.rand(count, 2) * (torch.tensor([shape[1], shape[0]]) - size)
    return {"boxes": torch.cat([corner, corner + size], 1), "labels": torch.randint(80, (count,))}


def test_losses_and_gradients_of_a_crowd():
    """Many overlapping objects, images with unequal numbers of them: against the slow loss, values and gradients."""
    outputs, targets = small_heads(96, 128), [crowd(30, 96, 128), crowd(5, 96, 128)]
    leaves = [*outputs["sides"], *outputs["classes"]]
    ours, slow = heads_only(torch.float64).loss(outputs, targets), slow_loss(outputs, targets)
    for name in ("box", "class", "dfl"):
        assert ours[name].item() == pytest.approx(slow[name].item(), rel=1e-9)
        for one, other in zip(*(torch.autograd.grad(losses[name], leaves, retain_graph=True, allow_unused=True) for losses in (ours, slow))):
            zero = torch.zeros(1).double()
            one, other = zero if one is None else one, zero if other is None else other
            assert torch.allclose(one, other, rtol=1e-8, atol=1e-12)


def test_a_gpu_which_works_out_all_pairs_finds_the_same(monkeypatch):
    """A CPU works out the pairs of object and cell inside alone; the numbers are the same to the bit."""
    outputs, targets = small_heads(96, 128), [crowd(30, 96, 128), crowd(5, 96, 128)]
    leaves = [*outputs["sides"], *outputs["classes"]]

    def numbers():
        losses = heads_only(torch.float64).loss(outputs, targets)
        return [*losses.values(), *torch.autograd.grad(sum(losses.values()), leaves)]

    def all_pairs(inside):
        asked.append(inside.sum().item())
        return torch.meshgrid(*map(torch.arange, inside.shape), indexing="ij")

    inside, asked = numbers(), []
    monkeypatch.setattr("nets.yolov8.pairs_of", all_pairs)
    assert all(torch.equal(one, other) for one, other in zip(inside, numbers()))
    assert 0 < asked[0] < 2 * 31 * (192 + 48 + 12) / 4             # most pairs are not inside


def test_nothing_there():
    """Without objects every score is pulled down, and that is all."""
    outputs = small_heads(64, 64)
    losses = heads_only(torch.float64).loss(outputs, [crowd(0, 64, 64)] * 2)
    assert losses["box"].item() == losses["dfl"].item() == 0
    assert losses["class"].item() == pytest.approx(0.5 * sum(F.softplus(m).sum().item() for m in outputs["classes"]), rel=1e-12)
    sum(losses.values()).backward()
    assert all((m.grad > 0).all() for m in outputs["classes"]) and all((m.grad == 0).all() for m in outputs["sides"])


def test_objects_without_size_are_no_infinity():
    outputs = small_heads(64, 64)
    thing = {"boxes": torch.tensor([[10.0, 10, 10, 10], [20, 20, 20, 50]]), "labels": torch.tensor([1, 2])}
    losses = heads_only(torch.float64).loss(outputs, [thing, thing])
    sum(losses.values()).backward()
    assert all(torch.isfinite(v) for v in losses.values()) and all(torch.isfinite(m.grad).all() for m in outputs["sides"])


@pytest.mark.parametrize("least_side, cells", [(16, [109, 110, 149, 150, 1607]), (0, [])])
def test_small_objects_are_looked_for_in_a_larger_square(least_side, cells):
    """8 x 6 px at 240, 23. On its edges lie centres of cells, inside it none; in the square of 16 px four of stride 8 and one of stride 32.
    On an edge of the square lies one of stride 16: it is not inside."""
    model, box = heads_only(least_side=least_side), torch.tensor([[[236.0, 20, 244, 26]]])
    _, classes, points, strides = model.predictions(formula_heads(torch.float32))
    one = torch.zeros(2, 1, dtype=torch.int64)
    truth, wanted = model.assign(box.expand(2, 1680, 4), classes, points * strides, box.expand(2, 1, 4), one, one == 0)
    assert wanted[0].nonzero()[:, 0].tolist() == cells and not truth.any()
    if cells:
        assert wanted[0].max().item() == pytest.approx(1)               # all boxes are right; the surest of the class is wanted to be sure
    assert not model.assign(box.expand(2, 1680, 4), classes, points * strides, box.expand(2, 1, 4), one, one != 0)[1].any()     # an empty row


def exact_heads(box, label, shape=(64, 64), classes=3):
    """Heads that say one object exactly, in every cell inside it, and nothing elsewhere."""
    sides = [torch.zeros(1, 64, shape[0] // s, shape[1] // s) for s in (8, 16, 32)]
    scores = [torch.full((1, classes, shape[0] // s, shape[1] // s), -12.0) for s in (8, 16, 32)]
    for level, stride in enumerate((8, 16, 32)):
        for row in range(shape[0] // stride):
            for column in range(shape[1] // stride):
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                distances = [(x - box[0]) / stride, (y - box[1]) / stride, (box[2] - x) / stride, (box[3] - y) / stride]
                if min(distances) > 0:
                    scores[level][0, label, row, column] = 12.0
                    for side, distance in enumerate(distances):
                        sides[level][0, 16 * side + int(distance), row, column] = 60 + math.log(1 - distance % 1 + 1e-9)
                        sides[level][0, 16 * side + int(distance) + 1, row, column] = 60 + math.log(distance % 1 + 1e-9)
    return {"sides": sides, "classes": scores}


def test_right_predictions_cost_nothing():
    """Heads that say what is there cost nearly nothing, or cannot cost less; each mistake costs in its own part."""
    model, box = heads_only(), [18.0, 17.0, 40.0, 40.0]             # ten cells: nine of stride 8, one of 16
    truth = [{"boxes": torch.tensor([box]), "labels": torch.tensor([2])}]
    heads = exact_heads(box, 2)
    sides = [m.requires_grad_() for m in heads["sides"]]
    losses = model.loss(heads, truth)
    assert losses["box"] < 1e-3 and losses["class"] < 1e-2
    for gradient in torch.autograd.grad(losses["dfl"], sides):          # between two bins some uncertainty remains
        assert gradient.abs().max() < 1e-4

    def unsure(maps):                                                   # 12 px to the right, between bins 1 and 2: 0 and 3 have the same mean
        maps["sides"][0][0, 32:36, 3, 3] = torch.tensor([60.0, 0, 0, 60])
    for part, change in (("class", lambda maps: maps["classes"][0][0, 2, 3, 3].fill_(-3.0)), ("dfl", unsure)):
        wrong = {name: [m.detach().clone() for m in maps] for name, maps in heads.items()}
        change(wrong)
        assert {name for name, value in model.loss(wrong, truth).items() if value > losses[name] + 1e-2} == {part}


def test_the_batch_size_does_not_count():
    outputs, targets = formula_heads(torch.float32), yolo_modern.targets("B")
    twice = {name: [torch.cat([m, m]) for m in maps] for name, maps in outputs.items()}
    one, two = heads_only().loss(outputs, targets), heads_only().loss(twice, targets + targets)
    assert all(one[name].item() == pytest.approx(two[name].item(), rel=1e-5) for name in one)


def test_the_loss_is_float32_under_autocast():
    outputs = {name: [m.detach().bfloat16() for m in maps] for name, maps in formula_heads(torch.float32).items()}
    exact = heads_only().loss({name: [m.float() for m in maps] for name, maps in outputs.items()}, yolo_modern.targets("D"))
    with torch.autocast("cpu", torch.bfloat16):
        losses = heads_only().loss(outputs, yolo_modern.targets("D"))
    assert all(losses[name].dtype == torch.float32 and losses[name].item() == pytest.approx(exact[name].item(), rel=1e-6) for name in exact)


# --- what surrounds it ---

@pytest.mark.parametrize("fall, widths", [(None, (32, 64, 128)), (0, (120, 240, 480))])
def test_the_first_boxes(fall, widths):
    """Four cells wide, and so every level is the best one for objects of its own size; 15 cells wide as published."""
    torch.manual_seed(0)
    model = nets.build("yolov8", 3, (320, 320), **({} if fall is None else {"fall": fall})).eval()
    with torch.inference_mode():
        boxes, _ = model.decode(model(torch.rand(1, 3, 320, 320))[0])
    levels = boxes[0].split([(320 // stride) ** 2 for stride in (8, 16, 32)])
    for level, width in zip(levels, widths):
        assert (level[:, 2:] - level[:, :2]).median().item() == pytest.approx(width, rel=0.02)


def test_beginnings():
    model = nets.build("yolov8", 20, fall=0)
    assert all((head[2].bias == 2.0).all() for head in model.side_heads)
    for head, stride in zip(model.class_heads, (8, 16, 32)):
        assert torch.allclose(head[2].bias, torch.tensor(math.log(5 / 20 / (640 / stride) ** 2)))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 57 and {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.03)}


def test_the_backbone_ends_with_the_pooling(converted):
    """The freeze stage rests layers 0 to 9 of the published list, and these alone."""
    names = yolo_modern.names_and_shapes(reference("n"))
    theirs = sum(math.prod(shape) for name, shape in names.items()
                 if int(name.split(".")[1]) <= 9 and not name.rsplit(".", 1)[1].startswith(("running", "num")))
    assert sum(p.numel() for p in nets.build("yolov8", 3).backbone.parameters()) == theirs


def test_other_classes_keep_the_rest(converted):
    """The class branches of n are as wide as there are classes (64 to 80 channels), so all of them are initialised from scratch."""
    model = nets.build("yolov8", 3)
    report = load_weights(model, converted("n"))
    assert report.backbone == 1.0 and not report.missing and not report.unused
    assert {name.split(".")[0] for name, _, _ in report.different} == {"class_heads"}
    assert len(load_weights(nets.build("yolov8", 3, size="s"), converted("s")).different) == 6      # there only the last convolutions


def test_prefixes_and_half_precision(converted, tmp_path):
    """YOLO(...).state_dict() has one "model." more than YOLO(...).model.state_dict(); files are often saved in half precision."""
    state = torch.load(converted("n"), weights_only=True)
    torch.save({f"model.{name}": tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}, tmp_path / "half.pth")
    model = nets.build("yolov8", 80)
    assert len(load_weights(model, tmp_path / "half.pth").loaded) == 298
    assert model.backbone.stem.conv.weight.dtype == torch.float32


def test_converted_files_predict(converted):
    model, info = nets.load(converted("n"), net="yolov8")
    assert not model.training and info["class_names"][0] == "person" and len(info["class_names"]) == 80
    with pytest.raises(UserError, match="belong to a different network"):
        nets.load(converted("n"), net="yolov8", options={"size": "s"})


def test_decoding_only_what_is_good_enough_finds_the_same(monkeypatch):
    torch.manual_seed(0)
    model = nets.build("yolov8", 80, (96, 128)).eval()
    with torch.no_grad():
        for head in model.class_heads:
            nn.init.normal_(head[-1].weight)
            head[-1].bias.zero_()
        spread = torch.cat([x.flatten() for x in model(torch.rand(1, 3, 96, 128))[0]["classes"]]).std()
        for head in model.class_heads:
            head[-1].weight.mul_(3 / spread)                # logits of about -6 +- 3
            head[-1].bias.fill_(-6)
    images = [np.random.default_rng(seed).integers(0, 256, (90, 120, 3), np.uint8) for seed in range(3)]
    uneven = np.where(np.arange(80) % 3, 0.4, np.inf)
    limits = [0.001, 0.3, 0.9, uneven, np.full(80, np.inf), 1.0]
    with monkeypatch.context() as patch:
        patch.delattr(type(model), "decode_above")
        whole = [detect(model, images, (96, 128), limit) for limit in limits]
    for limit, before in zip(limits, whole):
        for old, new in zip(before, detect(model, images, (96, 128), limit), strict=True):
            assert old.keys() == new.keys() and old.get("best") == new.get("best")
            assert all((old[name] == new[name]).all() for name in ("boxes", "scores", "labels"))
    counts = [[len(found["boxes"]) for found in before] for before in whole]
    assert min(counts[1]) > 0 and counts[1] != counts[2] and max(counts[-2] + counts[-1]) == 0
    assert whole[-1][0]["best"] and whole[-2][0]["best"] is None


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("old", [False, True])
def test_pickles_of_the_project_are_refused(tmp_path, monkeypatch, capsys, old):
    """A file that names classes of ultralytics, which is not installed here: the sentence says how to convert it."""
    tasks = types.ModuleType("ultralytics.nn.tasks")
    tasks.DetectionModel = type("DetectionModel", (nn.Module,), {"__module__": "ultralytics.nn.tasks"})
    for name in ("ultralytics", "ultralytics.nn"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, tasks.__name__, tasks)
    path = tmp_path / "yolov8n.pt"
    torch.save({"epoch": -1, "model": tasks.DetectionModel().half(), "train_args": {}}, path, _use_new_zipfile_serialization=not old)
    monkeypatch.undo()
    sentence = r"yolov8n\.pt holds objects of the package ultralytics.*ultralytics\.YOLO\('yolov8n\.pt'\)\.model\.state_dict\(\), 'yolov8n\.pth'\)"
    for read in (functools.partial(load_weights, nets.build("yolov8", 3)), functools.partial(nets.load, net="yolov8")):
        with pytest.raises(UserError, match=sentence):
            read(path)


def test_wrong_options():
    with pytest.raises(UserError, match='no size "small".*It has n, s, m, l, x'):
        nets.build("yolov8", 3, size="small")
    with pytest.raises(UserError, match="convert them"):
        nets.build("yolov8", 3, pretrained=True)


def test_exports():
    """No decision in forward or decode depends on the data."""
    assert_exports(nets.build("yolov8", 3, (64, 96)), 64, 96, 1e-4)
