"""PIDNet gives MMSegmentation's numbers, and its files load.

tests/data/pidnet.npz: logits of MMSegmentation 1.2.2, pidnet-s (19 classes) in float64 and eval mode, for as_reference(): every 3rd value of what
sub() keeps, and the loss of the head. The weights are fill() by its names.
"""
import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from recipe import as_reference, fill, sub

import nets
from nets.pidnet import Bag, Fits, PIDNet, near_edges
from utils.weights import load_weights

DATA = Path(__file__).parents[1] / "data"
# our names -> those of MMSegmentation, all rules one after the other
THEIRS = [(r"^head\.classify", "decode_head.conv_seg"), (r"^aux\.classify", "decode_head.p_cls_seg"), (r"^edges\.classify", "decode_head.d_cls_seg"),
          (r"^head\.", "decode_head.i_head."), (r"^aux\.", "decode_head.p_head."), (r"^edges\.", "decode_head.d_head."),
          (r"(?<!._head)\.norm\.", ".bn.")]


def theirs(name):
    for pattern, replacement in THEIRS:
        name = re.sub(pattern, replacement, name)
    return name


@functools.cache
def published():
    """All tensors by MMSegmentation's names. There no norm comes behind the last convolutions, so they come last here, too."""
    with torch.device("meta"):
        empty = PIDNet(19).state_dict()
    names = sorted(empty, key=lambda name: "classify" in name)
    ours = fill({name: torch.zeros(empty[name].shape, dtype=empty[name].dtype) for name in names}, rename=theirs,
                factors=[(r"conv[23]\.bn\.weight$", 0.45)])
    return {"state_dict": {theirs(name): tensor for name, tensor in ours.items()}}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "pidnet 权重.pth"
    torch.save(published(), path)
    return path


def test_parameters():
    with torch.device("meta"):
        assert sum(p.numel() for p in PIDNet(19).parameters()) == 7_720_871


def test_equal_to_mmsegmentation(path):
    """Its file loads by name; in float64 logits and loss are its. Measured: 3.7e-6 of a deviation of 17, the rounding of the file."""
    model = PIDNet(19)
    report = load_weights(model, path)
    assert report.backbone == 1.0 and not (report.different or report.missing or report.unused)
    found, losses = as_reference(model, 128, 192, 19, logits=model.head)
    expected, values = np.load(DATA / "pidnet.npz"), sub(found["logits"], 4864)[0][::3]
    assert values.shape == expected["logits"].shape and expected["logits"].std() > 15
    assert np.abs(values - expected["logits"]).max() < 1e-5
    assert float(losses["cross_entropy"]) == pytest.approx(float(expected["loss"]), rel=1e-6)
    assert set(losses) == {"cross_entropy", "aux_cross_entropy", "edges", "edge_cross_entropy"}


@pytest.mark.slow
def test_the_file_at_once_and_for_other_classes(path):
    model, info = nets.load(path, net="pidnet")
    assert info["class_names"][13] == "car" and not model.training
    report = load_weights(PIDNet(5, aux=False), path)
    assert [name for name, *_ in report.different] == ["head.classify.weight", "head.classify.bias"] and not report.missing


def test_edges_are_within_two_pixels_of_another_class():
    """Compared with looking around at every pixel; what is ignored is no class, and no edge."""
    masks = torch.zeros(2, 9, 12, dtype=torch.int64)
    masks[0, :, 6:], masks[0, 4:6, 1:3], masks[1, :, 5:], masks[1, 0, :4] = 3, 1, 255, 2
    expected = torch.zeros(masks.shape, dtype=torch.bool)
    for picture, y, x in np.ndindex(*masks.shape):
        around = masks[picture, max(0, y - 2):y + 3, max(0, x - 2):x + 3]
        expected[picture, y, x] = masks[picture, y, x] != 255 and len(set(around.flatten().tolist()) - {255}) > 1
    assert torch.equal(near_edges(masks), expected) and expected[0].any() and not expected[1, 5:].any()
    assert not near_edges(torch.full((1, 4, 4), 255)).any()


@torch.no_grad()
def test_who_decides():
    """The bag: at an edge the fine map, elsewhere the coarse one. The fine branch takes nothing that is unlike it."""
    bag, fits = Bag(4).eval(), Fits(4, 4).eval()
    for conv in (bag.f_p, bag.f_i, fits.f_i, fits.f_p):
        conv.conv.weight.copy_(torch.eye(4)[..., None, None])
    p, i, edge = torch.rand(1, 4, 2, 3), torch.rand(1, 4, 2, 3), torch.full((1, 4, 2, 3), 100.0)
    unit = (1 + bag.f_p.norm.eps) ** -0.5                                       # of a BatchNorm that has seen nothing yet
    assert torch.allclose(bag(p, i, edge), (2 * p + i) * unit) and torch.allclose(bag(p, i, -edge), (p + 2 * i) * unit)
    assert torch.allclose(fits(50 * p + 9, -50 * i - 9), 50 * p + 9, atol=1e-4)


@torch.no_grad()
def test_a_sure_and_right_edge_costs_little():
    """The loss of the edges is that of both answers alike, however few pixels are near one."""
    model, mask = PIDNet(2).eval(), torch.zeros(64, 64, dtype=torch.int64)
    mask[:, 32:] = 1
    detail = edges = torch.zeros(1, 64, 8, 8)
    losses = {}
    for name, sign in (("right", 1.0), ("wrong", -1.0)):
        model.edges.forward = lambda x, sign=sign: torch.where(near_edges(mask[None])[:, None], 9.0, -9.0) * sign
        losses[name] = float(model.loss(torch.zeros(1, 2, 64, 64), detail, edges, [{"mask": mask}])["edges"])
    assert losses["right"] < 0.01 and losses["wrong"] == pytest.approx(20 * 9 * 2 * (4 / 64) * (60 / 64), rel=1e-3)
