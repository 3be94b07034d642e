"""HRNet, also with OCR, gives the authors' numbers, and their files load.

tests/data/hrnet.npz: outputs of the authors' HRNet-Semantic-Segmentation (commit 0bbb288, seg_hrnet and seg_hrnet_ocr, W18, 19 classes,
align_corners False) in float64 and eval mode, for as_reference(): every 11th value of what sub() keeps, and the losses. The weights are fill()
by the authors' names.
"""
import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from recipe import as_reference, fill, sub

import nets
from nets.backbones.hrnet import HRNet, hrnet
from nets.hrnet import HRNetSegmenter, ObjectContext
from utils.errors import UserError
from utils.weights import load_weights

DATA = Path(__file__).parents[1] / "data"
FACTORS = [(r"(stage\d.*\.branches.*bn2|layer1.*bn3)\.weight$", 0.4), (r"fuse_layers.*\.1\.weight$", 0.4)]
COUNTS = {("w18", False): 9_641_661, ("w32", False): 29_547_477, ("w48", False): 65_860_821,
          ("w18", True): 12_082_386, ("w32", True): 32_955_882, ("w48", True): 70_375_146}
NAMES = {False: {"head.": "last_layer."},
         True: {"aux.": "aux_head.", "head.features.": "conv3x3_ocr.", "head.join.": "ocr_distri_head.conv_bn_dropout.",
                "head.context.query.": "ocr_distri_head.object_context_block.f_pixel.",
                "head.context.key.": "ocr_distri_head.object_context_block.f_object.",
                "head.context.value.": "ocr_distri_head.object_context_block.f_down.",
                "head.context.out.": "ocr_distri_head.object_context_block.f_up.", "head.classify.": "cls_head."}}


def authors(name, ocr):
    """Our name of a tensor -> the authors'."""
    for ours, theirs in ({"backbone.": ""} | NAMES[ocr]).items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise ValueError(name)


@functools.cache
def published(ocr):
    """W18's tensors by the authors' names."""
    with torch.device("meta"):
        empty = HRNetSegmenter(19, ocr=ocr).state_dict()
    ours = fill({name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in empty.items()},
                rename=lambda name: authors(name, ocr), factors=FACTORS)
    return {authors(name, ocr): tensor for name, tensor in ours.items()}


@pytest.mark.parametrize("size, ocr", [case if case == ("w32", True) else pytest.param(*case, marks=pytest.mark.slow) for case in COUNTS])
def test_parameters(size, ocr):
    with torch.device("meta"):
        assert sum(p.numel() for p in HRNetSegmenter(21, size=size, ocr=ocr).parameters()) == COUNTS[size, ocr]


@pytest.mark.parametrize("ocr", [pytest.param(False, marks=pytest.mark.slow), True])
def test_equal_to_the_authors(ocr, tmp_path):
    """Their file loads by name; in float64 logits and losses are theirs. Measured: 8.1e-7 of a deviation of 4.3, the rounding of the file."""
    torch.save({f"model.{name}": tensor for name, tensor in published(ocr).items()}, tmp_path / "hrnet 权重.pth")
    model = HRNetSegmenter(19, ocr=ocr)
    report = load_weights(model, tmp_path / "hrnet 权重.pth")
    assert report.backbone == 1.0 and not (report.different or report.missing or report.unused)
    found, losses = as_reference(model, 96, 128, 19, logits=model.head, **({"aux": model.aux} if ocr else {}))
    expected = np.load(DATA / "hrnet.npz")
    for name, tensor in found.items():
        stored = expected[f"{name}_ocr" if ocr else name]
        values = sub(tensor, 5837)[0][::11]
        assert values.shape == stored.shape and stored.std() > 3 and np.abs(values - stored).max() < 2e-6
    assert float(sum(losses.values())) == pytest.approx(float(expected["loss_ocr" if ocr else "loss"]), rel=1e-6)
    assert set(losses) == ({"cross_entropy", "aux_cross_entropy"} if ocr else {"cross_entropy"})


@pytest.mark.slow
def test_imagenet_files(tmp_path):
    """A classifier's file: its neck is not used; also into a network with OCR."""
    body = {name: tensor for name, tensor in published(False).items() if not name.startswith("last_layer.")}
    rest = {"incre_modules.0.0.conv1.weight": torch.zeros(32, 18, 1, 1), "classifier.bias": torch.zeros(1000)}
    torch.save(body | rest, tmp_path / "hrnetv2_w18.pth")
    report = load_weights(HRNetSegmenter(3, ocr=True), tmp_path / "hrnetv2_w18.pth")
    assert report.backbone == 1.0 and not report.different and {name.split(".")[0] for name in report.missing} == {"aux", "head"}
    assert set(report.unused) == set(rest)


@pytest.mark.slow
def test_cityscapes_file_at_once_and_for_other_classes(tmp_path):
    with torch.device("meta"):
        shapes = {re.sub(r"^head\.", "last_layer.", name.removeprefix("backbone.")): torch.zeros(tensor.shape, device="cpu")
                  for name, tensor in HRNetSegmenter(19, size="w48").state_dict().items()}
    torch.save({f"model.{name}": tensor for name, tensor in shapes.items()}, tmp_path / "hrnet_cs_8090.pth")
    model, info = nets.load(tmp_path / "hrnet_cs_8090.pth", net="hrnet")
    assert info["class_names"][13] == "car" and info["options"] == {"size": "w48"} and model.backbone.channels == (48, 96, 192, 384)
    report = load_weights(HRNetSegmenter(5, size="w48"), tmp_path / "hrnet_cs_8090.pth")
    assert [name for name, *_ in report.different] == ["head.3.weight", "head.3.bias"] and not report.missing


@pytest.mark.parametrize("shape", [(64, 96), (33, 45)])
@torch.no_grad()
def test_the_finest_map_stays(shape, monkeypatch):
    """Four maps, each half as high as the one before, rounded up; every one hears of every other."""
    monkeypatch.setattr("nets.backbones.hrnet.BLOCKS", 1)
    monkeypatch.setattr("nets.backbones.hrnet.MODULES", (1, 1, 1))
    maps = HRNet(8).eval()(torch.rand(1, 3, *shape))
    assert [x.shape[1] for x in maps] == [8, 16, 32, 64]
    for x, side in zip(maps, (4, 8, 16, 32)):
        assert x.shape[2:] == (-(-shape[0] // side), -(-shape[1] // side))


@torch.no_grad()
def test_a_region_is_the_mean_of_its_pixels():
    """Where the guess is sure, every pixel counts for one class alone; in turn, all pixels then hear the same of the same regions."""
    torch.manual_seed(0)
    context, heard = ObjectContext().eval(), []
    context.key.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    features, guess = torch.randn(1, 512, 2, 3), torch.full((1, 2, 2, 3), -100.0)
    guess[:, 0, :, :2], guess[:, 1, :, 2:] = 100.0, 100.0
    context(features, guess)
    means = torch.stack([features[..., :2].mean((2, 3)), features[..., 2:].mean((2, 3))], 2)[..., None]
    assert heard[0].shape == (1, 512, 2, 1) and torch.allclose(heard[0], means, atol=1e-5)


def test_wrong_requests():
    with pytest.raises(UserError, match='no HRNet "w19".*Known: w18, w32, w48'):
        hrnet("w19")
