"""DETR gives the authors' numbers; its attention is PyTorch's; the assignment is the cheapest there is.

tests/data/detr.npz: facebookresearch/detr 29901c5, ResNet-50 with 91 classes, in float64 and eval mode, for image(11, 128, 160) and
image(12, 128, 160), normalised, the second one black and masked beyond its upper left 96 x 128: a part of what the first and the last layer
of the decoder say, the assignment of the last one, the gradients' norms and the losses. The weights are fill() by its names.
"""
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from recipe import fill, image
from torch import nn

import nets
from nets.backbones.resnet import NORMS
from nets.detr import DETR, Attention, EncoderLayer, cheapest, pairs, sine_positions
from nets.layers import IMAGENET_MEAN, IMAGENET_STD
from utils.boxes import cxcywh_to_xyxy, generalized_iou
from utils.errors import NoWeights, UserError
from utils.weights import cut_apart, load_weights, our_name

DATA = Path(__file__).parents[1] / "data" / "detr.npz"
FACTORS = ((r"query_embed", 10), (r"bbox_embed\.layers\.2\.weight$", 0.5), (r"\.bn3\.weight$", 0.5))
# class x1 y1 x2 y2 of twice the size
BOXES = ([[3, 40, 30, 168, 190], [17, 100, 80, 190.5, 150.25], [3, 236, 20, 244, 26], [60, 20, 184, 44, 220], [79, 180, 120, 280, 210]],
         [[1, 0, 0, 256, 192], [17, 60.5, 60.25, 100.75, 130.5]])
FEW = {"queries": 20, "layers": 1, "backbone": "resnet18"}


def attention_of(name):
    return {f"{name}.in_proj_weight": (768, 256), f"{name}.in_proj_bias": (768,), f"{name}.out_proj.weight": (256, 256),
            f"{name}.out_proj.bias": (256,)}


def layer_of(name, *shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def published():
    """The authors' tensors, by their names and in their order."""
    shapes = {}
    for part, attentions in (("encoder", ("self_attn",)), ("decoder", ("self_attn", "multihead_attn"))):
        for index in range(6):
            name = f"transformer.{part}.layers.{index}"
            for attention in attentions:
                shapes |= attention_of(f"{name}.{attention}")
            shapes |= layer_of(f"{name}.linear1", 2048, 256) | layer_of(f"{name}.linear2", 256, 2048)
            for norm in range(len(attentions) + 1):
                shapes |= layer_of(f"{name}.norm{norm + 1}", 256)
    shapes |= layer_of("transformer.decoder.norm", 256) | layer_of("class_embed", 92, 256)
    for index, outputs in enumerate((256, 256, 4)):
        shapes |= layer_of(f"bbox_embed.layers.{index}", outputs, 256)
    shapes |= {"query_embed.weight": (100, 256)} | layer_of("input_proj", 256, 2048, 1, 1)
    body = nets.detr.resnet("resnet50", norm=NORMS["frozen"]).state_dict()
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()} | {f"backbone.0.body.{name}": tensor for name, tensor in body.items()}
    return fill(tensors, factors=FACTORS)


def targets():
    """In px of the whole input; the second picture is smaller than it, and its boxes are shares of the picture there."""
    found = []
    for rows, (h, w) in zip(BOXES, ((128, 160), (96, 128))):
        rows = torch.tensor(rows, dtype=torch.float64)
        whole, own = torch.tensor([160.0, 128, 160, 128]), torch.tensor([w, h, w, h])
        found.append({"boxes": rows[:, 1:] / 2 / own * whole, "labels": rows[:, 0].long()})
    return found


def test_parameters():
    with torch.device("meta"):
        counts = [sum(p.numel() for p in DETR(k, norm="frozen").parameters()) for k in (91, 80, 20)]
    assert counts == [41_524_768, 41_521_941, 41_506_521]


@pytest.mark.slow
def test_equal_to_the_authors_network():
    """In float64, with their mask of the padding. Measured: 2.4e-7, the rounding of the file; gradients 5e-8 relative."""
    expected, tensors = np.load(DATA), published()
    model = DETR(91, norm="frozen").double().eval()
    parts = cut_apart(tensors, DETR.official_parts)
    model.load_state_dict({our_name(name, DETR.official_names): tensor for name, tensor in parts.items()})
    mean, deviation = (np.float32(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    images = torch.from_numpy((np.stack([image(seed, 128, 160) for seed in (11, 12)]) - mean) / deviation).double()
    images[1, :, 96:], images[1, :, :, 128:] = 0, 0
    valid = torch.ones(2, 4, 5, dtype=torch.bool)
    valid[1, 3:], valid[1, :, 4:] = False, False
    known = torch.stack(model.transform(model.backbone(images)[3], valid))
    outputs = {"logits": model.class_head(known), "boxes": model.box_head(known).sigmoid(), "input_shape": (128, 160)}

    for layer in (0, 5):
        for name in ("logits", "boxes"):
            values = outputs[name][layer].detach().flatten()[::int(expected[f"{name}_step"])].numpy()
            assert np.abs(values - expected[f"{name}{layer}"]).max() < 2e-6
    losses = model.loss(outputs, targets())
    assert sum(losses.values()).item() == pytest.approx(float(expected["loss"]), rel=1e-6)
    last = model.loss({**outputs, "logits": outputs["logits"][-1:], "boxes": outputs["boxes"][-1:]}, targets())
    for name, weight in (("class", 1), ("box", 5), ("giou", 2)):
        assert last[name].item() == pytest.approx(weight * float(expected[f"loss_{name}"]), rel=1e-6)

    # The gradient of every tensor; query, key and value are one there.
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    norms = [sum(float(gradients[our_name(part, DETR.official_names)].norm()) ** 2 for part in cut_apart({name: tensor}, DETR.official_parts)) ** 0.5
             for name, tensor in tensors.items() if not re.search(r"\.bn\d\.|downsample\.1\.", name)]
    theirs = expected["gradnorm"]
    assert np.allclose(np.array(norms)[theirs >= 0], theirs[theirs >= 0], rtol=1e-5, atol=1e-9)      # some are 0 but for rounding


def test_official_files(tmp_path, monkeypatch):
    """Query, key and value are one tensor there, and class 0 is no class: each finds its place, with COCO's 90 names."""
    shapes = {"transformer.encoder.layers.0.self_attn.in_proj_weight": (768, 256), "class_embed.bias": (92,), "query_embed.weight": (100, 256)}
    tensors = {name: torch.arange(float(np.prod(shape))).view(shape) for name, shape in shapes.items()}
    torch.save({"model": tensors}, tmp_path / "detr.pth")
    with torch.device("meta"):
        model = DETR(90, norm="frozen")
    monkeypatch.setattr(model, "load_state_dict", lambda *_, **__: None)
    report = load_weights(model, tmp_path / "detr.pth", allow_partial=True)
    assert not (report.different or report.unused)
    assert set(report.loaded) == {*(f"encoder.0.attention.{part}.weight" for part in ("query", "key", "value")), "class_head.bias", "queries"}
    names = our_name("bbox_embed.layers.2.bias", DETR.official_names), our_name("transformer.decoder.layers.5.linear2.weight", DETR.official_names)
    assert names == ("box_head.4.bias", "decoder.5.mlp.narrow.weight")
    with pytest.raises(NoWeights, match="100 queries and 6 layers"):
        DETR(90, pretrained="coco", layers=3)
    with pytest.raises(UserError, match="at least one of each"):
        DETR(90, queries=0)


@torch.no_grad()
def test_attention_is_pytorchs():
    """nn.TransformerEncoderLayer with the same tensors, and a mask."""
    torch.manual_seed(0)
    ours = EncoderLayer(32, 4, 64).eval()
    theirs = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    state = ours.state_dict()
    renamed = {name: state[own] for own, name in (("mlp.widen.weight", "linear1.weight"), ("mlp.widen.bias", "linear1.bias"),
                                                  ("mlp.narrow.weight", "linear2.weight"), ("mlp.narrow.bias", "linear2.bias"))}
    renamed |= {f"self_attn.in_proj_{kind}": torch.cat([state[f"attention.{part}.{kind}"] for part in ("query", "key", "value")])
                for kind in ("weight", "bias")}
    renamed |= {f"self_attn.out_proj.{kind}": state[f"attention.out.{kind}"] for kind in ("weight", "bias")}
    renamed |= {name: tensor for name, tensor in state.items() if name.startswith("norm")}
    theirs.load_state_dict(renamed)
    x, valid = torch.randn(2, 7, 32), torch.tensor([[True] * 7, [True] * 5 + [False] * 2])
    found = ours(x, torch.zeros_like(x), valid[:, None, None])
    assert (found - theirs(x, src_key_padding_mask=~valid))[valid].abs().max() < 1e-5
    places = torch.randn_like(x)
    assert (Attention(32, 4).eval()(x + places, x, x).shape == x.shape) and not torch.allclose(ours(x, places), found)


def test_cheapest():
    """As cheap as the best of all that are tried; also with ties, infinite prices, and more rows than columns."""
    chance = np.random.default_rng(0)
    for _ in range(60):
        rows, columns = chance.integers(1, 6, 2)
        price = chance.normal(size=(rows, columns)).round(int(chance.integers(0, 3)))
        found = cheapest(price)
        count = int(min(rows, columns))
        assert len(found) == len({row for row, _ in found}) == len({column for _, column in found}) == count
        least = min(sum(price[list(some), list(order)]) for some in itertools.combinations(range(rows), count)
                    for order in itertools.permutations(range(columns), count))
        assert sum(price[row, column] for row, column in found) == pytest.approx(least, abs=1e-9)
    assert cheapest(np.array([[4.0, 1.0], [2.0, 1.5]])) == [(0, 1), (1, 0)] and cheapest(np.zeros((0, 3))) == []


def test_pairs_are_of_an_image_and_survive_nan():
    price = torch.tensor([[[[0.0, 9, 5], [9, 0, 5]], [[5.0, 5, 7], [5, 5, float("nan")]]]])          # (1, 2, 2, 3): two objects, then one
    found = torch.stack(pairs(price, [2, 1])).T.tolist()
    assert found == [[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 0, 2]]


def test_a_query_for_each_object_and_none_for_nothing():
    """A network that says exactly what is true has no box loss; two queries on one object: the second one is wrong."""
    model = DETR(3, **FEW)
    target = {"boxes": torch.tensor([[8.0, 8, 40, 40], [50, 10, 90, 60]]), "labels": torch.tensor([2, 0])}
    logits = torch.full((1, 1, 20, 4), -9.0)
    logits[..., 3] = 9
    logits[0, 0, 4], logits[0, 0, 7] = torch.tensor([9.0, -9, -9, -9]), torch.tensor([-9.0, -9, 9, -9])
    boxes = torch.full((1, 1, 20, 4), 0.9)
    boxes[0, 0, 4], boxes[0, 0, 7] = torch.tensor([70 / 96, 35 / 64, 40 / 96, 50 / 64]), torch.tensor([24 / 96, 24 / 64, 32 / 96, 32 / 64])
    outputs = {"logits": logits, "boxes": boxes, "input_shape": (64, 96)}
    losses = model.loss(outputs, [target])
    assert all(float(value.detach()) < 1e-5 for value in losses.values())
    found, scores = model.decode(outputs)
    assert torch.allclose(found[0, 7], target["boxes"][0], atol=1e-4) and scores[0, 7].argmax() == 2

    logits[0, 0, 9], boxes[0, 0, 9] = logits[0, 0, 4], boxes[0, 0, 4]
    again = model.loss(outputs, [target])
    assert again["box"] < 1e-5 and again["class"] > 0.3


def test_positions():
    """The last cell is 2 pi, whatever the size of the picture; y in front, x behind; what is padding is not counted."""
    valid = torch.ones(2, 4, 6, dtype=torch.bool)
    valid[1, 2:], valid[1, :, 3:] = False, False
    places = sine_positions(valid, 8).view(2, 4, 6, 16)
    assert torch.allclose(places[0, 3, 5, [0, 8]], torch.zeros(2), atol=1e-4) and torch.allclose(places[1, 1, 2], places[0, 3, 5], atol=1e-5)
    assert torch.equal(places[0, 1, 0, :8], places[0, 1, 5, :8]) and not torch.equal(places[0, 1, 0, 8:], places[0, 1, 5, 8:])


def test_generalized_iou():
    box = torch.tensor([[0.0, 0, 10, 10]])
    assert generalized_iou(box, box).item() == 1
    assert generalized_iou(box, box + torch.tensor([20.0, 0, 20, 0])).item() == pytest.approx(-1 / 3)
    assert generalized_iou(box, cxcywh_to_xyxy(torch.tensor([[5.0, 5, 5, 10]]))).item() == pytest.approx(0.5)
