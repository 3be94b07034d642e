"""CenterNet gives the authors' numbers: maps, targets, losses, gradients, boxes; what a peak and a bell are, by hand.

tests/data/centernet.npz: xingyizhou/CenterNet 4c50fd3, msra_resnet 18 with 80 classes, in float64 and eval mode, for image(11, 256, 320) and
image(12, 256, 320), normalised: a part of its maps, of the wanted centre map, of the gradients' norms (its order), losses and best boxes.
The weights are fill() by its names.
"""
from pathlib import Path

import numpy as np
import pytest
import torch
from recipe import fill, image

from nets.centernet import CenterNet, bell, bell_radius
from utils.errors import NoWeights
from utils.evaluate import suppress
from utils.weights import load_weights, our_name

DATA = Path(__file__).parents[1] / "data" / "centernet.npz"
FACTORS = ((r"^hm\.2\.weight$", 0.6), (r"^wh\.2\.weight$", 3.0))
SHIFTS = {"hm.2.bias": -3.0, "wh.2.bias": 12.0}
BOXES = ([[3, 40, 30, 168, 190], [17, 100, 80, 190.5, 150.25], [3, 236, 20, 244, 26], [19, 20, 204, 44, 220], [11, 180, 120, 310, 250]],
         [[0, 0, 0, 320, 256], [17, 60.5, 60.25, 100.75, 130.5], [5, 70, 64, 110, 120]])


def theirs(name):
    """Our name -> the authors'."""
    for ours, other in (("centre_head", "hm"), ("size_head", "wh"), ("offset_head", "reg"), ("deconv", "deconv_layers"), ("backbone.", "")):
        if name.startswith(ours):
            return other + name[len(ours):]
    raise AssertionError(name)


def published():
    """The authors' tensors, by their names."""
    tensors = {theirs(name): tensor for name, tensor in fill(CenterNet(80).state_dict(), rename=theirs, factors=FACTORS).items()}
    return {name: tensor + SHIFTS.get(name, 0.0) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def targets():
    return [{"boxes": torch.tensor(rows)[:, 1:], "labels": torch.tensor(rows)[:, 0].long()} for rows in BOXES]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("centernet") / "权重.pth"
    torch.save({"epoch": 140, "state_dict": published()}, path)
    return path


def test_parameters():
    with torch.device("meta"):
        counts = [sum(p.numel() for p in CenterNet(k, backbone=name).parameters())
                  for name, k in (("resnet18", 20), ("resnet34", 91), ("resnet50", 80), ("resnet101", 80))]
    assert counts == [15_816_472, 25_929_247, 34_443_348, 53_435_476]


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)])
def test_equal_to_the_authors_network(dtype, path):
    """Their file is read by name; then maps, losses, all gradients, targets and boxes are theirs, in float64 as closely as the file says."""
    expected, exact = np.load(DATA), dtype == torch.float64
    model = CenterNet(80)
    report = load_weights(model, path)
    assert report.backbone == 1.0 and not (report.different or report.missing or report.unused)
    model.to(dtype).eval()
    images = torch.from_numpy(np.stack([image(seed, 256, 320) for seed in (11, 12)])).to(dtype)
    outputs, losses = model(images, targets())

    # The picture was normalised in float32 there, which is most of the difference; their own float32 is up to 7e-5 away.
    for name, step in (("centres", 137 * 17), ("sizes", 3 * 17), ("offsets", 3 * 17)):
        values = outputs[name].detach().flatten()[::step].numpy()
        assert values.shape == expected[name].shape and np.abs(values - expected[name]).max() < (2e-5 if exact else 3e-4)

    # Losses, and the gradient of every tensor.
    for name, weight in (("centre", 1.0), ("size", 0.1), ("offset", 1.0)):
        assert losses[name].item() == pytest.approx(weight * float(expected[f"loss_{name}"]), rel=1e-6 if exact else 1e-5)
    sum(losses.values()).backward()
    norms = {theirs(name): float(p.grad.norm()) for name, p in model.named_parameters()}
    found = np.array([norms[name] for name in published() if name in norms])
    assert np.abs(np.sort(found) / np.sort(expected["gradnorm"]) - 1).max() < (1e-5 if exact else 1e-3)

    # The wanted map, and the best boxes. A box turned inside out is flat here.
    wanted = torch.stack([model.assign(target, like)[0] for target, like in zip(targets(), outputs["centres"])]).flatten()
    assert torch.equal(wanted.nonzero()[:, 0][::7], torch.from_numpy(expected["wanted_index"]))
    assert np.abs(wanted[wanted > 0][::7].numpy() - expected["wanted_value"]).max() < 1e-6
    if not exact:
        return
    for found, rows in zip(suppress(model, outputs, 0.0, 1.0, 20), expected["decoded"]):
        middle, half = (rows[:, :2] + rows[:, 2:4]) / 2, np.maximum(rows[:, 2:4] - rows[:, :2], 0) / 2
        boxes = np.concatenate([middle - half, middle + half], 1) * 4
        assert np.abs(found["boxes"].detach().numpy() - boxes).max() < 1e-3
        assert np.abs(found["scores"].detach().numpy() - rows[:, 4]).max() < 2e-5 and found["labels"].tolist() == rows[:, 5].tolist()


def test_files_for_other_classes(path):
    report = load_weights(CenterNet(5), path)
    assert [name for name, *_ in report.different] == ["centre_head.2.weight", "centre_head.2.bias"] and not (report.missing or report.unused)
    with pytest.raises(NoWeights, match="no official COCO file"):
        CenterNet(3, pretrained="coco")
    assert our_name("hm.0.weight", CenterNet.official_names) == "centre_head.0.weight"


def test_a_peak_is_an_object():
    """Two hills of one class are two objects, their slopes are none; nothing has to be suppressed."""
    centres = torch.full((1, 2, 8, 8), -9.0)
    centres[0, 1, 2, 3], centres[0, 1, 2, 4], centres[0, 1, 6, 6] = 2.0, 1.0, 0.0
    sizes, offsets = torch.full((1, 2, 8, 8), 3.0), torch.full((1, 2, 8, 8), 0.5)
    sizes[0, 0, 6, 6] = -1.0
    model = CenterNet(2)
    boxes, scores = model.decode({"centres": centres, "sizes": sizes, "offsets": offsets})
    assert boxes.shape == (1, 64, 4) and scores.shape == (1, 64, 2)
    (found,) = suppress(model, {"centres": centres, "sizes": sizes, "offsets": offsets}, 0.3, 1.0, 100)
    assert found["boxes"].tolist() == [[8, 4, 20, 16], [26, 20, 26, 32]] and found["labels"].tolist() == [1, 1]


def test_radius_and_bell():
    """A square of 10: two corners 1.76 outwards have an IoU of 0.7; the authors' rule allows one cell."""
    assert bell_radius(torch.tensor([[10.0, 10], [32, 40], [1, 1]])).tolist() == [2, 9, 0]
    heights = bell(torch.arange(-4.0, 5)[None], torch.tensor([3.0]))[0]
    assert heights[4] == 1 and heights[0] == heights[8] == 0 and heights[1] == pytest.approx(np.exp(-9 / (2 * (7 / 6) ** 2)))


def test_what_is_no_object_any_more():
    """Beyond the border a box is empty and is left out; two objects of one cell share it."""
    target = {"boxes": torch.tensor([[-20.0, 4, -4, 20], [8, 8, 24, 24], [9, 9, 23, 23]]), "labels": torch.tensor([0, 1, 1])}
    wanted, cells, sizes, offsets = CenterNet(2).assign(target, torch.zeros(2, 16, 16))
    assert wanted[0].max() == 0 and cells.tolist() == [4 * 16 + 4] * 2 and (wanted == 1).sum() == 1
    assert sizes.tolist() == [[4, 4], [3.5, 3.5]] and offsets.tolist() == [[0, 0], [0, 0]]
