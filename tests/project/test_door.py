"""The first minutes with the project: the first screen of the READMEs, the table of networks, and the page on one's own data."""
import re
import shlex

import numpy as np
import pytest
import torch
from PIL import Image
from user import copy_project, run

import nets
from benchmarks import networks
from summary import parents, walk
from utils.errors import UserError
from utils.settings import ROOT
from utils.training.log import TITLES

READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
WAITING = 3                                                 # networks that have no line in the table yet; this may only fall
OWN_DATA = ROOT / "docs" / "en" / "own_data.md"


def read(path):
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)
def test_the_first_screen(path):
    """A sentence, one picture, three ways to begin, within a screen."""
    screen = read(path).partition("\n## ")[0]
    lines = screen.splitlines()
    assert len(lines) <= 35 and max(map(len, lines)) <= 90 and lines[0].startswith("# ")
    (picture,) = re.findall(r"!\[[^]]+\]\((.*?)\)", screen)
    assert (ROOT / picture).stat().st_size <= 200_000
    for text in ("git clone ", "```bash", "```powershell", "colab.ipynb", "https://download.pytorch.org/whl/cpu", "MB", "python train.py"):
        assert text in screen, text


def test_the_ten_lines_are_what_the_program_prints():
    """The titles of the columns are those of train.py, and what a row has are losses that fall and a mAP that rises."""
    block = re.search(r"```\n(Network .*?)```", read(READMES[0]), re.S)[1].splitlines()
    assert len(block) == 10
    head = re.split("  +", block[4].strip())
    assert {TITLES[name] for name in ("map50", "map50_95")} <= set(head)
    losses = [float(line.split()[2]) for line in block[5:9]]
    scores = [float(line.split()[6]) for line in block[6:9]]
    assert losses == sorted(losses, reverse=True) and scores == sorted(scores)


def test_every_file_of_a_run_is_named():
    """The table of the run folder names what train.py leaves there; the tests of the scripts see that it does."""
    for path in READMES:
        for name in ("first_batches.png", "curves.png", "metrics.csv", "train.log", "settings.py", "best.pth", "last.pth"):
            assert f"| `{name}` |" in read(path), f"{path.name}: {name}"


# Which network when

def test_every_network_is_in_the_table():
    rows = networks.read_rows()
    names = [row["name"] for row in rows]
    assert names == [name for name in nets.NETS if name in names], "the lines of benchmarks/networks.tsv are in the order of nets.NETS"
    assert len(nets.NETS) - len(names) <= WAITING, "a line for each network in benchmarks/networks.tsv"
    assert all(all(row[column] for column in row if column != "result") for row in rows), "python benchmarks/networks.py measure=NAME"


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)
def test_the_table_is_what_the_file_says(path):
    made = read(path).partition(networks.BEGIN)[2].partition(networks.END)[0]
    assert made == networks.table(path.name, networks.read_rows()), "python benchmarks/networks.py"


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in networks.read_rows() if row["name"] != "faster_rcnn"], ids=lambda row: row["name"])
def test_the_table_counts_what_the_networks_have(row):
    """On the device "meta", which computes shapes only; the proposals of Faster R-CNN depend on values."""
    network = nets.NETS[row["name"]]
    with torch.device("meta"):
        model = nets.build(row["name"], networks.CLASSES[network.task], network.recipe["input_shape"]).eval()
        rows = walk(model, network.recipe["input_shape"])
    names = {name for name, *_ in rows}
    flops = sum(cost for name, _, _, cost in rows if not parents(name) & names)
    assert row["GFLOPs"] == f"{flops / 1e9:.1f}"
    assert row["parameters"] == f"{sum(p.numel() for p in model.parameters()):,}"


@pytest.mark.slow
@pytest.mark.parametrize("row", networks.read_rows(), ids=lambda row: row["name"])
def test_the_table_says_which_first_weights_there_are(row):
    """Where there are free ones, a download is tried (which tests forbid); elsewhere a sentence says that there are none."""
    network = nets.NETS[row["name"]]
    with torch.device("meta"), pytest.raises(UserError) as error:
        nets.build(row["name"], networks.CLASSES[network.task], network.recipe["input_shape"], pretrained=True)
    assert ("Could not download" in str(error.value)) == (row["first weights"] in ("backbone", "the whole network")), error.value


# Own data

def make_photos(folder, count=12):
    """Photos of 64 x 48 with one red cat each, and what the page says must lie beside them. -> nothing

    Both tasks: Annotations with the page's own XML, its numbers changed; SegmentationClass with 0, 1 and 255.
    """
    xml = re.search(r"```xml\n(.*?)```", read(OWN_DATA), re.S)[1]
    random = np.random.default_rng(0)
    for name in ("JPEGImages", "Annotations", "SegmentationClass"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        image, mask = random.integers(0, 99, (48, 64, 3), dtype=np.uint8), np.zeros((48, 64), np.uint8)
        x, y = random.integers(2, 30, 2)
        image[y:y + 16, x:x + 24], mask[y:y + 16, x:x + 24], mask[0] = (200, 40, 40), 1, 255
        Image.fromarray(image).save(folder / "JPEGImages" / f"{number}.jpg")
        Image.fromarray(mask).save(folder / "SegmentationClass" / f"{number}.png")
        values = {"a.jpg": f"{number}.jpg", ">640<": ">64<", ">480<": ">48<", ">48</xmin": f">{x + 1}</xmin", ">240<": f">{y + 1}<",
                  ">195<": f">{x + 24}<", ">371<": f">{y + 16}<"}
        text = xml
        for old, new in values.items():
            text = text.replace(old, new)
        (folder / "Annotations" / f"{number}.xml").write_text(text, encoding="utf-8")


def commands(name):
    """The commands of the page that use this dataset, or that follow them in the same block."""
    blocks = re.findall(r"^```bash\n(.*?)^```", read(OWN_DATA), re.S | re.M)
    boxes, masks = blocks[:3], blocks[-1:]
    return [shlex.split(line)[1:] for block in (boxes if name == "mydata" else masks) for line in block.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mydata", "mymasks"])
def test_the_page_on_own_data_word_by_word(name, tmp_path):
    """Its commands in its order, in a folder with a space and Chinese in its name; one epoch of a small input is all that is added."""
    project = copy_project(tmp_path, train=2)
    folder = project / "VOCdevkit" / name
    make_photos(folder)
    for extra in ("SegmentationClass",) if name == "mydata" else ("Annotations",):
        for path in (folder / extra).iterdir():
            path.unlink()
        (folder / extra).rmdir()
    photos = project.parent / "my_photos"
    photos.mkdir()
    (photos / "new.jpg").write_bytes((folder / "JPEGImages" / "0.jpg").read_bytes())
    followed = commands(name)
    assert [words[0] for words in followed] == ["voc_annotation.py", "train.py", "get_map.py" if name == "mydata" else "get_miou.py", "predict.py"]
    for script, *words in followed:
        more = ["epochs=1", "input_shape=64", "pretrained=False"] if script == "train.py" else []
        out = run(project, script, *words, *more)
        if script == "voc_annotation.py":
            assert ("cat" if name == "mydata" else "class_1") in out
            assert (project / "model_data" / f"{name}{'' if name == 'mydata' else '_segmentation'}_classes.txt").is_file()
    assert list((project / "img_out").rglob("new*"))
