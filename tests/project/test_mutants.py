"""The code broken on purpose, in one place at a time: the tests notice. A mutant: a line of a file, what it becomes, the tests that see it."""
import os
import shutil
import subprocess
import sys

import pytest
from torture import LINUX, ROOT

pytestmark = LINUX
KILLS = "tests/training/test_resume.py::test_kills_in_one_run"
YOLO, DEEPLAB = (f"{KILLS}[{name}]" for name in ("yolo", "deeplab"))
STATE = "tests/training/test_resume.py::test_a_restored_state_is_the_saved_one"
CUT, DISK = "tests/training/test_saves.py::test_a_power_cut", "tests/training/test_saves.py::test_a_disk_that_fails"
DAMAGED, STEPS = "tests/training/test_damaged.py", "tests/spine/test_steps.py"
HANDLER = "tests/training/test_signals.py::test_handler"
MUTANTS = {
    "no fsync": ("utils/checkpoint.py", "            os.fsync(file.fileno())\n", "", CUT),
    "no flush": ("utils/checkpoint.py", "            file.flush()\n", "", CUT),
    "no fsync of the folder": ("utils/system/files.py", "                os.fsync(handle)\n", "                pass\n", CUT),
    "written in place": ("utils/system/files.py", 'path.with_name(f"{name}.{os.getpid()}.plainvision.part")', "path", DISK),
    "a broken part stays": ("utils/system/files.py", "            part.unlink()\n    if sync", "            pass\n    if sync", DISK),
    "the room is not looked at": ("utils/checkpoint.py", "< needed:", "< 0:", DISK),
    "the SHA-256 is not checked": ("utils/checkpoint.py", "if sealed and hash_of", "if False and hash_of", DAMAGED + "::test_every_byte"),
    "a lost SHA-256 is no matter": ("utils/checkpoint.py", ">= 2 and not sealed", ">= 9 and not sealed", DAMAGED),
    "the checksums are not checked": ("utils/checkpoint.py", "archive.testzip()", "None", DAMAGED + "::test_without_its_seal"),
    "pickles are executed": (
        "utils/checkpoint.py",                              # both walls: the walk through the file, and PyTorch's own
        '        if begins_with(path, b"PK\\x03\\x04"):            # as torch.load decides it\n            check_archive(path)\n'
        '        else:\n            check_old(path)\n        content = torch.load(path, map_location="cpu", weights_only=True)\n',
        '        content = torch.load(path, map_location="cpu", weights_only=False)\n',
        "tests/training/test_damaged.py::test_foreign_code_does_not_run"),
    "BatchNorm learns while frozen": ("utils/steps.py", "    model.backbone.train(not frozen)\n", "", STEPS + "::test_frozen_means_frozen"),
    "weights learn while frozen": (
        "utils/steps.py", "requires_grad_(not frozen)",
        "requires_grad_(True)", STEPS + "::test_frozen_means_frozen"),
    "augmentation from the worker's seed": (
        "utils/dataset.py", 'random.Random(f"{self.seed} {epoch} {index}")',
        "random.Random(torch.initial_seed())", "tests/spine/test_dataset.py"),
    "every epoch the same": ("utils/dataset.py", 'f"{self.seed} {epoch} {index}"', 'f"{self.seed} {index}"', "tests/spine/test_dataset.py"),
    "the learning rate from a counter": (
        "train.py", "    steps.set_lr(solver, training.full_lr, place, s)\n",
        "    training.last_count = getattr(training, 'last_count', 0) + 1\n"
        "    steps.set_lr(solver, training.full_lr, training.last_count / 5, s)\n", YOLO),
    "saved before the epoch has ended": (
        "utils/training/keep.py", "        save(s, training, better)\n\n",
        "        progress.epoch -= 1\n        save(s, training, better)\n        progress.epoch += 1\n\n", YOLO),
    "the optimizer is forgotten": ("utils/training/resume.py", '    steps.load_moments(training.solver, saved["optimizer"])\n', "", STATE),
    "the average's steps are forgotten": ("utils/training/resume.py", '        average.steps = saved["ema_steps"]\n', "", STATE),
    "the scaler is forgotten": ("utils/training/resume.py", '        scaler.load_state_dict(saved["scaler"])\n', "        pass\n", STATE),
    "the sums of the epoch are forgotten": (
        "utils/training/resume.py", "for name, value in progress.sums.items()}\n    within",
        "for name, value in ()}\n    within", STATE),
    "the seed of a step is constant": (
        "utils/steps.py", " + epoch * 100_003 + step)",
        ")", "tests/training/test_resume.py::test_every_step_has_a_seed_of_its_own"),
    "the precision is decided anew": (
        "utils/training/begin.py", 'if s.origin["amp"] != "resumed run" or s.amp is None:', "if True:", f"{KILLS}[tuned]"),
    "steps are not seeded": (
        "train.py",
        "    torch.manual_seed(seed)                                     # for dropout and all that is random in it\n",
        "", DEEPLAB),
    "an epoch begins anew": ("train.py", "progress.epoch, progress.first_step(sampler.batch_size)", "progress.epoch, 0", YOLO),
    "shares of the wrong process": (
        "utils/system/distributed.py", "return rank() * per, (rank() + 1) * per",
        "return (world() - 1 - rank()) * per, (world() - rank()) * per", "tests/training/test_processes.py::test_sampler_shares"),
    "losses divided by the own share": (
        "utils/system/distributed.py", "    dist.all_reduce(number)\n    return (number / world())",
        "    return (number / 1)", "tests/training/test_processes.py::test_two_are_one[ssd]"),
    "results in any order": (
        "utils/evaluate.py", "return sorted((row for",
        "return list((row for", "tests/training/test_processes.py::test_results_come_back_in_order"),
    "no look at numbers": ("train.py", "    if not torch.isfinite(loss) or", "    if False and", "tests/training/test_accidents.py::test_nan"),
    "a second signal is not heard": ("utils/system/signals.py", "    if again:", "    if False:", HANDLER),
    "a signal in the middle of a step": ("utils/system/signals.py", 'if not asked["busy"] and ', "if ", HANDLER),
    "workers hear Ctrl-C": (
        "utils/system/signals.py", "    signal.signal(signal.SIGINT, signal.SIG_IGN)\n",
        "", "tests/training/test_signals.py::test_stopped_again_and_again"),
    "a trial leaves its statistics": (
        "utils/training/accidents.py", "                buffer.copy_(before)\n",
        "                pass\n", "tests/training/test_accidents.py::test_a_trial_changes_nothing"),
    "pieces count alike": (
        "train.py", "scaler.scale(sum(losses.values()) * share)",
        "scaler.scale(sum(losses.values()) / s.accumulate)", "tests/training/test_accidents.py::test_pieces_add_up"),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project, to be broken."""
    target = tmp_path_factory.mktemp("mutants") / "project"
    ignore = shutil.ignore_patterns("__pycache__", ".git", "VOCdevkit", "logs", "*_out", "*.pth", "*.weights", ".*_cache")
    shutil.copytree(ROOT, target, ignore=ignore)
    return target


def pytest_in(project, *words):
    """Those tests, of whatever tier."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-m", "", "-p", "no:cacheprovider", *words]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=project, capture_output=True, text=True, encoding="utf-8", env=environment)


@pytest.mark.parametrize("name", MUTANTS)
def test_is_of_this_code(name):
    """A mutant of lines that were rewritten since would show nothing."""
    file, old, new, _ = MUTANTS[name]
    assert old != new and old in (ROOT / file).read_text(encoding="utf-8"), f"{file} has no longer: {old}"


@pytest.mark.torture
@pytest.mark.parametrize("name", MUTANTS)
def test_is_noticed(copy, name):
    file, old, new, tests = MUTANTS[name]
    source = (copy / file).read_text(encoding="utf-8")
    (copy / file).write_text(source.replace(old, new), encoding="utf-8")
    try:
        ran = pytest_in(copy, "-x", tests)
    finally:
        (copy / file).write_text(source, encoding="utf-8")
    assert ran.returncode == 1 and ("FAILED tests" in ran.stdout or "ERROR tests" in ran.stdout), ran.stdout[-2000:]


@pytest.mark.torture
def test_the_unbroken_one_passes(copy):
    """Else a mutant would be noticed by a test that always fails."""
    tests = sorted({tests for _, _, _, tests in MUTANTS.values()})
    ran = pytest_in(copy, *tests)
    assert ran.returncode == 0, ran.stdout[-3000:]
