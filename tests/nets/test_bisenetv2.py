"""BiSeNetV2 gives MMSegmentation's numbers, and its files load.

tests/data/bisenetv2.npz: logits of MMSegmentation 1.2.2, bisenetv2_fcn (19 classes) in float64 and eval mode, for as_reference(): every 3rd value
of what sub() keeps, and the loss of the head. The weights are fill() by its names.
"""
import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from recipe import as_reference, fill, sub

import nets
from nets.bisenetv2 import BiSeNetV2, GatherExpand, Guide
from utils.weights import load_weights

DATA = Path(__file__).parents[1] / "data"
# our names -> those of MMSegmentation, all rules one after the other
THEIRS = [
    (r"^backbone\.detail\.", "backbone.detail.detail_branch."), (r"^backbone\.stem\.first", "backbone.semantic.stage1.conv_first"),
    (r"^backbone\.stem\.join", "backbone.semantic.stage1.fuse_last"), (r"^backbone\.stem\.", "backbone.semantic.stage1."),
    (r"^backbone\.stages\.0", "backbone.semantic.stage2"), (r"^backbone\.stages\.1", "backbone.semantic.stage3"),
    (r"^backbone\.stages\.2", "backbone.semantic.stage4"), (r"^backbone\.context\.norm", "backbone.semantic.stage4_CEBlock.gap.1"),
    (r"^backbone\.context\.mean", "backbone.semantic.stage4_CEBlock.conv_gap"),
    (r"^backbone\.context\.last", "backbone.semantic.stage4_CEBlock.conv_last"),
    (r"\.gather\.", ".conv1."), (r"\.expand\.", ".dwconv."), (r"\.narrow\.", ".conv2.0."),
    (r"\.shortcut\.0\.", ".shortcut.0.depthwise_conv."), (r"\.shortcut\.1\.", ".shortcut.0.pointwise_conv."),
    (r"guide\.(detail_fine|semantic_coarse)\.0\.", r"guide.\1.0.depthwise_conv."),
    (r"guide\.(detail_fine|semantic_coarse)\.1\.", r"guide.\1.0.pointwise_conv.conv."),
    (r"guide\.detail_fine", "bga.detail_dwconv"), (r"guide\.detail_coarse", "bga.detail_down"), (r"guide\.semantic_fine", "bga.semantic_conv.0"),
    (r"guide\.semantic_coarse", "bga.semantic_dwconv"), (r"guide\.join", "bga.conv"),
    (r"^head\.", "decode_head."), (r"^aux\.", "auxiliary_head."), (r"\.classify\.", ".conv_seg."), (r"(?<!gap\.1)\.norm\.", ".bn.")]


def theirs(name):
    for pattern, replacement in THEIRS:
        name = re.sub(pattern, replacement, name)
    return name


@functools.cache
def published():
    """All tensors by MMSegmentation's names, in a file as it writes them."""
    with torch.device("meta"):
        empty = BiSeNetV2(19).state_dict()
    factors = [(r"bn3\.weight$", 0.5)]
    ours = fill({name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in empty.items()}, rename=theirs, factors=factors)
    return {"meta": {"epoch": 1}, "state_dict": {theirs(name): tensor for name, tensor in ours.items()}}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "bisenetv2 权重.pth"
    torch.save(published(), path)
    return path


def test_parameters():
    """The helpers are four fifths of them, and only training needs them."""
    with torch.device("meta"):
        assert [sum(p.numel() for p in BiSeNetV2(19, aux=aux).parameters()) for aux in (True, False)] == [14_804_255, 3_358_883]


def test_equal_to_mmsegmentation(path):
    """Its file loads by name; in float64 logits and loss are its. Measured: 6e-8 of a deviation of 0.49, the rounding of the file."""
    model = BiSeNetV2(19)
    report = load_weights(model, path)
    assert report.backbone == 1.0 and not (report.different or report.missing or report.unused)
    found, losses = as_reference(model, 128, 192, 19, logits=model.head)
    expected, values = np.load(DATA / "bisenetv2.npz"), sub(found["logits"], 4864)[0][::3]
    assert values.shape == expected["logits"].shape and expected["logits"].std() > 0.4
    assert np.abs(values - expected["logits"]).max() < 2e-7
    assert float(losses["cross_entropy"]) == pytest.approx(float(expected["loss"]), rel=1e-6)


@pytest.mark.slow
def test_the_file_at_once_and_for_other_classes(path):
    model, info = nets.load(path, net="bisenetv2")
    assert info["class_names"][13] == "car" and not model.training
    report = load_weights(BiSeNetV2(5, aux=False), path)
    assert [name for name, *_ in report.different] == ["head.classify.weight", "head.classify.bias"] and not report.missing


@torch.no_grad()
def test_branches():
    """An eighth; and in a block the input is added, through a depthwise convolution where it shrinks."""
    torch.manual_seed(0)
    guide = Guide(4).eval()
    assert guide(torch.randn(1, 4, 8, 12), torch.randn(1, 4, 2, 3)).shape == (1, 4, 8, 12)
    assert GatherExpand(4, 6, 2).eval()(torch.randn(1, 4, 8, 12)).shape == (1, 6, 4, 6)
    block, x = GatherExpand(4, 4, 1).eval(), torch.rand(1, 4, 3, 5)
    torch.nn.init.zeros_(block.narrow.norm.weight)
    assert torch.equal(block(x), x)


def test_helpers_rest_in_prediction():
    """With targets all four are asked, without none; what is shown is their sum."""
    model, asked = BiSeNetV2(3).eval(), []
    for head in model.aux:
        head.register_forward_hook(lambda *_: asked.append(1))
    images, target = torch.rand(1, 3, 32, 64), {"mask": torch.zeros(32, 64, dtype=torch.int64)}
    with torch.no_grad():
        model(images)
        assert not asked
        losses = model(images, [target])[1]
    assert len(asked) == 4 and set(losses) == {"cross_entropy", "aux_cross_entropy"}
    assert set(BiSeNetV2(3, aux=False).eval()(images, [target])[1]) == {"cross_entropy"}
