"""The web site of the docs: what goes into it, without building it (CI does, strictly). And CONTRIBUTING's worked example runs."""
import importlib.util
import re
import sys
import types
from pathlib import Path

import pytest
import torch

import nets
from utils.boxes import pairwise_iou
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("site_make", ROOT / "docs" / "site" / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)


@pytest.fixture(scope="module", params=make.LANGUAGES)
def built(request, tmp_path_factory):
    """-> language, the folder that MkDocs gets."""
    folder = tmp_path_factory.mktemp(request.param)
    make.prepare(folder, request.param)
    return request.param, folder


def test_both_languages_have_the_same_pages():
    english, chinese = (set(make.pages_of(language).values()) for language in make.LANGUAGES)
    assert english == chinese and {"index.md", "faq.md", "yolov8.md", "results.md"} <= english


def test_every_page_is_in_the_menu_once(built):
    language, folder = built
    menu = re.findall(r"^    - ([\w-]+\.md)$", (folder / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    assert sorted(menu) == sorted(path.name for path in (folder / "docs").glob("*.md"))


def test_every_link_leads_to_a_page_or_a_picture(built):
    language, folder = built
    for page in (folder / "docs").glob("*.md"):
        text = make.FENCE.sub("", page.read_text(encoding="utf-8"))
        for _, _, target, _ in make.LINK.findall(re.sub(r"`[^`\n]*`", "", text)):
            assert "://" in target or target.startswith("mailto:") or (folder / "docs" / target).is_file(), f"{page.name}: {target}"
        for other, target in re.findall(r'href="\.\./(\w+)/([\w-]+)\.html', text):
            assert f"{target}.md" in make.pages_of(other).values(), f"{page.name}: {target}"


def test_nothing_is_fetched_from_elsewhere(built):
    """Fonts, scripts, pictures: all are in the site. Only a link that somebody clicks leads out."""
    language, folder = built
    text = (folder / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in text and "offline" in text and "://" not in text
    for path in [*(folder / "theme").rglob("*.html"), folder / "docs" / "iframe-worker.js"]:
        assert "://" not in path.read_text(encoding="utf-8"), path
    for page in (folder / "docs").glob("*.md"):
        assert not re.search(r"!\[[^\]]*\]\(https?:|<(img|script|iframe)[^>]*https?:", page.read_text(encoding="utf-8")), page.name


def test_chinese_sentences_have_no_spaces_where_their_lines_end():
    text = "## 标题\n一行，\n又一行。\n\n* 表\n\n```bash\n# 注\n# 释\n```\nEnglish\nwords，\n`code` 中\n"
    assert make.joined(text) == "## 标题\n一行，又一行。\n\n* 表\n\n```bash\n# 注\n# 释\n```\nEnglish\nwords，\n`code` 中\n"


def test_ci_builds_it():
    assert "make site" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "docs/site/make.py" in (ROOT / "Makefile").read_text(encoding="utf-8")


# CONTRIBUTING.md: a network in one file

@pytest.fixture
def toy(monkeypatch):
    """The class of the worked example, in the table of networks as the text says."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    source = re.search(r"## A worked example.*?```python\n(.*?)```", text, re.S)[1]
    assert sum(bool(line.strip()) for line in source.splitlines()) <= 40
    module = types.ModuleType("nets.toy")
    monkeypatch.setitem(sys.modules, "nets.toy", module)
    exec(compile(source, "nets/toy.py", "exec"), vars(module))
    monkeypatch.setitem(nets.NETS, "toy", module.Toy)
    return module.Toy


def test_the_worked_example_learns_where_the_objects_are(toy):
    torch.manual_seed(0)
    model = nets.build("toy", 2, (64, 96)).train()
    images, boxes, labels = torch.zeros(2, 3, 64, 96), [[10.0, 10, 30, 34], [40.0, 20, 80, 50]], [1, 0]
    for image, ((x1, y1, x2, y2), label) in enumerate(zip(boxes, labels)):
        images[image, label, int(y1):int(y2), int(x1):int(x2)] = 1
    targets = [{"boxes": torch.tensor([box]), "labels": torch.tensor([label])} for box, label in zip(boxes, labels)]
    solver = torch.optim.AdamW(model.parameters(), toy.recipe["lr"])
    for _ in range(150):
        outputs, losses = model(images, targets)
        solver.zero_grad()
        sum(losses.values()).backward()
        solver.step()

    found, scores = model.decode(model(images)[0])
    for image in range(2):
        best = scores[image].amax(1).argmax()
        assert scores[image, best].argmax() == labels[image]
        assert pairwise_iou(found[image, best][None], targets[image]["boxes"]) > 0.4


def test_the_worked_example_keeps_the_contract(toy):
    model = nets.build("toy", 3, (64, 64))
    nothing = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}] * 2
    outputs, losses = model(torch.rand(2, 3, 64, 64), nothing)
    sum(losses.values()).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    assert all(value.ndim == 0 and value.dtype == torch.float32 for value in losses.values())
    boxes, scores = model.decode(outputs)
    assert boxes.shape == (2, 16, 4) and scores.shape == (2, 16, 3) and scores.min() >= 0 and scores.max() <= 1
    with pytest.raises(UserError, match="divisible by 16"):
        nets.build("toy", 3, (60, 64))
