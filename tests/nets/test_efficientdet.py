"""EfficientDet gives effdet's numbers: both heads on every level, anchors, assignment, losses, gradients; its files load.

tests/data/efficientdet.npz: effdet 0.4.1, tf_efficientdet_d0 with 90 classes, in float64 and eval mode, for image(11, 128, 256) and
image(12, 128, 256), normalised: a part of the answers of each level, of the anchors, the positives, the gradients' norms and the losses.
The weights are fill() by its names.
"""
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from recipe import difference, fill, image

import nets
from nets.backbones import efficientnet as backbones
from nets.backbones.efficientnet import SCALES, efficientnet
from nets.efficientdet import NODES, EfficientDet, make_anchors
from utils.errors import NoWeights, UserError
from utils.weights import load_weights, our_name

DATA = Path(__file__).parents[1] / "data" / "efficientdet.npz"
SHAPES = [(16, 32), (8, 16), (4, 8), (2, 4), (1, 2)]
FACTORS = ((r"class_net\.predict\.conv_pw\.weight$", 0.2), (r"box_net\.predict\.conv_pw\.weight$", 0.08),
           (r"^(fpn|class_net|box_net)\..*conv_dw\.weight$", 10), (r"_net\.conv_rep\..*conv_pw\.weight$", 0.1),
           (r"\.(conv_dw|conv_pw|conv_pwl|conv_stem|conv)\.weight$", 1.25))
BOXES = ([[3, 40, 30, 168, 190], [17, 100, 80, 190.5, 150.25], [3, 236, 20, 244, 26], [19, 20, 204, 44, 220], [11, 180, 120, 310, 250]],
         [[0, 0, 0, 320, 256], [17, 60.5, 60.25, 100.75, 130.5], [5, 70, 64, 110, 120]])
# in the first cell of the pyramid: which map of the backbone a node projects
PROJECTED = {"td5": 2, "td4": 1, "out3": 0, "out4": 1, "out5": 2}


def theirs(name):
    """Our name -> effdet's."""
    name = re.sub(r"^p6\.0\.", "fpn.resample.3.conv.conv.", re.sub(r"^p6\.1\.", "fpn.resample.3.conv.bn.", name))
    name = re.sub(r"\.norms\.(\d)\.(\d)\.", r".bn_rep.\1.\2.bn.", name.replace(".convs.", ".conv_rep."))
    if name.startswith("neck."):
        _, cell, node, rest = name.split(".", 3)
        rest = re.sub(r"^weights$", "combine.edge_weights", re.sub(r"^conv\.", "after_combine.conv.", rest))
        rest = re.sub(r"^norm\.", "after_combine.conv.bn.", rest)
        rest = re.sub(r"^project\.0\.", f"combine.resample.{PROJECTED.get(node)}.conv.conv.", rest)
        rest = re.sub(r"^project\.1\.", f"combine.resample.{PROJECTED.get(node)}.conv.bn.", rest)
        return f"fpn.cell.{cell}.fnode.{NODES.index(node)}.{rest}"
    return re.sub(r"^(class|box)_head\.", r"\1_net.", name)


def published():
    """effdet's tensors, by its names."""
    tensors = fill(EfficientDet(90).state_dict(), rename=theirs, factors=FACTORS)
    tensors["class_head.predict.conv_pw.bias"] -= 4
    return {theirs(name): tensor for name, tensor in tensors.items()}


def targets():
    return [{"boxes": torch.tensor(rows)[:, 1:] / 2, "labels": torch.tensor(rows)[:, 0].long()} for rows in BOXES]


def encode_as_there(boxes, anchors):
    """utils.boxes.encode with the centre as x1 + width / 2: the last bit decides which deltas are exactly 0, and those have no loss."""
    sizes, true_sizes = anchors[:, 2:] - anchors[:, :2], boxes[:, 2:] - boxes[:, :2]
    centres, true_centres = anchors[:, :2] + sizes / 2, boxes[:, :2] + true_sizes / 2
    return torch.cat([(true_centres - centres) / sizes, (true_sizes / sizes).log()], 1)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("efficientdet") / "权重.pth"
    torch.save(published(), path)
    return path


def test_parameters():
    """As in effdet; per class nine times the width of the head and one."""
    with torch.device("meta"):
        counts = {size: sum(p.numel() for p in EfficientDet(90, size=size).parameters()) for size in ("d0", "d1", "d4", "d7")}
        plain = sum(p.numel() for p in EfficientDet(90, flavour="plain").parameters())
        fewer = sum(p.numel() for p in EfficientDet(20).parameters())
    assert counts == {"d0": 3_880_067, "d1": 6_625_898, "d4": 20_723_675, "d7": 51_871_782}
    assert plain == 3_877_763 and fewer == 3_839_117


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)])
def test_equal_to_effdet(dtype, path, monkeypatch):
    """Its file is read by name; then answers, anchors, positives, losses and gradients are its own, in float64 as closely as the file says."""
    expected, exact = np.load(DATA), dtype == torch.float64
    model = EfficientDet(90)
    report = load_weights(model, path)
    assert report.backbone == 1.0 and not (report.different or report.missing or report.unused)
    model.to(dtype).eval()
    monkeypatch.setattr("nets.efficientdet.encode", encode_as_there)
    images = torch.from_numpy(np.stack([image(seed, 128, 256) for seed in (11, 12)])).to(dtype)
    outputs, losses = model(images, targets())

    # The answers of each level; its own float32 is up to 2.3e-4 away, and the picture was normalised in
    # float32. The box head says y first.
    ends = np.cumsum([h * w * 9 for h, w in SHAPES])
    for name, key, numbers in (("class", "logits", 90), ("box", "deltas", 4)):
        values = outputs[key][..., [1, 0, 3, 2]] if name == "box" else outputs[key]
        for level, (part, (h, w)) in enumerate(zip(values.split([ends[0], *np.diff(ends)], 1), SHAPES)):
            answer = expected[f"{name}{level}"]
            maps = part.reshape(2, h, w, 9 * numbers).permute(0, 3, 1, 2).flatten()[::int(expected[f"{name}{level}_step"])]
            assert np.abs(maps.detach().numpy() - answer).max() < (5e-5 if exact else 1e-3)

    # Anchors bit for bit, therefore also which of several equally good ones a small object gets.
    assert (outputs["anchors"].numpy()[::37][:, [1, 0, 3, 2]] == expected["anchors"]).all()
    for index, target in enumerate(targets()):
        matched = model.assign(outputs["anchors"], target["boxes"])
        (positive,) = (matched >= 0).nonzero(as_tuple=True)
        assert positive.tolist() == expected[f"positives{index}"].tolist()
        assert target["labels"][matched[positive]].tolist() == expected[f"labels{index}"].tolist()

    # Losses, and the gradient of every tensor.
    assert losses["class"].item() == pytest.approx(float(expected["loss_class"]), rel=1e-5 if exact else 1e-4)
    assert losses["box"].item() == pytest.approx(50 * float(expected["loss_box"]), rel=1e-5 if exact else 1e-4)
    if exact:
        sum(losses.values()).backward()
        norms = np.array([float(p.grad.norm()) for p in model.parameters()])
        assert np.allclose(np.sort(norms), np.sort(expected["gradnorm"]), rtol=1e-4, atol=1e-6)


def test_official_file_at_once_and_for_other_classes(path):
    model, info = nets.load(path, net="efficientdet")
    assert info["class_names"][0] == "person" and len(info["class_names"]) == 90 and info["options"] == {"flavour": "tf"}
    report = load_weights(EfficientDet(5), path)
    assert [name for name, *_ in report.different] == ["class_head.predict.conv_pw.weight", "class_head.predict.conv_pw.bias"]


@torch.no_grad()
def test_backbone_is_torchvisions():
    """Flavour "plain": its ImageNet file is read by name, and its maps are the same."""
    network = torchvision.models.efficientnet_b0(weights=None).eval()
    fill(network)
    model = efficientnet("b0").eval()
    rules = backbones.EfficientNet.official_names
    own = model.state_dict()
    found = {our_name(name, rules): tensor for name, tensor in network.state_dict().items()}
    assert own.keys() <= found.keys() and all(name.startswith(("features.8.", "classifier.")) for name in found.keys() - own.keys())
    model.load_state_dict({name: found[name] for name in own})
    x, expected = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)), []
    images = x
    for index, stage in enumerate(network.features[:8]):
        x = stage(x)
        expected += [x] if index in (2, 3, 5, 7) else []
    for ours, other in zip(model(images), expected, strict=True):
        assert difference(ours, other) < 1e-5


def test_all_backbones_have_torchvisions_tensors():
    with torch.device("meta"):
        for name in ("b3", "b6"):
            network = getattr(torchvision.models, f"efficientnet_{name}")(weights=None)
            shapes = {our_name(key, backbones.EfficientNet.official_names): tensor.shape for key, tensor in network.state_dict().items()}
            own = efficientnet(name).state_dict()
            assert all(shapes[key] == tensor.shape for key, tensor in own.items()) and set(SCALES) == set(backbones.PRETRAINED)


def test_anchors():
    """Nine a cell around its centre: sizes 4, 5.04 and 6.35 strides, each square, low and high."""
    anchors = make_anchors([(2, 2), (1, 1), (1, 1), (1, 1), (1, 1)], 4)
    assert len(anchors) == 9 * 8 and anchors.dtype == torch.float32
    assert anchors[0].tolist() == [-12, -12, 20, 20] and anchors[9].tolist() == [-4, -12, 28, 20]
    wide = anchors[1]
    assert wide[2] - wide[0] == pytest.approx(2 * float(wide[3] - wide[1]))


def test_each_object_gets_an_anchor():
    """Also one that no anchor overlaps by half; two whose best anchor is the same share nothing: the first has it."""
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5.5], [50, 50, 60, 60]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [51, 51, 53, 53], [52, 52, 54, 54]])
    assert EfficientDet.assign(anchors, boxes).tolist() == [0, 0, 1]
    assert EfficientDet.assign(anchors, boxes[:0]).tolist() == [-1, -1, -1]


def test_wrong_requests():
    with pytest.raises(UserError, match='no size "d8".*It has d0'):
        EfficientDet(3, size="d8")
    with pytest.raises(UserError, match='flavour "plane".*Did you mean "plain"'):
        EfficientDet(3, flavour="plane")
    with pytest.raises(NoWeights, match='of the flavour "tf"'):
        EfficientDet(3, pretrained="coco", flavour="plain")
