"""The code of docs/*/attention.md does what the page says: it is executed out of the page."""
import importlib.util
import re

import darknet
import pytest
import torch
from shape_comments import check, unreached

import nets
from utils.settings import ROOT
from utils.weights import load_weights

PAGE = (ROOT / "docs" / "en" / "attention.md").read_text(encoding="utf-8")
*BLOCKS, CONVERT = re.findall(r"```python\n(.*?)```", PAGE, re.S)
NAMES = ("SE", "CBAM", "ECA")
TARGETS = [{"boxes": torch.tensor([[5.0, 5, 40, 50]]), "labels": torch.tensor([1])}] * 2


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The file that the page asks to write, as network "yolov4_tiny_attention"."""
    path = tmp_path / "yolov4_tiny_attention.py"
    path.write_text("\n\n".join(BLOCKS), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("yolov4_tiny_attention", path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    monkeypatch.setitem(nets.NETS, "yolov4_tiny_attention", found.YOLOv4TinyAttention)
    return found


@pytest.mark.parametrize("number, name", [*enumerate(NAMES)])
def test_a_block(number, name, tmp_path):
    """By itself, after the page's imports: the shapes in its comments, the shape that comes out, and that everything in it learns."""
    path = tmp_path / "block.py"
    imports = BLOCKS[0].split("class")[0]
    path.write_text(BLOCKS[number] if number == 0 else imports + BLOCKS[number], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("block", path)
    block = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(block)
    runs = []
    for channels in (128, 256, 512):
        torch.manual_seed(0)
        layer, x = getattr(block, name)(channels), torch.rand(2, channels, 3, 5)
        y = layer(x)
        assert y.shape == x.shape and (y > 0).all() and (y < x).all()                   # weights between 0 and 1
        y.square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())
        runs.append(({"B": 2}, lambda layer=layer, x=x: layer(x)))
    problems, checked = check([path], runs)
    assert not problems and not unreached(checked)


def test_what_the_blocks_look_at(module):
    """Weights of 0 make every gate 1/2. A cell only CBAM turns down by itself; ECA's window has the size of its formula."""
    x = torch.rand(1, 256, 4, 6)
    for name, share in (("SE", 0.5), ("CBAM", 0.25), ("ECA", 0.5)):
        layer = getattr(module, name)(256)
        for parameter in layer.parameters():
            torch.nn.init.zeros_(parameter)
        assert torch.allclose(layer(x), x * share)
    for name, by_cell in (("SE", False), ("CBAM", True), ("ECA", False)):
        gate = getattr(module, name)(256)(x) / x
        assert (gate.std((2, 3)).max() > 1e-4) == by_cell and gate.mean((2, 3)).std() > 1e-4
    assert [module.ECA(c).conv.kernel_size[0] for c in (64, 128, 256, 512)] == [3, 5, 5, 5]


@pytest.mark.parametrize("name", NAMES)
def test_the_network(module, name):
    """It builds by its name, every parameter learns, and it has the parameters that the page counts."""
    torch.manual_seed(0)
    model = nets.build("yolov4_tiny_attention", 6, (64, 96), attention=name.lower())
    _, losses = model(torch.rand(2, 3, 64, 96), TARGETS)
    sum(losses.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for key, p in model.named_parameters() if key.startswith("attend"))
    plain = sum(p.numel() for p in nets.build("yolov4_tiny", 6).parameters())
    more = sum(p.numel() for p in model.parameters()) - plain
    sentence = PAGE[PAGE.index("Of the parameters, "):]
    assert f"{plain:,} that YOLOv4-tiny has with 6 classes" in sentence and re.search(rf"\b{name}( adds)? {more:,}\b", sentence)


def test_the_networks_shapes(module):
    """Every comment of the file, as tests/nets/test_shape_comments.py sees it with the options that the page names."""
    assert '"yolov4_tiny_attention": [{"attention": "cbam"}, {"attention": "eca"}],' in PAGE
    runs = []
    for options in ({}, {"attention": "cbam"}, {"attention": "eca"}):
        model = nets.build("yolov4_tiny_attention", 6, (64, 96), **options)
        runs.append(({"B": 2, "K": 6, "H": 64, "W": 96}, lambda model=model: model(torch.rand(2, 3, 64, 96), TARGETS)))
    problems, checked = check([module.__file__], runs)
    assert not problems and not unreached(checked) and len(checked) >= 15


def test_the_report(module, root):
    """The official file gets names by the page's code; with SE and 6 classes the loader says what the page shows."""
    (root / "model_data").mkdir()
    darknet.weight_file(root / "model_data" / "yolov4-tiny.weights", nets.build("yolov4_tiny", 80), "yolov4_tiny")
    code = CONVERT.replace('"model_data', f'r"{root}/model_data')
    exec(compile(code, "page", "exec"), {})
    model = nets.build("yolov4_tiny_attention", 6, attention="se")
    report = load_weights(model, root / "model_data" / "yolov4-tiny.pth")
    assert report.backbone == 1.0 and len(report.different) == 4 and len(report.missing) == 12 and not report.unused
    assert all(name.startswith("attend") for name in report.missing)
    assert f"```\nWeights {report}\n```" in PAGE, report


def test_pretrained_works_as_it_is(module, tmp_path, monkeypatch, capsys):
    path = tmp_path / "yolov4-tiny.conv.29"
    darknet.weight_file(path, nets.build("yolov4_tiny", 80), "yolov4_tiny", stop=17)
    monkeypatch.setattr("nets.yolov4_tiny.download", lambda url: path)
    for name in NAMES:
        nets.build("yolov4_tiny_attention", 6, pretrained=True, attention=name.lower())
        assert "100% of the backbone" in capsys.readouterr().out
