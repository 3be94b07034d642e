"""YOLO11 is the published network: parameters, names, outputs; attention is the textbook's sum; what it takes from YOLOv8 is tested there.

tests/data/yolo_modern/yolo11n.npz: outputs of the published network (version 8.4.190, size n, 80 classes) in float64 and eval mode, for
image(3, 96, 128) and image(4, 96, 128): every 7th value of what sub() keeps. The weights are fill() by its names.
"""
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from recipe import fill, image

import nets
from nets.yolo11 import Attention
from utils.boxes import xyxy_to_cxcywh
from utils.errors import NoWeights, UserError
from utils.weights import load_weights

DATA = Path(__file__).parents[1] / "data" / "yolo_modern" / "yolo11n.npz"
PARAMETERS = {"n": 2_624_080, "s": 9_458_752, "m": 20_114_688, "l": 25_372_160, "x": 56_966_176}
FACTORS = ((r"^model\.0\.conv\.weight$", 4.0), (r"\.conv\.weight$", 1.16), (r"cv3\.\d\.2\.weight$", 0.9))
LAYERS = {"down4": 13, "down3": 16, "shrink3": 17, "up4": 19, "shrink4": 20, "up5": 22}
WORDS = ((r"^side_heads", "model.23.cv2"), (r"^class_heads", "model.23.cv3"), (r"^mean", "model.23.dfl.conv"), (r"^backbone\.stem", "model.0"),
         (r"^backbone\.stage(\d)\.(\d)", lambda found: f"model.{2 * int(found[1]) - 3 + int(found[2])}"),
         (r"^neck\.(\w+)", lambda found: f"model.{LAYERS[found[1]]}"), (r"\.split\.", ".cv1."), (r"\.merge\.", ".cv2."), (r"\.blocks\.", ".m."),
         (r"\.conv(\d)\.", r".cv\1."), (r"\.attention\.", ".attn."), (r"\.place\.", ".pe."), (r"\.norm\.", ".bn."))


def theirs(name):
    """Our name -> that of the converted file."""
    for pattern, words in WORDS:
        name = re.sub(pattern, words, name)
    return name


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file as the conversion makes it, with the reference's random weights."""
    state = {theirs(name): tensor for name, tensor in fill(nets.build("yolo11", 80).state_dict(), rename=theirs, factors=FACTORS).items()}
    for level in range(3):
        state[f"model.23.cv2.{level}.2.bias"] -= 0.3 * (torch.arange(64) % 16)
        state[f"model.23.cv3.{level}.2.bias"] -= 5
    state["model.23.dfl.conv.weight"] = torch.arange(16.0).view(1, 16, 1, 1)
    path = tmp_path_factory.mktemp("converted") / "yolo11n 权重.pth"
    torch.save(state, path)
    return path


@pytest.mark.parametrize("size", PARAMETERS)
def test_parameters(size):
    with torch.device("meta"):                              # no memory, no random numbers
        assert sum(p.numel() for p in nets.build("yolo11", 80, size=size).parameters()) == PARAMETERS[size]


def test_equal_to_the_published_network(path):
    """Its converted file is read by name, whole, in its order; then heads, boxes and scores are its own."""
    model = nets.build("yolo11", 80, (96, 128)).eval()
    report = load_weights(model, path)
    assert report.backbone == 1.0 and not report.missing and not report.different and not report.unused
    pairs = zip(torch.load(path, weights_only=True).values(), model.state_dict().values(), strict=True)
    assert all(a.shape == b.shape for a, b in pairs)

    with torch.no_grad():
        outputs, _ = model(torch.from_numpy(np.stack([image(3, 96, 128), image(4, 96, 128)])))
        boxes, scores = model.decode(outputs)
    found = {"boxes": torch.cat([x.flatten(2) for x in outputs["sides"]], 2), "scores": torch.cat([x.flatten(2) for x in outputs["classes"]], 2),
             "decoded": torch.cat([xyxy_to_cxcywh(boxes), scores], 2).transpose(1, 2)}
    stored = np.load(DATA)
    for name, bar in (("boxes", 1e-3), ("scores", 1.2e-3), ("decoded", 0.05)):              # measured 7.4e-5, 8.1e-5, 2.9e-3 px
        step, values = stored[f"{name}_step"], stored[name]
        assert values.std() > 0.5 and np.abs(found[name].contiguous().flatten()[::step][::7].numpy() - values).max() < bar


def test_attention_is_the_textbooks_sum():
    """Cell by cell and head by head: the shares of all cells, by the exponential of a scaled product; and the 3x3 of the values."""
    torch.manual_seed(0)
    layer = Attention(128).eval()
    x = torch.randn(1, 128, 2, 3)
    with torch.no_grad():
        qkv, found = layer.qkv(x)[0].flatten(1), layer(x)
        taken, values = torch.zeros(128, 6), torch.zeros(128, 6)
        for head in range(2):
            q, k, v = qkv[head * 128:head * 128 + 32], qkv[head * 128 + 32:head * 128 + 64], qkv[head * 128 + 64:head * 128 + 128]
            values[head * 64:head * 64 + 64] = v
            for cell in range(6):
                shares = torch.stack([(q[:, cell] @ k[:, other] / 32**0.5).exp() for other in range(6)])
                taken[head * 64:head * 64 + 64, cell] = (v * shares / shares.sum()).sum(1)
        expected = layer.proj(taken.view(1, 128, 2, 3) + layer.place(values.view(1, 128, 2, 3)))
    assert torch.allclose(found, expected, atol=1e-5)


def test_it_begins_like_yolov8():
    """The first boxes are 32, 64 and 128 px wide, and few cells claim an object."""
    model = nets.build("yolo11", 3, (64, 64)).eval()
    for head in model.side_heads:
        torch.nn.init.zeros_(head[-1].weight)
    with torch.no_grad():
        boxes, scores = model.decode(model(torch.rand(1, 3, 64, 64))[0])
    sides = (boxes[0, :, 2] - boxes[0, :, 0]) / torch.tensor([8.0] * 64 + [16.0] * 16 + [32.0] * 4)
    assert torch.allclose(sides, sides[:1].expand(84), atol=1e-4) and 3.5 < float(sides[0]) < 4.5 and float(scores.mean()) < 0.05


@pytest.mark.parametrize("options, words", [({"size": "xs"}, "no size"), ({"pretrained": True}, "convert them")])
def test_mistakes(options, words):
    with pytest.raises((UserError, NoWeights), match=words):
        nets.build("yolo11", 3, **options)
