"""RT-DETR gives the authors' numbers; deformable attention and denoising, in slow words and with given random numbers.

tests/data/rtdetr.npz: lyuwenyu/RT-DETR 068dfde, rtdetrv2_pytorch S with 80 classes and 100 queries, in float64 and eval mode, for
image(11, 64, 512) and image(12, 64, 512), normalised: a part of what its last layer says with positions row by row, the tokens that it chose,
with its own positions the losses (denoising off) and the gradients' norms; and its denoising queries for given random numbers. The weights
are fill() by its names.
"""
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from recipe import fill, image

from nets import rtdetr
from nets.backbones.resnet_vd import ResNetVD
from nets.layers import IMAGENET_MEAN, IMAGENET_STD
from nets.rtdetr import HEADS, LEVELS, POINTS, REACH, RTDETR, Deformable, denoising, first_boxes, inverse_sigmoid
from utils.errors import NoWeights, UserError
from utils.weights import load_weights, our_name

DATA = Path(__file__).parents[1] / "data" / "rtdetr.npz"
BOXES = ([[3, 40, 30, 168, 190], [17, 100, 80, 190.5, 150.25], [3, 236, 20, 244, 26], [19, 20, 204, 44, 220], [11, 180, 120, 310, 250]],
         [[0, 0, 0, 320, 256], [17, 60.5, 60.25, 100.75, 130.5], [5, 70, 64, 110, 120]])
FACTORS = ((r"(enc_score_head|dec_score_head\.\d+)\.weight$", 0.6), (r"bbox_head\.(\d+\.)?layers\.2\.weight$", 0.3),
           (r"sampling_offsets\.weight$", 0.5), (r"branch2[bc]\.norm\.weight$", 0.6))
SCORES = r"decoder\.(enc_score_head|dec_score_head\.\d+)\.bias"
# ours -> theirs, one after the other; query, key and value are put together below
NAMES = [
    (r"^backbone\.stem\.(\d)\.", lambda found: f"backbone.conv1.conv1_{int(found[1]) + 1}."),
    (r"^backbone\.stages\.(\d)\.(\d)\.convs\.(\d)\.",
     lambda found: f"backbone.res_layers.{found[1]}.blocks.{found[2]}.branch2{'abc'[int(found[3])]}."),
    (r"^backbone\.stages\.0\.(\d)\.short\.", r"backbone.res_layers.0.blocks.\1.short."),
    (r"^backbone\.stages\.(\d)\.(\d)\.short\.", r"backbone.res_layers.\1.blocks.\2.short.conv."),
    (r"^encoder\.project\.", "encoder.input_proj."), (r"^encoder\.attention\.attention\.", "encoder.encoder.0.layers.0.self_attn."),
    (r"^encoder\.attention\.", "encoder.encoder.0.layers.0."),
    (r"^encoder\.lateral(\d)\.0\.", lambda found: f"encoder.lateral_convs.{5 - int(found[1])}."),
    (r"\.blocks\.(\d)\.conv1\.(conv|norm)\.", r".bottlenecks.\1.conv2.\2."), (r"\.blocks\.(\d)\.conv3\.", r".bottlenecks.\1.conv1."),
    (r"\.deep\.0\.", ".conv1."), (r"\.flat\.0\.", ".conv2."), (r"\.merge\.0\.", ".conv3."),
    (r"^encoder\.down(\d)\.", lambda found: f"encoder.fpn_blocks.{4 - int(found[1])}."),
    (r"^encoder\.shrink(\d)\.0\.", lambda found: f"encoder.downsample_convs.{int(found[1]) - 3}."),
    (r"^encoder\.up(\d)\.", lambda found: f"encoder.pan_blocks.{int(found[1]) - 4}."),
    (r"^project\.", "decoder.input_proj."), (r"^select_features\.0\.", "decoder.enc_output.proj."),
    (r"^select_features\.1\.", "decoder.enc_output.norm."),
    (r"^select_class\.", "decoder.enc_score_head."), (r"^select_box\.(\d)\.", lambda found: f"decoder.enc_bbox_head.layers.{int(found[1]) // 2}."),
    (r"^place\.(\d)\.", lambda found: f"decoder.query_pos_head.layers.{int(found[1]) // 2}."), (r"^noisy_class\.", "decoder.denoising_class_embed."),
    (r"^class_heads\.", "decoder.dec_score_head."),
    (r"^box_heads\.(\d)\.(\d)\.", lambda found: f"decoder.dec_bbox_head.{found[1]}.layers.{int(found[2]) // 2}."),
    (r"^decoder\.(\d)\.among\.", r"decoder.decoder.layers.\1.self_attn."),
    (r"^decoder\.(\d)\.attention\.out\.", r"decoder.decoder.layers.\1.cross_attn.output_proj."),
    (r"^decoder\.(\d)\.attention\.", r"decoder.decoder.layers.\1.cross_attn."), (r"^decoder\.(\d)\.", r"decoder.decoder.layers.\1."),
    (r"self_attn\.out\.", "self_attn.out_proj."), (r"cross_attn\.offsets\.", "cross_attn.sampling_offsets."),
    (r"cross_attn\.shares\.", "cross_attn.attention_weights."), (r"cross_attn\.value\.", "cross_attn.value_proj."),
    (r"\.mlp\.widen\.", ".linear1."), (r"\.mlp\.narrow\.", ".linear2."),
]


def published():
    """The authors' tensors, by their names."""
    tensors = {}
    for name, tensor in RTDETR(80).state_dict().items():
        name = our_name(name, NAMES)
        found = re.search(r"self_attn\.(query|key|value)\.(weight|bias)$", name)
        if found:
            name, tensor = name.replace(found[0], f"self_attn.in_proj_{found[2]}"), torch.cat([tensor] * 3)
        tensors[name] = tensor
    filled = fill(tensors, factors=FACTORS)
    return {name: tensor - 3 if re.fullmatch(SCORES, name) else tensor for name, tensor in filled.items()}


def targets():
    found = [torch.tensor(rows, dtype=torch.float64) for rows in BOXES]
    return [{"boxes": rows[:, 1:] * torch.tensor([1.6, 0.25, 1.6, 0.25]), "labels": rows[:, 0].long()} for rows in found]


@pytest.mark.slow
def test_equal_to_the_authors_network(tmp_path, monkeypatch):
    """Their file is read by name; in float64 the answers are 1.5e-4 away, for positions and other constants are float32 there."""
    expected = np.load(DATA)
    torch.save({"ema": {"module": published()}, "last_epoch": 119}, tmp_path / "rtdetr.pth")
    model = RTDETR(80, queries=100)
    report = load_weights(model, tmp_path / "rtdetr.pth")
    assert report.backbone == 1.0 and not (report.different or report.missing or report.unused)
    model.double().eval()
    mean, deviation = (np.float32(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    images = torch.from_numpy((np.stack([image(seed, 64, 512) for seed in (11, 12)]) - mean) / deviation).double()

    # The answers in the order in which the tokens were chosen: nearly equal ones may change places.
    chosen = []
    first_answers = model.select_class.register_forward_hook(lambda *call: chosen.append(call[2].amax(-1).topk(100, dim=1).indices))
    with torch.no_grad():
        outputs = model(images)[0]
    assert (chosen[0].numpy() == expected["chosen"]).all()
    for name, step, key in (("logits", 39, "logits"), ("boxes", 3, "boxes_last")):
        values = outputs[name][-1].flatten()[::step].numpy()
        assert values.shape == expected[key].shape and np.abs(values - expected[key]).max() < 3e-4

    # Losses and gradients with their positions, column by column.
    first_answers.remove()
    rows_first = rtdetr.positions_of
    monkeypatch.setattr(rtdetr, "positions_of", lambda cells: rows_first(cells.transpose(1, 2)))
    losses = model(images, targets())[1]
    for name in ("class", "box", "giou"):
        assert losses[name].item() == pytest.approx(float(expected[f"loss_{name}"]), rel=2e-6)
    sum(losses.values()).backward()
    norms = {}
    for name, parameter in model.named_parameters():
        name = re.sub(r"self_attn\.(query|key|value)\.(weight|bias)$", r"self_attn.in_proj_\2", our_name(name, NAMES))
        norms[name] = norms.get(name, 0.0) + float(parameter.grad.norm()) ** 2
    found, theirs = np.sort(np.sqrt(list(norms.values()))), np.sort(expected["gradnorm"].clip(min=0))
    assert np.allclose(found, theirs, rtol=1e-4, atol=1e-6)


def test_parameters():
    with torch.device("meta"):
        counts = {size: sum(p.numel() for p in RTDETR(80, size=size).parameters()) for size in rtdetr.SIZES}
        fewer = sum(p.numel() for p in RTDETR(20).parameters())
    assert counts == {"s": 20_184_464, "m": 31_441_668, "m50": 36_647_020, "l": 42_944_620} and fewer == 20_107_424


@torch.no_grad()
def test_deformable_attention_in_slow_words():
    """For every query, head, map and point: go there, mix the four cells around it, add what it counts."""
    torch.manual_seed(0)
    layer, sizes = Deformable(), [(4, 6), (2, 3), (1, 2)]
    layer.offsets.weight.normal_(0, 0.05), layer.shares.weight.normal_(0, 0.1)
    tokens, asks = torch.randn(1, 32, 256), torch.randn(1, 3, 256)
    boxes = torch.tensor([[[0.5, 0.5, 0.4, 0.6], [0.1, 0.9, 0.3, 0.3], [0.8, 0.2, 0.1, 0.5]]])
    offsets = layer.offsets(asks)[0].view(3, HEADS, LEVELS, POINTS, 2)
    shares = layer.shares(asks)[0].view(3, HEADS, LEVELS * POINTS).softmax(-1).view(3, HEADS, LEVELS, POINTS)
    values, first, expected = layer.value(tokens)[0].view(32, HEADS, 32), 0, torch.zeros(3, HEADS, 32)
    for level, (h, w) in enumerate(sizes):
        cells = values[first:first + h * w].view(h, w, HEADS, 32)
        first += h * w
        for query, head, point in np.ndindex(3, HEADS, POINTS):
            x, y = boxes[0, query, :2] + offsets[query, head, level, point] / POINTS * boxes[0, query, 2:] * REACH
            x, y = float(x) * w - 0.5, float(y) * h - 0.5
            left, top = int(np.floor(x)), int(np.floor(y))
            for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
                if 0 <= column < w and 0 <= row < h:
                    near = (1 - abs(x - column)) * (1 - abs(y - row))
                    expected[query, head] += shares[query, head, level, point] * near * cells[row, column, head]
    assert (layer(asks, boxes, tokens, sizes)[0] - layer.out(expected.flatten(1))).abs().max() < 1e-4


def test_at_first_every_head_looks_elsewhere():
    """Eight directions, one to four steps far."""
    places = Deformable().offsets.bias.view(HEADS, LEVELS, POINTS, 2)
    assert torch.allclose(places[0, 1], torch.tensor([[1.0, 0], [2, 0], [3, 0], [4, 0]]), atol=1e-6)
    assert torch.allclose(places[1, 0, 1], torch.tensor([2.0, 2.0]), atol=1e-5) and torch.allclose(places[4], -places[0], atol=1e-5)


def test_denoising_is_theirs(monkeypatch):
    """With the same random numbers: classes, boxes, who may listen to whom, which queries have to become an object."""
    expected = np.load(DATA)
    shape = (2, 4, 2, 5)
    monkeypatch.setattr(rtdetr, "DENOISING", 20)
    draw = {name: torch.from_numpy(expected[name]) for name in ("swap", "other", "sign", "far")}
    rands = iter([draw["swap"].view(shape), draw["far"].view(*shape, 4)])
    monkeypatch.setattr(torch, "rand", lambda *_, **__: next(rands).clone())
    monkeypatch.setattr(torch, "randint_like", lambda *_: draw["other"].view(shape).long())
    monkeypatch.setattr(torch, "randint", lambda *_, **__: draw["sign"].view(*shape, 4).long())
    rows = [torch.tensor(one) for one in BOXES]
    objects = torch.cat(rows)
    corners = objects[:, 1:] / torch.tensor([320.0, 256, 320, 256])
    boxes = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
    found = denoising(boxes, objects[:, 0].long(), [5, 3], 80, 100)
    assert found["labels"].tolist() == expected["classes"].tolist() and found["groups"] == 4
    assert np.abs(found["boxes"].numpy() - expected["boxes"]).max() < 1e-6
    assert (found["allowed"].numpy() == ~expected["attn_mask"]).all()
    picture, query, truth = found["places"]
    assert [query[picture == index].tolist() for index in (0, 1)] == [expected[f"positive{index}"].tolist() for index in (0, 1)]
    assert truth[picture == 0].tolist() == list(range(5)) * 4 and truth[picture == 1].tolist() == [5, 6, 7] * 4


def test_real_queries_do_not_see_the_noise():
    """What the network says of a picture does not depend on the truths that are put in beside it."""
    torch.manual_seed(0)
    model = RTDETR(3, queries=20, size="s")
    model.backbone = ResNetVD((1, 1, 1, 1), True, widths=(8, 16, 32, 64))
    model.encoder = rtdetr.HybridEncoder((16, 32, 64), 0.5)
    model.train()
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eval()
    images, target = torch.rand(2, 3, 64, 96), {"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.tensor([1])}
    with torch.no_grad():
        with_noise, without = model(images, [target, target])[0], model(images, [{key: value[:0] for key, value in target.items()}] * 2)[0]
    assert with_noise["noise"]["groups"] == 100 and "noise" not in without
    assert torch.allclose(with_noise["logits"], without["logits"], atol=1e-4) and torch.allclose(with_noise["boxes"], without["boxes"], atol=1e-5)


def test_first_boxes():
    """A cell's centre and a side that doubles; what would be too near the edge is no query."""
    anchors, real = first_boxes([(2, 4), (1, 2), (1, 1)], torch.device("cpu"))
    assert torch.allclose(anchors.sigmoid()[[0, 9, 10]], torch.tensor([[0.125, 0.25, 0.05, 0.05], [0.75, 0.5, 0.1, 0.1], [0.5, 0.5, 0.2, 0.2]]))
    assert real.all() and not first_boxes([(64, 2), (1, 1), (1, 1)], torch.device("cpu"))[1][0]
    assert torch.allclose(inverse_sigmoid(torch.tensor([0.25, 0.0, 1.0])).sigmoid(), torch.tensor([0.25, 1e-5, 1 - 1e-5]))


def test_wrong_requests():
    with pytest.raises(UserError, match='no size "n".*It has s, m'):
        RTDETR(3, size="n")
    with pytest.raises(NoWeights, match="lyuwenyu/storage"):
        RTDETR(3, pretrained="coco")
    with pytest.raises(UserError, match='Did you mean "frozen"'):
        RTDETR(3, norm="frosen")
