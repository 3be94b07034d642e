"""READMEs and docs are twins in two languages; their commands, variables, files and numbers are real."""
import re
import shlex
from pathlib import Path

import pytest
import torch

import nets

ROOT = Path(__file__).resolve().parents[2]
ENGLISH = sorted((ROOT / "docs" / "en").glob("*.md"))
CHINESE = sorted((ROOT / "docs" / "zh").glob("*.md"))
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
RESULTS, DIARY = ROOT / "benchmarks" / "results.md", ROOT / "benchmarks" / "diary.md"
TWINS = [tuple(READMES), *((page, ROOT / "docs" / "zh" / page.name) for page in ENGLISH)]
PAGES = [*READMES, *ENGLISH, *CHINESE]
OTHERS = [ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "VOCdevkit/README.md")]
ALL = [*PAGES, RESULTS, DIARY, *OTHERS]

# Files that a page asks the reader to write, and names that stand for any page.
TO_WRITE = {"nets/toy.py", "nets/yolov4_tiny_attention.py", "docs/en/x.md", "docs/zh/x.md"}
SET_UP = ["pip install -r requirements.txt && python train.py",
          "pip install -r requirements-dev.txt && python -m pytest"]


def read(path):
    return path.read_text(encoding="utf-8")


def named(path):
    """For the names of tests: en/data.md, README.md."""
    return path.relative_to(ROOT).as_posix().removeprefix("docs/")


def blocks_of(text):
    """Fenced blocks, as pairs of language and content."""
    return re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, re.S | re.M)


def prose_of(text):
    """The text without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.S | re.M)


def commands_of(path):
    """Every command of a page: the lines of bash and PowerShell blocks, and code in backticks that runs Python."""
    text = read(path)
    lines = []
    for language, block in blocks_of(text):
        lines += block.splitlines() if language in ("bash", "powershell") else []
    for code in re.findall(r"`([^`]+)`", prose_of(text)):
        lines += [code] if re.search(r"\bpython |^torchrun ", code) else []
    return [line.partition("  #")[0] for line in lines]


def variables(script):
    """The names that a script lets one set."""
    return set(re.findall(r"^([a-z]\w*) = ", read(ROOT / script), re.M))


def parts(path):
    """Heading levels, code blocks, pictures, and the code words in tables and text, in order."""
    text = read(path)
    rest = prose_of(text)
    headings, pictures = re.findall(r"^(#+) ", rest, re.M), re.findall(r"!\[.*?\]\((.*?)\)", rest)
    return headings, blocks_of(text), pictures, sorted(re.findall(r"`[^`]+`", rest))


# Twins

@pytest.mark.parametrize("english, chinese", TWINS, ids=named)
def test_twins(english, chinese):
    assert chinese.is_file(), f"{english} has no Chinese twin"
    for one, two in zip(parts(english), parts(chinese)):
        assert one == two


def numbers_of(text):
    """The numbers of each paragraph, sorted: those with a decimal point, or of two digits and more; one digit may be a word."""
    text = re.sub(r"\]\([^)]*\)|`[^`]*`|<a id=[^>]*>", "", prose_of(text))
    text = re.sub(r"([\d.]+) 亿像素", lambda m: f"{float(m[1]) * 100:.0f}", text)               # 178 megapixels
    text = re.sub(r"(\d+) 万像素", lambda m: f"{int(m[1]) // 100}", text)
    number = re.compile(r"(?<![\w.])\d[\d,]*\.\d+(?:e-\d+)?|(?<![\w.,])\d[\d,]*\d")
    return [sorted(number.findall(paragraph)) for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]


@pytest.mark.parametrize("english, chinese", TWINS, ids=named)
def test_twins_quote_the_same_numbers(english, chinese):
    """In every paragraph: as many as there are, each as often."""
    for place, (one, two) in enumerate(zip(numbers_of(read(english)), numbers_of(read(chinese)), strict=True), 1):
        assert one == two, f"paragraph {place}"


@pytest.mark.parametrize("old, new", [("0.95", "0.94"), ("## ", "### "), ("train.py", "predict.py"), ("pictures/", "photos/"), ("600 ", "5 ")])
def test_a_twin_that_differs_is_found(old, new, tmp_path):
    """A number in a sentence, a heading, a command, a picture."""
    text = read(READMES[1])
    assert old in text
    for place in [found.start() for found in re.finditer(re.escape(old), text)][:3]:
        changed = tmp_path / "changed.md"
        changed.write_text(text[:place] + new + text[place + len(old):], encoding="utf-8")
        assert parts(changed) != parts(READMES[0]) or numbers_of(read(changed)) != numbers_of(read(READMES[0]))


def test_no_chinese_page_alone():
    assert {p.name for p in CHINESE} == {p.name for p in ENGLISH}


# Commands, variables and files

@pytest.mark.parametrize("path", ALL, ids=named)
def test_links_exist(path):
    for link in re.findall(r"\]\((?!http)([^)#]+)", read(path)):
        assert (path.parent / link).exists(), f"{path.name} links to {link}"


@pytest.mark.parametrize("path", ALL, ids=named)
def test_files_in_backticks_exist(path):
    text = read(path)
    words = [word for code in re.findall(r"`([^`]+)`", prose_of(text)) for word in code.split()]
    words += [word for _, block in blocks_of(text) for word in block.split()]
    for word in {re.sub(r"^.*=|[\"':,]", "", word) for word in words} - TO_WRITE:
        if re.fullmatch(r"(utils|nets|tools|tests|recipes|benchmarks|docs)/[\w/.]+\.(py|md)", word):
            assert (ROOT / word).is_file(), f"{path.name} names {word}"


@pytest.mark.parametrize("path", [*READMES, *ENGLISH, *CHINESE], ids=named)
def test_names_are_in_the_files_named_beside_them(path):
    """`ASPP` in `nets/deeplabv3.py`: there it must be."""
    prose = prose_of(read(path))
    pairs = re.findall(r"`(\w+)` in\s`([\w/]+\.py)`", prose)
    for file, name in re.findall(r"`([\w/]+\.py)`(?: 里的 | ?[(（])`(\w+)`", prose):
        pairs.append((name, file))
    for name, file in pairs:
        assert re.search(rf"\b{name}\b", read(ROOT / file)), f"{path.name}: {name} is not in {file}"


@pytest.mark.parametrize("path", ALL, ids=named)
def test_commands_use_scripts_and_variables_that_exist(path):
    for command in commands_of(path):
        words = shlex.split(command.replace("\\", ""))
        scripts = [word for word in words if re.fullmatch(r"(?!recipes/)[\w/]+\.py", word)]
        if "pytest" in words:
            files = [word for word in words if word.startswith("tests/")]
            assert all((ROOT / file).exists() for file in files), f"{path.name}: {command}"
        elif scripts and "-c" not in words:
            known = variables(scripts[0])
            for word in words[words.index(scripts[0]) + 1:]:
                name, equals, _ = word.partition("=")
                assert not equals or name in known, f"{path.name}: {scripts[0]} has no variable {name}"
                assert equals or not word.endswith(".py") or (ROOT / word).is_file(), f"{path.name}: {word}"


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_settings_in_backticks_are_variables_of_a_script(path):
    """`clip_norm=1`, `flip=True "scales=0.75,1.0"`, `model_path`: of train.py or one of the others."""
    scripts = [*ROOT.glob("*.py"), *(ROOT / "tools").glob("*.py")]
    known = set().union(*(variables(script.relative_to(ROOT)) for script in scripts))
    for code in re.findall(r"`([a-z_]+=[^`]+)`", prose_of(read(path))):
        for word in shlex.split(code) if "{" not in code else [code]:
            name, equals, _ = word.partition("=")
            assert not equals or name in known, f"{path.name}: {word}"


def test_settings_of_the_training_page_are_variables_of_train():
    for language in ("en", "zh"):
        text = read(ROOT / "docs" / language / "training.md")
        rows = re.findall(r"^\| `(\w+)` \|", text, re.M)
        assert len(rows) >= 9 and set(rows) <= variables("train.py")


def test_recipes_fit_their_script():
    """Also their commands, and each says whose schedule it is and what it aims at."""
    for recipe in (ROOT / "recipes").glob("*.py"):
        text = read(recipe)
        for name in re.findall(r"^(\w+) =", text, re.M):
            assert name in variables("train.py"), f"{recipe.name}: {name}"
        assert f"python train.py recipes/{recipe.name}" in text and "Aims at" in text
        net = re.search(r'^net = "(\w+)"', text, re.M)[1]
        assert recipe.stem == "voc2007" or recipe.stem.endswith(f"_{net}")


def test_ci_runs_what_the_readme_says():
    lines = read(ROOT / "README.md").splitlines()
    assert next(line for line in lines if "python -m pytest" in line) == SET_UP[1]
    assert "README.md" in read(ROOT / ".ci" / "run")


@pytest.mark.parametrize("path", [*PAGES, RESULTS, DIARY], ids=named)
def test_powershell_can_run_every_command(path):
    """Windows PowerShell has no && and splits arguments at commas. The two set-up commands have a twin there."""
    for command in commands_of(path):
        assert "&&" not in command or command in SET_UP, f"{path.name}: {command}"
        if path in PAGES:
            bare = re.sub(r"\"[^\"]*\"|'[^']*'", "", command)
            assert "," not in bare, f"{path.name}: quote the comma in  {command}"
    if path in READMES:
        blocks = blocks_of(read(path))
        ends = [(language, block.splitlines()[-1]) for language, block in blocks]
        for command in SET_UP:
            place = ends.index(("bash", command))
            assert ("powershell", command.replace(" &&", ";")) == ends[place + 1]


# Numbers

def results():
    """results.md as a dict: command -> the figures of all its rows."""
    figures, command = {}, None
    for line in read(RESULTS).splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and cells[0] not in ("what", "---"):
            command = cells[1] if cells[1] != "the same" else command
            first = command.split("`")[1]
            figures[first] = f"{figures.get(first, '')} {cells[2]}"
    return figures


def test_results_are_one_table_a_task():
    """What, command, figure, machine; a training has one row, so that one command has one number."""
    text = read(RESULTS)
    machines = set(re.findall(r"^\| (\w+) \| 2 cores", text, re.M))
    trainings = []
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        rows = [line for line in section.splitlines() if line.startswith("|")]
        assert rows[0] == "| what | command | figure | machine |", section[:40]
        assert sum(row == rows[0] for row in rows) == 1, f"two tables: {section[:40]}"
        for row in rows[2:]:
            _, command, figure, machine = [cell.strip() for cell in row.split("|")[1:-1]]
            assert "python " in command or command == "the same", row
            assert re.search(r"\d", figure) and machine in machines, row
            trainings += [command] if "python train.py" in command else []
    assert len(machines) == 3 and len(trainings) == len(set(trainings)) > 10


PARITY = "python -m pytest tests/nets/test_{}.py"
DEFAULT, SEGMENT = "python train.py", "python train.py net=deeplabv3plus"
GENERAL = (f"{SEGMENT} input_shape=224 small_share=0 epochs=13 batch_size=4 lr=0.004 scale=0.5,2.0 rotate=10 blur=0.25 "
           "colours=0.015,0.7,0.4")
SSD = ("python train.py net=ssd300 \"net_options={'batch_norm': True}\" epochs=20 lr=0.002 zoom_out=0 iou_crop=0.5 "
       "distort=0.5")
# page -> command of results.md -> the numbers that the page quotes of it
QUOTES = {
    "README": {DEFAULT: "0.95 0.78", SEGMENT: "0.71",
               PARITY.format("yolov4_tiny"): "2e-5", PARITY.format("pspnet"): "7e-7",
               PARITY.format("deeplabv3"): "5e-7", PARITY.format("deeplabv3plus"): "6e-7",
               PARITY.format("segformer"): "2.4e-7", PARITY.format("hrnet"): "8.1e-7",
               PARITY.format("bisenetv2"): "6e-8", PARITY.format("pidnet"): "3.7e-6"},
    "ssd300": {SSD: "0.930 3 20", DEFAULT: "4 24", PARITY.format("ssd"): "1e-4"},
    "ssdlite320_mobilenet_v3": {PARITY.format("ssd"): "1e-4"},
    "retinanet": {PARITY.format("retinanet"): "6e-8"},
    "faster_rcnn": {PARITY.format("faster_rcnn"): "8e-6 1e-4"},
    "yolov3": {PARITY.format("yolov3"): "1.0e-4 1939"},
    "yolov4": {PARITY.format("yolov4"): "2.9e-4 2073"},
    "yolov4_tiny": {PARITY.format("yolov4_tiny"): "2e-5 2066"},
    "yolox": {PARITY.format("yolox"): "1e-5 6e-5"},
    "yolov8": {PARITY.format("yolov8"): "1.2e-5 4.3e-5 2e-5"},
    "yolo11": {PARITY.format("yolo11"): "8.2e-5 0.003"},
    "pspnet": {PARITY.format("pspnet"): "7e-7"},
    "deeplabv3": {PARITY.format("deeplabv3"): "5e-7"},
    "deeplabv3plus": {SEGMENT: "0.71", GENERAL: "0.15", PARITY.format("deeplabv3plus"): "6e-7 1.4e-4"},
    "segformer": {PARITY.format("segformer"): "2.4e-7"},
    "hrnet": {PARITY.format("hrnet"): "8.1e-7"},
    "bisenetv2": {PARITY.format("bisenetv2"): "6e-8"},
    "pidnet": {PARITY.format("pidnet"): "3.7e-6"},
    "training": {"python benchmarks/accuracy.py dataset=VOCdevkit/bccd input_shape=192 epochs=20 networks=yolov8": "0.789 0.670"},
    "CHANGELOG": {DEFAULT: "0.778", "python train.py net=yolov4_tiny": "0.632"},
}
# What a test asks for, not what was measured.
ASKED = {"yolox": {"1e-4", "1e-5"}, "yolov8": {"1e-8"}, "training": {"1e-6"}}


def agrees(quoted, measured):
    """Whether a number is another one, rounded to its digits; a bound like 6e-7 is rounded up."""
    digits, _, exponent = quoted.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))
    apart = float(quoted) - float(measured)
    return -1e-9 * unit <= apart < unit * 0.999 if exponent else abs(apart) <= unit * 0.5 + 1e-12


def test_agrees():
    assert agrees("0.93", "0.926") and not agrees("0.93", "0.936") and not agrees("0.755", "0.747")
    assert agrees("7e-7", "6.6e-7") and not agrees("5e-7", "5.4e-7") and not agrees("1e-4", "1.4e-4")


def pages_called(name):
    if name == "CHANGELOG":
        return [ROOT / "CHANGELOG.md"]
    return READMES if name == "README" else [ROOT / "docs" / language / f"{name}.md" for language in ("en", "zh")]


@pytest.mark.parametrize("name", QUOTES)
def test_quoted_numbers_are_those_of_the_results(name):
    measured = results()
    for command, numbers in QUOTES[name].items():
        found = re.findall(r"\d+(?:\.\d+)?(?:e-\d+)?", measured[command])
        for number in numbers.split():
            assert any(agrees(number, one) for one in found), f"{number} is not what results.md has for {command}"
            for page in pages_called(name):
                text = read(page)
                assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", text), f"{page.name}: {number}"


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_every_figure_is_a_quoted_one(path):
    """mAP and mIoU between 0 and 1 and differences like 2e-5 are ours (published mAP are percentages)."""
    name = "README" if path in READMES else path.stem
    quoted = set(" ".join(QUOTES.get(name, {}).values()).split()) | ASKED.get(name, set())
    for line in prose_of(read(path)).splitlines():
        line = re.sub(r"`[^`]*`", "", line)
        found = re.findall(r"\b\d+(?:\.\d+)?e-\d+", line)
        if re.search(r"mAP|mIoU", line):
            found += re.findall(r"\b0\.\d{2,3}\b", line)
        assert set(found) <= quoted, f"{path.name}: {line}"


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_a_measured_number_has_a_command_beside_it(path):
    for section in re.split(r"^## ", read(path), flags=re.M):
        difference, accuracy = r"\b\d+(\.\d+)?e-\d", r"(mAP|mIoU)[^|\n]{0,30}\b0\.\d\d|\b0\.\d\d[^|\n]{0,30}(mAP|mIoU)"
        if re.search(f"{difference}|{accuracy}", prose_of(section)):
            assert "```bash" in section or "`python " in section or "docs/" in section, f"{path.name}: {section[:60]}"


# The options of what a row of the READMEs counts, where they are not the default ones.
COUNTED = dict.fromkeys([name for name in nets.NETS if name != "ssd512"], [{}])
COUNTED |= {"pspnet": [{"aux": False}], "deeplabv3plus": [{}, {"backbone": "resnet50"}],
            "segformer": [{}, {"size": "b2"}], "detr": [{"norm": "frozen"}], "hrnet": [{}, {"ocr": True}]}


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_of_the_readmes(name):
    """The table counts what the networks have; built on the device "meta", which takes no memory."""
    for readme in READMES:
        row = next(line for line in read(readme).splitlines() if line.startswith(f"| `{name}`"))
        cell = row.split("|")[3]
        counts = [int(number.replace(",", "")) for number in re.findall(r"\d+(?:,\d{3})+", cell)]
        classes = [int(number) for number in re.findall(r"(\d+)[)）]", cell)]
        for options, count, number in zip(COUNTED[name], counts, classes):
            with torch.device("meta"):
                model = nets.build(name, number, **options)
            assert sum(p.numel() for p in model.parameters()) == count
