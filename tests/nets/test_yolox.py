"""YOLOX is the published network: parameters, its authors' raw heads, boxes, assignments and losses, their weight files."""
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yolo_modern
from exports import assert_exports
from torch import nn
from words import unexplained

import nets
from nets.yolox import PRETRAINED, SIZES, YOLOX, pad_targets
from utils.boxes import xyxy_to_cxcywh
from utils.errors import UserError
from utils.weights import load_weights, our_name

DATA = Path(__file__).parents[1] / "data" / "yolo_modern"
PARAMETERS = {"nano": 912_159, "tiny": 5_055_855, "s": 8_968_255, "m": 25_326_495, "l": 54_208_895, "x": 99_071_455}
GAIN = {"nano": 1.185, "s": 1.12}
MAPS = [(32, 40), (16, 20), (8, 10)]                        # of an input of 256 x 320
# net, case -> box, objectness, class, l1, positives: the release's own loss, float64 (the networks: their float32 weights in float64)
LOSSES = {
    ("nano", "A"): (4.0934254, 22.787807, 5.624036, 1.8259599, 9),
    ("nano", "B"): (3.9376955, 15.869772, 5.657780, 1.7570740, 14),
    ("nano", "C"): (0.0, 174.329901, 0.0, 0.0, 0),
    ("nano", "D"): (4.0538078, 15.790890, 5.614818, 1.6298645, 14),
    ("s", "A"): (4.2077109, 26.856589, 10.651821, 2.1110415, 11),
    ("s", "B"): (4.1444090, 20.556885, 10.457796, 1.9602870, 15),
    ("s", "C"): (0.0, 253.672021, 0.0, 0.0, 0),
    ("s", "D"): (4.1409457, 20.601679, 9.615048, 2.0877449, 15),
    ("heads", "A"): (4.1066574, 34.232196, 9.886793, 1.9695533, 13),
    ("heads", "B"): (4.2512751, 24.871292, 9.925275, 2.2791288, 19),
    ("heads", "C"): (0.0, 388.101372, 0.0, 0.0, 0),
    ("heads", "D"): (4.1773244, 24.868019, 9.854346, 2.0380531, 19),
}
PARTS = ("box", "objectness", "class", "l1")


def reference(name):
    return np.load(DATA / f"yolox_{name}.npz")


def gain(size):
    def of(name):
        if "preds" in name:
            return 0.6 if "reg" in name else 1.0
        return 0.1 * GAIN[size] / (64 if ".stem.conv." in name else 1)
    return of


@pytest.fixture(scope="module", params=["nano", "s"])
def official(request, tmp_path_factory):
    """size, path of a file as the release writes it, with random weights."""
    size = request.param
    path = tmp_path_factory.mktemp("official") / f"yolox_{size}.pth"
    state = yolo_modern.state_dict(yolo_modern.names_and_shapes(reference(size)), gain(size), lambda name: 0.9 if "reg" in name else -3.0)
    torch.save({"start_epoch": 300, "model": state, "optimizer": {"state": {}, "param_groups": []}}, path)
    return size, path


@pytest.fixture(scope="module")
def network(official):
    """size, the network with these weights, its outputs for both pictures."""
    size, path = official
    model = nets.build("yolox", 80, (256, 320), size=size, l1=True).eval()
    load_weights(model, path)
    with torch.no_grad():
        return size, model, model(yolo_modern.images())[0]


@pytest.mark.parametrize("size", SIZES)
def test_parameters(size):
    with torch.device("meta"):
        assert sum(p.numel() for p in YOLOX(80, size=size).parameters()) == PARAMETERS[size]
        width = {"nano": 64, "tiny": 96, "s": 128, "m": 192, "l": 256, "x": 320}[size]
        assert sum(p.numel() for p in YOLOX(20, size=size).parameters()) == PARAMETERS[size] - 3 * 60 * (width + 1)


def test_the_default_is_s():
    assert sum(p.numel() for p in nets.build("yolox", 80).parameters()) == PARAMETERS["s"]


def test_training_starts_from_the_prior():
    model = nets.build("yolox", 3, (64, 64), size="nano")
    for head in (model.head3, model.head4, model.head5):
        for bias in (head.class_pred.bias, head.object_pred.bias):
            assert torch.allclose(bias.sigmoid(), torch.tensor(0.01))
    assert all(m.eps == 1e-3 and m.momentum == 0.03 for m in model.modules() if isinstance(m, nn.BatchNorm2d))


def test_official_file_loads_whole(official):
    size, path = official
    model = nets.build("yolox", 80, (64, 64), size=size)
    report = load_weights(model, path)
    shapes = yolo_modern.names_and_shapes(reference(size))
    assert not report.missing and not report.different and not report.unused
    assert len(report.loaded) == sum(not name.endswith("num_batches_tracked") for name in shapes)
    assert len(model.state_dict()) == len(shapes) == {"nano": 642, "s": 462}[size]


def test_other_classes_keep_the_rest(official):
    size, path = official
    report = load_weights(nets.build("yolox", 3, (64, 64), size=size), path)
    assert report.backbone == 1.0 and not report.missing
    assert {name for name, _, _ in report.different} == {f"head{i}.class_pred.{part}" for i in (3, 4, 5) for part in ("weight", "bias")}


def test_the_wrong_size_is_refused(official):
    size, path = official
    with pytest.raises(UserError, match="belong to a different network"):
        load_weights(nets.build("yolox", 80, (64, 64), size="tiny"), path)
    with pytest.raises(UserError, match='no size "nanno". Did you mean "nano"'):
        nets.build("yolox", 3, size="nanno")


def test_official_file_can_be_used_as_it_is(official):
    size, path = official
    model, info = nets.load(path, net="yolox", options={"size": size})
    assert info["class_names"][0] == "person" and len(info["class_names"]) == 80 and tuple(info["input_shape"]) == (640, 640)
    assert not model.training


def test_our_own_names_stay():
    for size in ("nano", "s"):
        with torch.device("meta"):
            names = list(YOLOX(3, size=size).state_dict())
        assert [our_name(name, YOLOX.official_names) for name in names] == names


def test_pretrained_fetches_the_file_of_its_size(official, monkeypatch):
    size, path = official
    asked = []
    monkeypatch.setattr("nets.yolox.download", lambda url: asked.append(url) or path)
    model = nets.build("yolox", 3, (64, 64), size=size, pretrained=True)
    assert asked == [PRETRAINED.format(size)] and asked[0].endswith(f"/yolox_{size}.pth")
    stem = "backbone.backbone.stem.conv.conv.weight"
    assert torch.equal(model.backbone.stem.conv.weight.detach(), torch.load(path, weights_only=True)["model"][stem])


def test_freezing_rests_the_backbone_alone():
    with torch.device("meta"):
        model = YOLOX(80)
    theirs = {name: shape for name, shape in yolo_modern.names_and_shapes(reference("s")).items() if name.startswith("backbone.backbone.")}
    expected = sum(np.prod(shape) for name, shape in theirs.items() if name.endswith((".weight", ".bias")))
    assert sum(p.numel() for p in model.backbone.parameters()) == expected
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"backbone", "neck", "head3", "head4", "head5"}


def test_heads_equal_the_release(network):
    size, _, outputs = network
    held = reference(size)
    for level, output in enumerate(outputs):
        assert output.shape == (2, 85, *MAPS[level])
        for name, part in zip(("reg", "obj", "cls"), output[:1].split([4, 1, 80], 1)):
            # measured 1.0e-5 to 6.6e-5, as the processor rounds; values spread over 0.5 and 1, a wrong network is off by more than 0.1
            assert yolo_modern.furthest(part, held, f"{name}_l{level}") <= 3e-4


def test_decode_equals_the_release(network):
    size, model, outputs = network
    raw, boxes, _ = model.predictions([output[:1] for output in outputs])
    assert yolo_modern.furthest(torch.cat([xyxy_to_cxcywh(boxes), raw[..., 4:].sigmoid()], -1), reference(size), "decoded", 1e-4) <= 5e-3
    found, scores = model.decode([output[:1] for output in outputs])
    assert torch.equal(found, boxes) and torch.allclose(scores, raw[..., 4:5].sigmoid() * raw[..., 5:].sigmoid())


def assigned(model, outputs, targets):
    """-> (B, N) row of the image's objects or -1."""
    raw, boxes, cells = model.predictions(outputs)
    return model.assign(raw, boxes, cells, *pad_targets(targets, boxes))


def check_assignment(model, outputs, name, case):
    held, found = reference(name), assigned(model, outputs, yolo_modern.targets(case))
    assert (found >= 0).sum() == LOSSES[name, case][4]
    for image, rows in enumerate(found.numpy()):
        anchors = held.get(f"asg_{case}_img{image}_anchor", np.zeros(0))
        assert np.array_equal(np.flatnonzero(rows >= 0), np.sort(anchors))
        if len(anchors):
            assert np.array_equal(rows[anchors], held[f"asg_{case}_img{image}_gt"])


@pytest.mark.parametrize("case", yolo_modern.CASES)
def test_losses_equal_the_release(network, case):
    size, model, outputs = network
    check_assignment(model, outputs, size, case)
    losses = model.loss(outputs, yolo_modern.targets(case))
    assert [float(losses[part]) for part in PARTS] == pytest.approx(LOSSES[size, case][:4], rel=2e-5)        # bar 2e-4


def formula_heads(dtype):
    """Raw outputs that need no network: [(2, 85, h, w)]."""
    z = np.random.RandomState(101).standard_normal((2, 85, 1680))
    z[:, :2], z[:, 2:4], z[:, 4:] = 0.4 * z[:, :2] + 0.5, 0.4 * z[:, 2:4] + 1.2, 1.5 * z[:, 4:] - 3
    levels = np.split(z, np.cumsum([h * w for h, w in MAPS])[:2], axis=2)
    return [torch.from_numpy(level).to(dtype).view(2, 85, *size) for level, size in zip(levels, MAPS)]


@pytest.mark.parametrize("case", yolo_modern.CASES)
@pytest.mark.parametrize("dtype, bar", [(torch.float64, 6e-8), (torch.float32, 1e-6)])       # 6e-8: the digits of the table
def test_losses_of_fixed_predictions(dtype, bar, case):
    model, heads = nets.build("yolox", 80, (64, 64), size="nano", l1=True), formula_heads(dtype)
    check_assignment(model, heads, "heads", case)
    losses = model.loss(heads, yolo_modern.targets(case))
    assert [float(losses[part]) for part in PARTS] == pytest.approx(LOSSES["heads", case][:4], rel=bar)


def iou_of(a, b):
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def in_loops(heads, targets):
    """The paper's loss and assignment, one image, one object, one prediction after the other. -> losses, [{prediction: object}]."""
    sums, owners, classes = dict.fromkeys(PARTS, 0.0), [], heads[0].shape[1] - 5
    for image, target in enumerate(targets):
        found = [(head[image, :, y, x], x, y, s) for head, s in zip(heads, (8, 16, 32)) for y in range(head.shape[2]) for x in range(head.shape[3])]
        boxes = []
        for t, x, y, s in found:
            cx, cy, w, h = (t[0] + x) * s, (t[1] + y) * s, t[2].exp() * s, t[3].exp() * s
            boxes.append(torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]))
        truths, labels = target["boxes"].tolist(), target["labels"].tolist()
        near = [[abs((x + 0.5) * s - (a + c) / 2) < 1.5 * s and abs((y + 0.5) * s - (b + d) / 2) < 1.5 * s for _, x, y, s in found]
                for a, b, c, d in truths]
        may = [n for n in range(len(found)) if any(row[n] for row in near)]
        cost, claims = [], {}
        for g, (box, label) in enumerate(zip(truths, labels)):
            ious = {n: iou_of(boxes[n].tolist(), box) for n in may}
            cost.append({})
            for n in may:
                t = found[n][0].detach()
                wanted = F.one_hot(torch.tensor(label), classes).to(t)
                class_cost = F.binary_cross_entropy((t[5:].sigmoid() * t[4].sigmoid()).sqrt(), wanted, reduction="sum")
                cost[g][n] = float(class_cost) - 3 * np.log(ious[n] + 1e-8) + 1e6 * (not near[g][n])
            k = max(int(sum(sorted(ious.values())[-10:])), 1)
            for n in sorted(may, key=cost[g].get)[:k]:
                claims.setdefault(n, []).append(g)
        owner = {n: gs[0] if len(gs) == 1 else min(range(len(truths)), key=lambda g: cost[g][n]) for n, gs in claims.items()}
        owners.append(owner)
        for n, (t, x, y, s) in enumerate(found):
            wanted = t.new_tensor(float(n in owner))
            sums["objectness"] = sums["objectness"] + F.binary_cross_entropy_with_logits(t[4], wanted)
            if n in owner:
                a, b, c, d = truths[owner[n]]
                p = boxes[n]
                shared = (torch.minimum(p[2], t.new_tensor(c)) - torch.maximum(p[0], t.new_tensor(a))).clamp(min=0) * \
                         (torch.minimum(p[3], t.new_tensor(d)) - torch.maximum(p[1], t.new_tensor(b))).clamp(min=0)
                iou = shared / ((p[2] - p[0]) * (p[3] - p[1]) + (c - a) * (d - b) - shared)
                sums["box"] = sums["box"] + 5 * (1 - iou**2)
                label = F.one_hot(target["labels"][owner[n]], classes).to(t) * float(iou.detach())
                sums["class"] = sums["class"] + F.binary_cross_entropy_with_logits(t[5:], label, reduction="sum")
                aim = t.new_tensor([(a + c) / 2 / s - x, (b + d) / 2 / s - y, np.log((c - a) / s + 1e-8), np.log((d - b) / s + 1e-8)])
                sums["l1"] = sums["l1"] + (t[:4] - aim).abs().sum()
    positives = max(sum(len(owner) for owner in owners), 1)
    return {part: value / positives for part, value in sums.items()}, owners


def crowd(seed, *counts):
    """Objects from tiny to large, some beyond the border of an input of 96 x 160, in crowds that want the same predictions."""
    stream = np.random.RandomState(seed)
    found = []
    for count in counts:
        sizes = np.exp(stream.uniform(1.5, 4.8, (count, 2)))
        centres = stream.uniform([-20, -20], [180, 116], (count, 2)) if seed % 2 else stream.uniform([60, 30], [100, 60], (count, 2))
        found.append({"boxes": torch.from_numpy(np.concatenate([centres - sizes / 2, centres + sizes / 2], 1)),
                      "labels": torch.from_numpy(stream.randint(0, 6, count))})
    return found


@pytest.mark.parametrize("seed, counts", [(1, (1, 5)), (2, (12, 0, 3)), (2, (25, 8)), (5, (30,))])
def test_losses_and_gradients_equal_plain_loops(seed, counts):
    """Also the gradients: they show what the values cannot, a target through which the network is taught to lower its own standard."""
    stream, targets = np.random.RandomState(seed), crowd(seed, *counts)
    heads = []
    for h, w in ((12, 20), (6, 10), (3, 5)):
        z = stream.standard_normal((len(counts), 11, h, w))
        z[:, :2], z[:, 2:4], z[:, 4:] = 0.4 * z[:, :2] + 0.5, 0.5 * z[:, 2:4] + 0.7, 2 * z[:, 4:] - 1
        heads.append(torch.from_numpy(z).requires_grad_())
    model = nets.build("yolox", 6, (96, 160), size="nano", l1=True)
    losses, (expected, owners) = model.loss(heads, targets), in_loops(heads, targets)
    for rows, owner in zip(assigned(model, heads, targets).tolist(), owners):
        assert {n: g for n, g in enumerate(rows) if g >= 0} == owner
    for part in PARTS:
        assert float(losses[part].detach()) == pytest.approx(float(expected[part].detach()), rel=1e-12)
        ours, theirs = (torch.autograd.grad(values[part], heads, retain_graph=True) for values in (losses, expected))
        assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(ours, theirs))
        assert max(a.abs().max() for a in ours) > 1e-3


@pytest.mark.parametrize("counts", [(1, 0), (30, 2)])
def test_a_gpu_which_looks_at_all_cells_finds_the_same(counts, monkeypatch):
    """A CPU looks only at cells that are near an object; the assignment is the same."""
    torch.manual_seed(0)
    heads, targets = [torch.randn(2, 11, 12 // s, 20 // s) for s in (1, 2, 4)], crowd(3, *counts)
    model, sizes = nets.build("yolox", 6, (96, 160), size="nano"), []
    near = assigned(model, heads, targets)
    monkeypatch.setattr("nets.yolox.near_cells", lambda near: sizes.append(near.any(1).sum().item()) or torch.arange(near.shape[2]).expand(2, -1))
    assert torch.equal(near, assigned(model, heads, targets)) and (near >= 0).any()
    assert 0 < sizes[0] < near.numel() / 2


def test_each_loss_moves_its_own_channels():
    model, heads = nets.build("yolox", 80, (64, 64), size="nano", l1=True), [head.requires_grad_() for head in formula_heads(torch.float32)]
    losses = model.loss(heads, yolo_modern.targets("B"))
    for part, channels in {"box": range(4), "l1": range(4), "objectness": [4], "class": range(5, 85)}.items():
        gradients = torch.autograd.grad(losses[part], heads, retain_graph=True)
        moved = sum(gradient.abs().sum((0, 2, 3)) for gradient in gradients)
        assert set(moved.nonzero().flatten().tolist()) == set(channels)


def one_object(*, box=(33.0, 17.0, 63.0, 47.0), label=1):
    return [{"boxes": torch.tensor([box]), "labels": torch.tensor([label])}]


def test_right_predictions_cost_nothing():
    """Heads that say exactly what is there have (nearly) no loss; a wrong class, box or objectness costs in its own part only."""
    model = nets.build("yolox", 3, (64, 64), size="nano")
    heads = [torch.full((1, 8, n, n), -15.0) for n in (8, 4, 2)]
    box = torch.tensor([48 / 16 - 2, 32 / 16 - 2, np.log(30 / 16), np.log(30 / 16)])            # said by row 2, column 2 of the middle level
    heads[1][0, :4, 2, 2], heads[1][0, [4, 6], 2, 2] = box, 15.0
    losses = model.loss(heads, one_object())
    assert set(losses) == {"box", "objectness", "class"} and all(0 <= float(v) < 1e-3 for v in losses.values())
    for channel, value, part in ((0, 2.0, "box"), (4, -3.0, "objectness"), (6, -3.0, "class")):
        wrong = [head.clone() for head in heads]
        wrong[1][0, channel, 2, 2] = value
        worse = {name for name, v in model.loss(wrong, one_object()).items() if float(v) > float(losses[name]) + 1e-2}
        assert part in worse and (part == "box" or worse == {part})             # a class is to be as sure as the box is good


def test_an_object_outside_the_picture_is_left_out():
    """As augmentation makes them. Far from all cells it has no prediction of its own, and there is no other object whose cells it could take."""
    model = nets.build("yolox", 3, (64, 64), size="nano")
    heads = [torch.zeros(1, 8, n, n) for n in (8, 4, 2)]
    outside = one_object(box=(200.0, 200.0, 230.0, 230.0))
    assert (assigned(model, heads, outside) == -1).all()
    assert all(torch.isfinite(value) for value in model.loss(heads, outside).values())


def test_l1_is_an_option():
    model, heads, targets = nets.build("yolox", 80, (64, 64), size="nano"), formula_heads(torch.float32), yolo_modern.targets("A")
    assert set(model.loss(heads, targets)) == set(PARTS[:3])
    model.l1 = True
    assert set(model.loss(heads, targets)) == set(PARTS) and not unexplained(PARTS)


def test_half_precision_heads_have_a_float32_loss(network):
    """Under autocast the loss works on float32 copies of what the network said, and says the same as without autocast."""
    _, model, _ = network
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        outputs, losses = model(yolo_modern.images()[:, :, :64, :96], yolo_modern.targets("B"))
        boxes, scores = model.decode(outputs)
    assert outputs[0].dtype == torch.bfloat16 and boxes.dtype == scores.dtype == torch.float32
    again = model.loss([output.float() for output in outputs], yolo_modern.targets("B"))
    assert all(losses[part].dtype == torch.float32 and torch.equal(losses[part], again[part]) for part in PARTS)


def test_a_diverging_step_stays_finite():
    model = nets.build("yolox", 3, (64, 64), size="nano")
    heads = [torch.full((1, 8, n, n), 300.0, requires_grad=True) for n in (8, 4, 2)]
    loss = sum(model.loss(heads, one_object()).values())
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(head.grad).all() for head in heads)
    assert torch.isfinite(model.decode(heads)[0]).all()


def test_export():
    assert_exports(nets.build("yolox", 3, (64, 96), size="nano"), 64, 96, 1e-5)
