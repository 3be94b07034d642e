"""What a team keeps beside its code: the files parse, and the commands that they name exist."""
import ast
import json
import re

import pytest
import yaml

from utils.settings import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
PRE_COMMIT = ROOT / ".pre-commit-config.yaml"
PAGES = ["CONTRIBUTING.md", "SECURITY.md", "Makefile", ".github/PULL_REQUEST_TEMPLATE.md", "docs/en/architecture.md", *(
    path.relative_to(ROOT).as_posix() for path in [*WORKFLOWS, *FORMS])]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
CHECKERS = ("ruff", "codespell", "mypy")


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def targets():
    """The targets of the Makefile -> the commands of each."""
    found, target = {}, None
    for line in read("Makefile").splitlines():
        if head := re.match(r"([a-z]+):(?!=)", line):
            target = found.setdefault(head[1], [])
        elif line.startswith("\t"):
            target.append(line.strip().lstrip("@"))
    return found


def test_targets_of_make():
    wanted = {"test", "quick", "lint", "slow", "torture", "docs"}
    found = targets()
    assert wanted <= found.keys() and all(found.values())
    (phony,) = re.findall(r"^\.PHONY: (.*)$", read("Makefile"), re.M)
    assert set(phony.split()) == found.keys()
    assert [command.split()[0] for command in found["lint"]] == list(CHECKERS)


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page):
    text = read(page)
    for script in re.findall(r"(?:python|\$\(PYTHON\)) ([\w/]+\.py)", text):
        assert (ROOT / script).is_file(), f"{page} names {script}"
    for place in re.findall(r"\btests/[\w/.]*\w", text):
        assert (ROOT / place).exists(), f"{page} names {place}"
    for target in re.findall(r"(?:`|run: |^)make ([a-z]+)", text, re.M):
        assert target in targets(), f"{page} names make {target}"
    for marker in re.findall(r"pytest.* -m (\w+)", text):
        assert f'"{marker}: ' in PROJECT, f"{page} names the marker {marker}"


def test_contributing_names_every_tier():
    text = read("CONTRIBUTING.md")
    assert all(f"-m {marker}" in text for marker in ("slow", "torture"))
    assert all(re.search(rf"^{name}\b", text, re.M) for name in CHECKERS)
    assert all(re.search(rf"^{name}[>=]", read("requirements-dev.txt"), re.M) for name in (*CHECKERS, "pytest-cov"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows(path):
    content = load(path)
    assert {"name", True, "permissions", "jobs"} <= content.keys()              # `on` is a truth value for YAML 1.1
    for name, job in content["jobs"].items():
        assert {"runs-on", "steps", "timeout-minutes"} <= job.keys(), name
        assert all(("uses" in step) != ("run" in step) for step in job["steps"]), name


def test_the_workflow_covers_what_is_promised():
    jobs = load(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    oldest = re.search(r"torch>=([\d.]+)", read("requirements.txt"))[1]
    assert {system.split("-")[0] for system in matrix["os"]} == {"ubuntu", "windows", "macos"}
    assert set(matrix["python"]) == {re.search(r'requires-python = ">=([\d.]+)"', PROJECT)[1], "3.x"}
    assert {row["torch"].split()[0] for row in matrix["include"]} == {f"torch=={oldest}.*", "torch"}
    assert {row["python"] for row in matrix["include"]} == set(matrix["python"])
    assert set(jobs["make"]["strategy"]["matrix"]["target"]) <= targets().keys()
    assert [step["run"] for step in jobs["test"]["steps"] if "run" in step][-1] == targets()["test"][0].replace("$(PYTHON)", "python")


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_forms(path):
    form = load(path)
    assert {"name", "description", "body"} <= form.keys()
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in fields}) == len(fields) and all(part["attributes"]["label"] for part in fields)
    assert "`python tools/doctor.py`" in next(part for part in fields if part["id"] == "doctor")["attributes"]["description"]
    assert all(re.search("[\u4e00-\u9fff]", part["attributes"]["label"]) for part in fields), "the labels are in both languages"


def test_the_form_for_problems_asks_for_the_report():
    doctor = next(part for part in load(ROOT / ".github" / "ISSUE_TEMPLATE" / "problem.yml")["body"] if part.get("id") == "doctor")
    assert doctor["validations"]["required"] is True


def test_pre_commit():
    hooks = {hook["id"]: repo for repo in load(PRE_COMMIT)["repos"] for hook in repo["hooks"]}
    assert {"ruff-check", "end-of-file-fixer", "check-added-large-files", "codespell"} <= hooks.keys()
    assert all(re.fullmatch(r"v\d+\.\d+\.\d+", repo["rev"]) for repo in hooks.values())


def test_citation():
    content = load(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= content.keys()
    assert content["authors"] == [{"name": "The PlainVision authors"}]
    assert f'version = {json.dumps(str(content["version"]))}' in PROJECT and f'license = "{content["license"]}"' in PROJECT


def test_the_map_shows_every_room():
    """docs/en/architecture.md names every module of utils, and no file that is not there."""
    text = read("docs/en/architecture.md")
    for path in sorted((ROOT / "utils").rglob("*.py")):
        file, room = path.relative_to(ROOT).as_posix(), path.relative_to(ROOT).parent.as_posix()
        (row,) = re.findall(rf"^\| `{room}` \|.*$", text, re.M)
        shown = f"`{path.stem}`" in row if room != "utils" else f"`{file}`" in text
        assert shown or path.name == "__init__.py", f"{file} is missing on the map"
    for file in re.findall(r"`((?:nets|utils|tools|tests)/[\w/]+\.py)`", text):
        assert (ROOT / file).is_file(), file


def test_the_map_has_the_floors():
    rows = re.findall(r"^\| `([\w/.]+)` \| (\d+) \|", read("docs/en/architecture.md"), re.M)
    floors = {room.removesuffix(".py").replace("/", "."): int(floor) for room, floor in rows}
    table = next(node.value for node in ast.parse(read("tests/project/test_floors.py")).body
                 if isinstance(node, ast.Assign) and node.targets[0].id == "ROOMS")
    assert floors == {room: floor for room, floor in ast.literal_eval(table).items() if floor < 10}
