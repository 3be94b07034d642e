"""Killed at any moment and resumed, a training ends with the very bits of the one that nobody touched. A frozen backbone does not move by one.

kill -9 is sent by the training to itself, at one of some 320 moments of it (see torture_server.py); what ends is compared with tolerance 0:
every tensor of network, moving average and optimizer, the history, the bytes of best.pth.
"""
import random
from types import SimpleNamespace

import pytest
import torch
from torture import FAMILIES, LINUX, TUNED, differences, write_start

from utils import steps
from utils.errors import UserError
from utils.training import resume

pytestmark = LINUX
POINTS = 50                                             # independent kills of each family, half of them with two workers
CHAINS, LINKS = 3, 10
SAMPLE = (["before utils.steps.make_optimizer", 0], ["after train.step", 1], ["before os.replace", 1], ["before utils.steps.set_frozen", 3],
          ["after train.evaluate_epoch", 0])            # for every day: at start-up, in a step, in a save, at freeze -> unfreeze, in an evaluation
KINDS = {"start-up": (4, ("train.complete", "make_data", "new_folder", "write_settings", "begin_training", "try_step", "make_optimizer")),
         "step": (22, ("clip_grad", ".step", "MovingAverage")),
         "save": (10, ("keep.save", "size_of", "torch.save", "seal", "fsync", "replace")),
         "evaluation": (8, ("evaluate", "suppress", "classify", "end_epoch", "log.write_epoch")),
         "freeze": (6, ())}


EVERY_DAY = ("yolo", "tuned")                            # the others are trained and killed in the torture tier
ALL = [name if name in EVERY_DAY else pytest.param(name, marks=pytest.mark.torture) for name in (*FAMILIES, "tuned")]


@pytest.fixture(scope="module", params=ALL)
def family(request, server):
    """-> words, the moments of the whole run, its fingerprint. tuned: from trained weights, in a precision that these weights decided."""
    words = FAMILIES.get(request.param, TUNED)
    if request.param == "tuned":
        write_start(server.project / "start.pth")
        server.always = [["precision_by_weights"]]
    answer, whole = server.whole(*words)
    assert answer["moments"].count("after train.evaluate_epoch") == 2 and answer["moments"].count("after train.step") == 13
    if request.param == "tuned":
        assert "amp = None" in next(server.logs().glob("*/settings.py")).read_text(encoding="utf-8") and "mixed precision bfloat16" in answer["out"]
    yield words, answer["moments"], whole
    server.always = []


def points(moments, rng):
    """Numbers of moments, so many of each kind."""
    unfreeze = [number for number, name in enumerate(moments) if name == "before utils.steps.set_frozen"][3]
    first_step = moments.index("before utils.steps.set_frozen", moments.index("after train.begin_training"))
    chosen = []
    for kind, (count, names) in KINDS.items():
        if kind == "freeze":
            fitting = range(unfreeze - 8, unfreeze + 12)
        else:
            fitting = [number for number, name in enumerate(moments) if any(part in name for part in names)
                       and (kind == "start-up") == (number < first_step)]
        chosen += rng.sample(list(fitting), count)
    return chosen


def test_kills_in_one_run(server, family):
    """Five of a run from random weights, three of one from trained weights."""
    words, _, whole = family
    first, *others = SAMPLE[::2] if words == TUNED else SAMPLE
    server.clear()
    assert server.run(*words, at=[first])["status"] == -9
    for moment in others:
        assert server.run("resume=True", at=[moment])["status"] == -9, moment
    assert not differences(whole, server.finish())
    assert "already done its 3 epochs. To go on: epochs=13" in server.run("resume=True", status=1)["out"]


@pytest.mark.torture
@pytest.mark.parametrize("number", range(POINTS))
def test_a_kill_anywhere(server, family, number):
    words, moments, whole = family
    workers = (f"num_workers={2 * (number % 2)}",)
    at = points(moments, random.Random(str(words)))[number]
    server.clear()
    assert server.run(*words, *workers, at=[at], leave=True)["status"] == -9
    assert not differences(whole, server.finish(*words, *workers)), (at, moments[at])


@pytest.mark.torture
@pytest.mark.parametrize("chain", range(CHAINS))
def test_killed_ten_times_in_a_row(server, family, chain):
    words, moments, whole = family
    rng, workers, killed = random.Random(f"{words} {chain}"), f"num_workers={2 * (chain % 2)}", 0
    server.clear()
    begun = False
    while killed < LINKS:
        start = 40 if begun else 25                     # moments until a training takes its first step
        answer = server.run(*(("resume=True",) if begun else words), workers, at=[rng.randrange(start, start + 60)], leave=True)
        if answer["status"] == 0 or "already done" in answer["out"]:
            break
        killed, begun = killed + 1, any(server.logs().glob("*/settings.py"))
    assert killed >= 5 and not differences(whole, server.finish(*words, workers)), killed


@pytest.mark.torture
def test_longer(server):
    """epochs=... on resume: what is still to do follows the longer schedule. Killed in that part too it ends with the bits of a run that was not;
    and where nothing depends on how many epochs there are (schedule=constant, no last epochs without mosaic), with those of a run of that length."""
    words = (*FAMILIES["yolo"], "schedule=constant", "plain_share=0.0", "small_share=0.0", "freeze_epochs=1", "epochs=2", "save_minutes=2.5")
    server.whole(*words)
    assert server.run("resume=True", "epochs=4", at=[["after train.step", 5]])["status"] == -9
    extended = server.finish()
    _, long = server.whole(*words, "epochs=4")
    about = {"best.pth", "last.settings.epochs", "last.training.history.0.epochs", "last.training.history.1.epochs"}     # what it says about itself
    assert set(differences(extended, long)) <= about


@pytest.mark.parametrize("moment", [["before utils.training.log.write_settings", 0], ["after utils.training.log.write_settings", 0]])
def test_killed_before_anything_was_saved(server, moment):
    """Once settings.py is there the run begins anew in its folder, with these settings; before that there is no run."""
    server.clear()
    assert server.run(*FAMILIES["yolo"], "epochs=1", "seed=11", at=[moment])["status"] == -9
    answer = server.run("resume=True", at=[["after train.begin_training", 0]])
    if moment[0].startswith("after utils.training.log"):
        (folder,) = server.logs().iterdir()
        lines = (folder / "train.log").read_text(encoding="utf-8").splitlines()
        assert answer["status"] == -9 and lines[-1] and any(line.split()[:2] == ["seed", "11"] and "resumed run" in line for line in lines)
        assert "\nseed = 11\n" in (folder / "settings.py").read_text(encoding="utf-8")
    else:
        assert answer["status"] == 1 and "there is no run to go on with" in answer["out"]


@pytest.mark.torture
@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_means_frozen(server, name):
    """Through train.main: after the freeze stage not a bit of the backbone has moved, its BatchNorm statistics and their counters included,
    nor of its moving average; and everything else has."""
    states = []
    # before the first step; after the freeze stage
    for moment in (["before utils.steps.set_frozen", 2], ["after utils.training.keep.save", 2]):
        server.clear()
        assert server.run(*FAMILIES[name], at=[moment], faults=[["save_before_the_first_step"]])["status"] == -9
        (path,) = server.logs().glob("*/last.pth")
        states.append(torch.load(path, weights_only=True))
    before, after = states
    assert (before["epoch"], after["epoch"]) == (0, 1)
    for one, two in ((before["training"]["model"], after["training"]["model"]), (before["model"], after["model"])):
        moved = {name for name in one if not torch.equal(one[name], two[name])}
        assert moved and not any(name.startswith("backbone.") for name in moved)
        rest = {name for name in one if name.endswith(("conv.weight", "running_mean")) and not name.startswith("backbone.")}
        assert rest and rest <= moved


def test_a_restored_state_is_the_saved_one(tmp_path):
    """What travels through training_state and restore: optimizer, scaler, the steps of the moving average, the sums of a begun epoch."""
    torch.manual_seed(0)

    def made():
        model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
        groups = [{"params": list(model.parameters()), "weight_decay": 0.1}]
        return model, steps.MovingAverage(model), torch.optim.AdamW(groups), torch.amp.GradScaler("cpu", init_scale=256.0)
    model, average, solver, scaler = made()
    for _ in range(3):
        scaler.scale(model(torch.rand(4, 3)).sum()).backward()
        scaler.step(solver)
        scaler.update(512.0)
        average.update()
    progress = resume.Progress(epoch=2, step=3, batch=4, sums={"box": torch.tensor(1.1)}, seen=12, clock=5.0, history=[{"epoch": 1}, {"epoch": 2}],
                               seconds=[1.0, 2.0], best=-1.0, waited=1)
    training = SimpleNamespace(model=model, average=average, solver=solver, scaler=scaler, progress=progress,
                               lists={}, circumstances={})
    saved = {"model": average.model.state_dict(), "training": resume.training_state(training), "epoch": 2}
    torch.save(saved, tmp_path / "last.pth")
    other = made()
    back = SimpleNamespace(**dict(zip(("model", "average", "solver", "scaler"), other)), run=tmp_path, device="cpu", say=print)
    resume.restore(torch.load(tmp_path / "last.pth", weights_only=True), back)
    assert vars(back.progress) == vars(progress)
    assert other[1].steps == 3 and other[3].get_scale() == 512.0
    for one, two in ((model, other[0]), (average.model, other[1].model)):
        assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values()))
    for name, value in solver.state_dict()["state"][0].items():
        assert torch.equal(value, other[2].state_dict()["state"][0][name]), name


def test_every_step_has_a_seed_of_its_own():
    seeds = [steps.step_seed(seed, epoch, step) for seed in (0, 1) for epoch in range(4) for step in range(50)]
    assert len(set(seeds)) == len(seeds)


def test_another_batch_size_goes_on_behind_the_pictures_that_were_seen():
    progress = resume.Progress(step=3, batch=4, seen=12)
    assert progress.first_step(4) == 3 and progress.first_step(8) == 1 and progress.step == 1 and progress.batch == 8


def test_a_run_keeps_its_network():
    state = {"settings": {"optimizer": "sgd", "ema": True}, "net": "ssd300", "class_names": ["a"], "input_shape": [300, 300]}
    now = {"net": "ssd300", "input_shape": (300, 300), "optimizer": "sgd", "ema": True}
    resume.check_same_run(state, SimpleNamespace(**now), ["a"], resume.ROOT / "logs")
    for change in ({"net": "ssd512"}, {"input_shape": (512, 512)}, {"optimizer": "adam"}, {"ema": False}):
        with pytest.raises(UserError, match="cannot be resumed"):
            resume.check_same_run(state, SimpleNamespace(**now | change), ["a"], resume.ROOT / "logs")
    with pytest.raises(UserError, match="cannot be resumed"):
        resume.check_same_run(state, SimpleNamespace(**now), ["b"], resume.ROOT / "logs")

