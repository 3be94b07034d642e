"""SegFormer gives the published network's numbers; its attention is the sum of the textbook, worked out in the docs for two tokens.

tests/data/segformer.npz: outputs of transformers 5.24.0, SegformerForSemanticSegmentation (B0, 19 classes) in float64 and eval mode, its
LayerNorms of blocks and stages with the authors' eps of 1e-6, for image(11, 160, 224) and image(12, 160, 224), normalised: every 97th value
of what sub() keeps. The weights are fill() by its names.
"""
import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recipe import fill, image, sub

import nets
from nets.layers import IMAGENET_MEAN, IMAGENET_STD
from nets.segformer import HEADS, NARROW, REDUCTIONS, SIZES, Attention, DropPath, Head, SegFormer, to_map, to_tokens
from utils import steps
from utils.errors import NoWeights, UserError
from utils.settings import ROOT
from utils.weights import load_weights

DATA = Path(__file__).parents[1] / "data"
COUNTS = {"b0": 3_719_541, "b1": 13_682_645, "b2": 27_362_773, "b3": 47_238_613, "b4": 64_009_173, "b5": 84_609_493}


def norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def layer(name, *shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


@functools.cache
def published(classes=19):
    """B0's tensors by the names of transformers 5.24, in its order. -> name -> float32"""
    shapes, c_in = {}, 3
    for s, (d, reduction) in enumerate(zip(NARROW, REDUCTIONS)):
        stage, side = f"segformer.stages.{s}", 3 if s else 7
        shapes |= layer(f"{stage}.patch_embeddings.proj", d, c_in, side, side) | norm(f"{stage}.patch_embeddings.layer_norm", d)
        for block in (f"{stage}.blocks.0", f"{stage}.blocks.1"):
            shapes |= norm(f"{block}.layernorm_before", d)
            for part in "qkvo":
                shapes |= layer(f"{block}.attention.{part}_proj", d, d)
            if reduction > 1:
                inner = f"{block}.attention.sequence_reduction"
                shapes |= layer(f"{inner}.sequence_reduction", d, d, reduction, reduction) | norm(f"{inner}.layer_norm", d)
            shapes |= norm(f"{block}.layernorm_after", d) | layer(f"{block}.mlp.fc1", 4 * d, d)
            shapes |= layer(f"{block}.mlp.dwconv.dwconv", 4 * d, 1, 3, 3) | layer(f"{block}.mlp.fc2", d, 4 * d)
        shapes |= norm(f"{stage}.layer_norm", d)
        c_in = d
    for s, d in enumerate(NARROW):
        shapes |= layer(f"decode_head.linear_projections.{s}.proj", 256, d)
    shapes |= {"decode_head.linear_fuse.weight": (256, 1024, 1, 1)} | norm("decode_head.batch_norm", 256)
    shapes |= {"decode_head.batch_norm.running_mean": (256,), "decode_head.batch_norm.running_var": (256,)}
    shapes |= layer("decode_head.classifier", classes, 256, 1, 1)
    return fill({name: torch.zeros(shape) for name, shape in shapes.items()})


def renamed(tensors, *rules):
    found = {}
    for name, tensor in tensors.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        found[name] = tensor
    return found


def of_the_hub(tensors):
    """The names in the files of the hub (nvidia/segformer-b0-...)."""
    return renamed(
        tensors, (r"stages\.(\d)\.patch_embeddings\.", r"encoder.patch_embeddings.\1."), (r"stages\.(\d)\.blocks\.", r"encoder.block.\1."),
        (r"stages\.(\d)\.layer_norm", r"encoder.layer_norm.\1"), (r"layernorm_before", "layer_norm_1"), (r"layernorm_after", "layer_norm_2"),
        (r"attention\.sequence_reduction\.sequence_reduction", "attention.self.sr"),
        (r"attention\.sequence_reduction\.", "attention.self."), (r"attention\.o_proj", "attention.output.dense"),
        (r"attention\.q_proj", "attention.self.query"), (r"attention\.k_proj", "attention.self.key"),
        (r"attention\.v_proj", "attention.self.value"), (r"mlp\.fc", "mlp.dense"), (r"linear_projections", "linear_c"))


def one_more(found):
    return str(int(found[0]) + 1)


def of_the_authors(tensors):
    """The names in the authors' files; key and value are one tensor there."""
    stages = renamed(
        tensors, (r"^segformer\.stages\.(\d)\.patch_embeddings\.proj", r"backbone.patch_embed\1.proj"),
        (r"^segformer\.stages\.(\d)\.patch_embeddings\.layer_norm", r"backbone.patch_embed\1.norm"),
        (r"^segformer\.stages\.(\d)\.blocks\.", r"backbone.block\1."), (r"^segformer\.stages\.(\d)\.layer_norm", r"backbone.norm\1"),
        (r"layernorm_before", "norm1"), (r"layernorm_after", "norm2"), (r"attention\.sequence_reduction\.sequence_reduction", "attn.sr"),
        (r"attention\.sequence_reduction\.layer_norm", "attn.norm"), (r"attention\.o_proj", "attn.proj"), (r"attention\.([qkv])_proj", r"attn.\1"),
        (r"linear_projections\.(\d)", r"linear_c\1"), (r"linear_fuse\.", "linear_fuse.conv."), (r"batch_norm", "linear_fuse.bn"),
        (r"classifier", "linear_pred"))
    counted = renamed(stages, (r"(?<=^backbone\.patch_embed)\d|(?<=^backbone\.block)\d|(?<=^backbone\.norm)\d|(?<=linear_c)\d", one_more))
    found = {}
    for name, tensor in counted.items():
        if ".attn.k." in name:
            found[name.replace(".k.", ".kv.")] = torch.cat([tensor, counted[name.replace(".k.", ".v.")]])
        elif ".attn.v." not in name:
            found[name] = tensor
    return found | {"decode_head.conv_seg.weight": torch.zeros(19, 128, 1, 1)}       # left over in their base class


LAYOUTS = {"transformers": lambda tensors: tensors, "hub": of_the_hub, "authors": of_the_authors}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """B0 with the reference's weights, in eval mode."""
    path = tmp_path_factory.mktemp("published") / "pytorch_model.bin"
    torch.save(published(), path)
    network = SegFormer(19)
    load_weights(network, path)
    return network.eval()


@pytest.mark.parametrize("size", SIZES)
def test_parameters(size):
    with torch.device("meta"):
        assert sum(p.numel() for p in SegFormer(21, size=size).parameters()) == COUNTS[size]


@torch.no_grad()
def test_equal_to_the_published_network(model):
    """In float64, so that the eps of a LayerNorm counts: 1e-5 everywhere would be 1e-5 away. Measured: 2.4e-7, the file's float32."""
    expected = np.load(DATA / "segformer.npz")["logits"]
    network = SegFormer(19).double().eval()
    network.load_state_dict(model.state_dict())
    images = np.stack([image(seed, 160, 224) for seed in (11, 12)])
    mean, deviation = (np.float32(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    logits = network.head(network.backbone(torch.from_numpy((images - mean) / deviation).double()))
    values = sub(logits, 6000)[0][::11]
    assert values.shape == expected.shape and expected.std() > 1.7
    assert np.abs(values - expected).max() < 1e-6

    # In float32, and in the size of the image.
    large = F.interpolate(logits, (160, 224), mode="bilinear", align_corners=False)
    assert (model(torch.from_numpy(images))[0] - large).abs().max() < 1e-4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_official_files(layout, model, tmp_path):
    """Every tensor finds its place, whoever published the file; nets.load opens it, with the classes' names."""
    path = tmp_path / "segformer 权重.pth"
    torch.save(LAYOUTS[layout](published()), path)
    network = SegFormer(19)
    report = load_weights(network, path)
    assert report.backbone == 1.0 and not (report.different or report.missing)
    assert set(report.unused) <= {"decode_head.conv_seg.weight"}
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in network.state_dict().items())
    opened, info = nets.load(path, net="segformer")
    assert torch.equal(opened.head.mix[3].weight, model.head.mix[3].weight) and info["class_names"][13] == "car" and len(info["class_names"]) == 19


@pytest.mark.parametrize("layout", [pytest.param("hub", marks=pytest.mark.slow), "authors"])
def test_imagenet_files(layout, model, tmp_path):
    """The encoder alone, with a classifier that is not used; other classes keep all but the last layer."""
    tensors = LAYOUTS[layout](published())
    encoder = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items() if not name.startswith("decode_head.")}
    torch.save(encoder | {"head.weight": torch.zeros(1000, 256), "classifier.bias": torch.zeros(1000)}, tmp_path / "mit_b0.pth")
    network = SegFormer(3)
    report = load_weights(network, tmp_path / "mit_b0.pth")
    assert report.backbone == 1.0 and not report.different and {name.split(".")[0] for name in report.missing} == {"head"}
    assert all(torch.equal(t, model.backbone.state_dict()[name]) for name, t in network.backbone.state_dict().items())
    torch.save(tensors, tmp_path / "ade.pth")
    report = load_weights(SegFormer(3), tmp_path / "ade.pth")
    assert [name for name, *_ in report.different] == ["head.classify.weight", "head.classify.bias"] and not report.missing


def test_a_tensor_that_cannot_be_cut(tmp_path):
    """A file of odd shapes is reported, not a crash."""
    odd = {"backbone.block1.0.attn.kv.bias": torch.tensor(1.0), "decode_head.linear_fuse.conv.weight": torch.zeros(7)}
    torch.save(of_the_authors(published()) | odd, tmp_path / "odd.pth")
    report = load_weights(SegFormer(19), tmp_path / "odd.pth")
    assert "backbone.stages.0.blocks.0.attention.key.bias" in report.missing and "head.mix.0.weight" in report.missing


# Attention

def slow_attention(attention, x, others):
    """Token by token, head by head, with nothing but sums. x: (T, D), others: (S, D) -> (T, D)."""
    q, k, v = attention.query(x), attention.key(others), attention.value(others)
    heard = torch.zeros_like(q)
    d = q.shape[1] // attention.heads
    for head in range(attention.heads):
        piece = slice(head * d, head * d + d)
        for t in range(len(x)):
            products = torch.stack([(q[t, piece] * k[s, piece]).sum() for s in range(len(others))]) / d ** 0.5
            shares = products.exp() / products.exp().sum()
            heard[t, piece] = sum(share * v[s, piece] for s, share in enumerate(shares))
    return attention.out(heard)


@torch.no_grad()
def test_attention_is_the_sum_of_the_textbook():
    torch.manual_seed(0)
    x = torch.randn(2, 12, 6, dtype=torch.float64)
    whole, reduced = Attention(6, 3, 1).double(), Attention(6, 2, 2).double()
    for one, found in zip(x, whole(x, 3, 4)):
        assert torch.allclose(found, slow_attention(whole, one, one), atol=1e-12)

    # 2 x 3 cells of 4 x 6 become 2 x 3 keys.
    x = torch.randn(1, 24, 6, dtype=torch.float64)
    others = reduced.norm(reduced.reduce(x.transpose(1, 2).reshape(1, 6, 4, 6)).flatten(2).transpose(1, 2))
    assert others.shape == (1, 6, 6)
    assert torch.allclose(reduced(x, 4, 6)[0], slow_attention(reduced, x[0], others[0]), atol=1e-12)


@torch.no_grad()
def test_attention_does_not_know_where_a_token_is():
    """What MixFFN is there for."""
    torch.manual_seed(0)
    attention, x, order = Attention(8, 2, 1), torch.randn(1, 12, 8), torch.randperm(12)
    assert torch.allclose(attention(x[:, order], 3, 4), attention(x, 3, 4)[:, order], atol=1e-6)


@torch.no_grad()
def test_tokens_and_maps():
    x = torch.arange(24.0).view(1, 2, 3, 4)
    tokens = to_tokens(x)
    assert tokens[0, 0].tolist() == [0, 12] and tokens[0, 1].tolist() == [1, 13] and tokens[0, 4].tolist() == [4, 16]
    assert torch.equal(to_map(tokens, 3, 4), x)


@pytest.mark.parametrize("language", ["en", "zh"])
@torch.no_grad()
def test_the_two_tokens_of_the_docs(language):
    """Every number of the worked example comes out of the network's own Attention."""
    text = (ROOT / "docs" / language / "segformer.md").read_text(encoding="utf-8")
    rows = {name: re.findall(r"-?\d+(?:\.\d+)?", cells) for name, cells in re.findall(r"^\| `(\w+)` \|(.*)$", text, re.M)}
    x = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    attention = Attention(2, 1, 1)
    for name, weight in (("query", [[1.0, 1.0], [0.0, 2.0]]), ("key", [[0.0, 2.0], [1.0, 0.0]]), ("value", [[10.0, -10.0], [0.0, 10.0]])):
        getattr(attention, name).weight.copy_(torch.tensor(weight))
        getattr(attention, name).bias.zero_()
        assert f"{int(weight[0][0])} {int(weight[0][1])}" in text and f"{int(weight[1][0])} {int(weight[1][1])}" in text
    attention.out = torch.nn.Identity()
    q, k, v = attention.query(x), attention.key(x), attention.value(x)
    products = q @ k.T
    shares = (products / 2 ** 0.5).softmax(1)
    expected = {"x": x, "q": q, "k": k, "v": v, "products": products, "scaled": products / 2 ** 0.5, "exp": (products / 2 ** 0.5).exp(),
                "shares": shares, "heard": attention(x[None], 1, 2)[0]}
    assert list(rows) == list(expected)
    for name, tensor in expected.items():
        numbers = [float(n) for n in rows[name]]
        assert len(numbers) == 4 and max(abs(a - b) for a, b in zip(numbers, tensor.flatten().tolist())) <= 0.0051, name
    assert torch.allclose(expected["heard"], shares @ v)


# The head, DropPath, freezing

@torch.no_grad()
def test_mixing_before_enlarging_is_the_papers_head():
    """Section 3.2: linear, enlarged, joined from the coarsest on, 1x1, BatchNorm, ReLU, 1x1."""
    torch.manual_seed(0)
    head = Head((4, 5, 6, 7), 8, 3).double().eval()
    fill(head)
    maps = [torch.randn(2, c, 16 >> i, 24 >> i, dtype=torch.float64) for i, c in enumerate((4, 5, 6, 7))]
    large = [F.interpolate(F.linear(x.permute(0, 2, 3, 1), unify.weight, unify.bias).permute(0, 3, 1, 2), (16, 24), mode="bilinear")
             for x, unify in zip(maps, head.unify)]
    fuse = torch.cat([mix.weight for mix in head.mix][::-1], 1)
    expected = head.classify(head.norm(F.conv2d(torch.cat(large[::-1], 1), fuse)).relu())
    assert torch.allclose(head(maps), expected, atol=1e-12)


def test_drop_path_follows_from_the_seed():
    """Whole pictures, the same for the same seed, the same mean; nothing in evaluation."""
    drop, x = DropPath(0.25), torch.ones(4000, 2, 3)
    torch.manual_seed(7)
    first = drop(x)
    torch.manual_seed(7)
    assert torch.equal(drop(x), first) and not torch.equal(drop(x), first)
    assert set(first.unique().tolist()) == {0.0, float(torch.tensor(1) / 0.75)} and (first.amax((1, 2)) == first.amin((1, 2))).all()
    assert float(first.mean()) == pytest.approx(1, abs=0.03)
    assert drop.eval()(x) is x and DropPath(0.0)(x) is x


def test_later_blocks_are_left_out_more_often():
    chances = [module.chance for module in SegFormer(2, drop_path=0.7).modules() if isinstance(module, DropPath)]
    assert chances == pytest.approx([0.1 * i for i in range(8)])


def test_a_step_is_a_function_of_the_seed():
    torch.manual_seed(0)
    network, images = SegFormer(3, drop_path=0.5), torch.rand(2, 3, 32, 64)
    targets = [{"mask": torch.zeros(32, 64, dtype=torch.int64)}] * 2
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(float(network(images, targets)[1]["cross_entropy"].detach()))
    assert losses[0] == losses[1] != losses[2]


def test_the_frozen_backbone_keeps_every_bit_and_drops_nothing():
    torch.manual_seed(0)
    network = SegFormer(3, drop_path=0.5)
    steps.set_frozen(network, True)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images, solver = torch.rand(2, 3, 32, 64), steps.make_optimizer(network, "adamw", 0.01, 0.9, 0.1)
    assert torch.equal(network.backbone(images)[3], network.backbone(images)[3])
    network(images, [{"mask": torch.ones(32, 64, dtype=torch.int64)}] * 2)[1]["cross_entropy"].backward()
    solver.step()
    moved = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved and all(name.startswith("head.") for name in moved)
    steps.set_frozen(network, False)
    assert not torch.equal(network.backbone(images)[3], network.backbone(images)[3])


@pytest.mark.parametrize("size", [(33, 45), (100, 70)])
@torch.no_grad()
def test_any_size(size, model):
    """No table of positions: a network trained at one size runs at another."""
    logits, _ = model(torch.rand(1, 3, *size))
    assert logits.shape == (1, 19, *size) and torch.isfinite(logits).all()


def test_wrong_requests():
    with pytest.raises(UserError, match='no SegFormer "b6".*b0, b1'):
        SegFormer(3, size="b6")
    with pytest.raises(UserError, match="drop_path=1.0: expected a share"):
        SegFormer(3, drop_path=1.0)
    with pytest.raises(NoWeights, match="non-commercial.*mit-b2.*model_path"):
        SegFormer(3, size="b2", pretrained=True)
    assert len(HEADS) == 4 and all(width % heads == 0 for widths, *_ in SIZES.values() for width, heads in zip(widths, HEADS))
