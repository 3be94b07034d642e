"""A busy machine: fewer threads where they are faster, said and saved; on a quiet one, or where the user chose, nothing happens."""
from types import SimpleNamespace

import pytest
import torch
from small_nets import make_targets, small

from utils.training import threads

CPU = torch.device("cpu")
FREE = SimpleNamespace(deterministic=False, resume=None)


@pytest.fixture
def run(monkeypatch):
    """A run on a machine of four cores; what it says is in `said`, how long a step takes with so many threads in `seconds`."""
    monkeypatch.delenv(threads.GIVEN, raising=False)
    before, said, now = torch.get_num_threads(), [], [4]
    monkeypatch.setattr(torch, "set_num_threads", lambda number: now.__setitem__(0, number))
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
    training = SimpleNamespace(said=said, say=said.append, device=CPU, circumstances={"threads": 4}, watch=threads.Watch(),
                               seconds={1: 1.0, 2: 1.0, 4: 1.0}, tried=[])

    def time_step(training, *_):
        training.tried.append(now[0])
        return training.seconds[now[0]]
    monkeypatch.setattr(threads, "time_step", time_step)
    yield training
    monkeypatch.undo()
    assert torch.get_num_threads() == before


def pass_time(training, monkeypatch, seconds, share):
    """So many seconds later, in which the threads got this share of as many cores."""
    wall, used = training.watch.wall + seconds, training.watch.used + share * seconds * torch.get_num_threads()
    monkeypatch.setattr(threads, "time", SimpleNamespace(perf_counter=lambda: wall, process_time=lambda: used))


@pytest.mark.parametrize("seconds, best, tried", [({1: 1.0, 2: 3.0, 4: 9.0}, 1, [4, 2, 2, 1, 1]), ({1: 3.0, 2: 1.0, 4: 9.0}, 2, [4, 2, 2, 1, 1]),
                                                  ({1: 0.9, 2: 1.0, 4: 1.0}, 4, [4, 2, 2])])
def test_what_is_clearly_faster_is_kept_and_said(run, monkeypatch, seconds, best, tried):
    run.seconds = seconds
    pass_time(run, monkeypatch, 30, 0.5)
    threads.keep_pace(FREE, run, torch.zeros(1), [])
    assert torch.get_num_threads() == run.circumstances["threads"] == best and run.tried == tried
    if best == 4:
        assert not run.said
    else:
        assert run.said[0].startswith(f"Threads     {best} of 4, because other programs use the cores: a step takes 9 s with 4, ")
        assert run.said[0].endswith("OMP_NUM_THREADS=4 fixes the number.")


def test_a_quiet_machine_tries_nothing(run, monkeypatch):
    pass_time(run, monkeypatch, 30, 0.95)
    threads.keep_pace(FREE, run, torch.zeros(1), [])
    assert not run.tried and run.watch.wall == threads.time.perf_counter()


def test_when_the_cores_are_free_again_all_are_used(run, monkeypatch):
    torch.set_num_threads(1)
    run.seconds = {1: 3.0, 4: 1.0}
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("os.getloadavg", lambda: (4.2, 0, 0), raising=False)
    pass_time(run, monkeypatch, 30, 1.0)
    threads.keep_pace(FREE, run, torch.zeros(1), [])
    assert not run.tried                                                # somebody else has them
    monkeypatch.setattr("os.getloadavg", lambda: (1.1, 0, 0))
    pass_time(run, monkeypatch, 30, 1.0)
    threads.keep_pace(FREE, run, torch.zeros(1), [])
    assert torch.get_num_threads() == 4 and "the cores are free again" in run.said[0]

    # The next trial waits.
    tried = len(run.tried)
    pass_time(run, monkeypatch, 30, 0.1)
    threads.keep_pace(FREE, run, torch.zeros(1), [])
    assert len(run.tried) == tried


def test_a_slow_trial_delays_only_the_next_slow_one(run, monkeypatch):
    """On a taken machine a trial takes long, and is seldom; when the cores are free a minute later, they are used."""
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("os.getloadavg", lambda: (1.1, 0, 0), raising=False)
    run.seconds, run.watch.tried, run.watch.cost = {1: 3.0, 2: 2.0, 4: 1.0}, run.watch.wall, 16.0
    pass_time(run, monkeypatch, 70, 0.1)
    threads.keep_pace(FREE, run, torch.zeros(1), [])
    assert not run.tried
    torch.set_num_threads(1)
    pass_time(run, monkeypatch, 70, 1.0)
    threads.keep_pace(FREE, run, torch.zeros(1), [])
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("why", ["given", "deterministic", "gpu", "processes"])
def test_who_has_chosen_is_not_asked(run, monkeypatch, why):
    s = SimpleNamespace(deterministic=why == "deterministic", resume=None)
    if why == "given":
        monkeypatch.setenv(threads.GIVEN, "4")
    if why == "gpu":
        run.device = torch.device("cuda")
    if why == "processes":
        monkeypatch.setattr("utils.system.distributed.world", lambda: 2)
    pass_time(run, monkeypatch, 30, 0.1)
    threads.keep_pace(s, run, torch.zeros(1), [])
    threads.choose_first(s, run)
    threads.as_before(s, run.device, {"threads": 2})
    assert not run.tried and torch.get_num_threads() == 4


@pytest.mark.parametrize("then, number", [({"threads": 2}, 2), ({"threads": 8}, 4), ({}, 4), (None, 4)])
def test_a_resumed_run_goes_on_with_as_many(run, then, number):
    """More than there are cannot be had; `changes` says so."""
    assert threads.as_before(FREE, CPU, then).most == 4 and torch.get_num_threads() == number


def test_a_trial_changes_nothing():
    """Not a bit of the weights, of BatchNorm's statistics or of the stream of random numbers."""
    model, shape = small("ssdlite320_mobilenet_v3")
    before = {name: value.clone() for name, value in model.train().state_dict().items()}
    batch = torch.rand(2, 3, *shape), make_targets("detection", shape, 2, 1)
    stream = torch.get_rng_state()
    assert threads.time_step(SimpleNamespace(model=model, device=CPU, precision=None), *batch) > 0
    assert torch.equal(stream, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()) and all(p.grad is None for p in model.parameters())
