"""The two READMEs are twins, their commands and links are real, and the docs in both languages correspond."""
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "en").glob("*.md"))
TWINS = [(ROOT / "README.md", ROOT / "README.zh-CN.md"), *((page, ROOT / "docs" / "zh" / page.name) for page in PAGES)]


def parts(path):
    """Heading levels, code blocks, pictures, and the code words in tables and text, in order."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"```.*?```", text, re.S)
    rest = re.sub(r"```.*?```", "", text, flags=re.S)
    return re.findall(r"^(#+) ", rest, re.M), blocks, re.findall(r"!\[.*?\]\((.*?)\)", rest), sorted(re.findall(r"`[^`]+`", rest))


@pytest.mark.parametrize("english, chinese", TWINS, ids=lambda p: p.name)
def test_twins(english, chinese):
    assert chinese.is_file(), f"{english} has no Chinese twin"
    for one, two in zip(parts(english), parts(chinese)):
        assert one == two


def test_no_chinese_page_alone():
    assert {p.name for p in (ROOT / "docs" / "zh").glob("*.md")} == {p.name for p in (ROOT / "docs" / "en").glob("*.md")}


@pytest.mark.parametrize("path", [p for pair in TWINS for p in pair] + [ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name)
def test_links_and_scripts_exist(path):
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (path.parent / link).exists(), f"{path.name} links to {link}"
    for script in re.findall(r"python ([\w/]+\.py)", text):
        assert (ROOT / script).is_file(), f"{path.name} names {script}"


def test_commands_use_variables_that_exist():
    for path in (ROOT / "README.md", *PAGES):
        for script, words in re.findall(r"python ([\w/]+\.py)((?: [\w/.-]+=\S+?)*)(?=[`\n ])", path.read_text(encoding="utf-8")):
            for name in re.findall(r" (\w+)=", words):
                assert re.search(rf"^{name} = ", (ROOT / script).read_text(encoding="utf-8"), re.M), f"{path.name}: {script} has no variable {name}"


def test_recipes_fit_their_script():
    for recipe in (ROOT / "recipes").glob("*.py"):
        for name in re.findall(r"^(\w+) =", recipe.read_text(encoding="utf-8"), re.M):
            assert re.search(rf"^{name} = ", (ROOT / "train.py").read_text(encoding="utf-8"), re.M), f"{recipe.name}: {name}"


def test_ci_runs_what_the_readme_says():
    command = "pip install -r requirements-dev.txt && python -m pytest"
    assert next(line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if "python -m pytest" in line) == command
    assert "README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
