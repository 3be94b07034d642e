"""With how many threads a training on a CPU computes, where other programs want the cores too.

PyTorch takes a thread for every core. In each layer all of them wait for the last one, so where another
program holds one core, all cores stand still: with fewer threads the same step is then several times faster.
On a quiet machine nothing is tried and nothing changes. Another number of threads adds up floats in another
order, so a line says so, the number is saved, and a resumed run begins with it.
"""
import math
import os
import time
from dataclasses import dataclass, field

import torch

from utils.evaluate import to_device
from utils.settings import counted
from utils.system import distributed
from utils.system.device import autocast
from utils.training.accidents import first_batch, unchanged

GIVEN = "OMP_NUM_THREADS"       # whoever sets it has chosen
FREE = 0.75                     # of their cores' time threads get on a quiet machine, and more
BETTER = 0.8                    # another number is taken if a step takes at most this share of the time
SPAN = 20.0                     # seconds over which is looked how much time they get
PAUSE = 60.0                    # seconds between two trials, at least
COST = 50                       # fewer threads are tried again after so many times what the last trial took


@dataclass
class Watch:
    """Since when the time of the threads is counted, and how many there could be."""
    most: int = field(default_factory=lambda: torch.get_num_threads())
    wall: float = field(default_factory=time.perf_counter)      # seconds of the clock
    used: float = field(default_factory=time.process_time)      # seconds of all cores that this process got
    tried: float = -math.inf                                    # by the clock: when the last trial ended
    cost: float = 0.0                                           # seconds that it took


def may_choose(s, device):
    """Whether the number of threads is ours to choose: on a CPU, in one process, not fixed by the user."""
    alone = device.type == "cpu" and distributed.world() == 1
    return alone and GIVEN not in os.environ and not s.deterministic


def as_before(s, device, then):
    """A resumed run computes with as many threads as it did when it was saved. -> Watch.

    then: its circumstances; None: a new run.
    """
    watch = Watch()
    saved = then.get("threads") if isinstance(then, dict) else None
    if isinstance(saved, int) and 1 <= saved <= torch.get_num_threads() and may_choose(s, device):
        torch.set_num_threads(saved)
    return watch


def choose_first(s, training):
    """At the start of a new run: one step shows whether the cores are free; only if not, others are tried."""
    if s.resume or torch.get_num_threads() == 1 or not may_choose(s, training.device):
        return
    data = training.train_data
    batch = first_batch(data, min(s.batch_size, len(data)), training.device)
    watch = Watch()
    seconds = time_step(training, *batch)
    if is_busy(watch):
        try_fewer(training, batch, seconds)


def keep_pace(s, training, images, targets):
    """While learning: if the threads no longer get their cores, or may have them again, choose anew.

    images, targets: of the last step, as they came from the loader.
    """
    watch, now = training.watch, time.perf_counter()
    if now - watch.wall < SPAN or training.watch.most == 1 or not may_choose(s, training.device):
        return

    # A trial on a taken machine is slow, so it is seldom; whether cores are free again is seen beforehand.
    since = now - watch.tried
    busy = since > max(PAUSE, COST * watch.cost) and is_busy(watch) and torch.get_num_threads() > 1
    free = since > PAUSE and torch.get_num_threads() < training.watch.most and are_cores_free()
    if busy or free:
        batch = to_device(images, targets, training.device)
        seconds = time_step(training, *batch)
        (try_fewer if busy else try_more)(training, batch, seconds)
        watch.tried = time.perf_counter()
        watch.cost = watch.tried - now
    watch.wall, watch.used = time.perf_counter(), time.process_time()


def is_busy(watch):
    """Whether since then the threads got clearly less time than there is on as many cores."""
    wall, used = time.perf_counter() - watch.wall, time.process_time() - watch.used
    return used < FREE * wall * torch.get_num_threads()


def are_cores_free():
    """Whether, in the last minute, others left cores to this process beyond those that it uses now."""
    if not hasattr(os, "getloadavg"):                       # Windows: fewer threads stay fewer
        return False
    return os.getloadavg()[0] + 0.5 < (os.cpu_count() or 1)


def try_fewer(training, batch, seconds):
    """Half as many threads, and half of that, as long as a step gets clearly faster: on a taken machine a
    single step with too many can last a minute. seconds: that it lasts with as many as now.
    """
    before, times = torch.get_num_threads(), {torch.get_num_threads(): seconds}
    best = before
    while best > 1:
        times[best // 2] = time_with(training, batch, best // 2)
        if times[best // 2] > BETTER * times[best]:
            break
        best //= 2
    settle(training, best, before, times, "other programs use the cores")


def try_more(training, batch, seconds):
    """All threads again, if a step is clearly faster with them. seconds: that it lasts now."""
    before, most = torch.get_num_threads(), training.watch.most
    times = {before: seconds, most: time_with(training, batch, most)}
    best = most if times[most] <= BETTER * seconds else before
    settle(training, best, before, times, "the cores are free again")


def settle(training, best, before, times, why):
    """From now on with `best` threads, which is saved and, if it is another number, said."""
    torch.set_num_threads(best)
    training.circumstances["threads"] = best
    if best != before:
        tried = ", ".join(f"{seconds:.2g} s with {number}" for number, seconds in times.items())
        training.say(f"Threads     {best} of {training.watch.most}, because {why}: a step takes {tried}. "
                     f"From here on numbers can differ in the last digits from those with "
                     f"{counted(before, 'thread')}; {GIVEN}={training.watch.most} fixes the number.")


def time_with(training, batch, number):
    """-> seconds of a step with so many threads, the faster of two: the first one has to prepare."""
    torch.set_num_threads(number)
    return min(time_step(training, *batch) for _ in range(2))


def time_step(training, images, targets):
    """-> seconds that forward and backward take. Nothing of the training changes."""
    with unchanged(training.model), torch.random.fork_rng([]):
        began = time.perf_counter()
        with autocast(training.device, training.precision):
            losses = training.model(images, targets)[1]
        sum(losses.values()).backward()
        return time.perf_counter() - began
