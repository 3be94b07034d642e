"""Of several processes one may stand still: stopped (SIGSTOP), or on a machine that hangs.

A process that has ended is noticed at once, because its connections break. Of one that stands still nothing
breaks, and the others would wait for its gradients, silently. So each counts aloud, in the store that
PyTorch's processes share, and watches the next one: a ring. Busy processes count on, in a thread of their
own.
"""
import atexit
import multiprocessing
import os
import sys
import threading
from datetime import timedelta

from torch import distributed as dist

BEAT = 2.0                      # seconds between two counts
STILL = 15                      # beats without a new count, after which a process stands still
DONE = b"done"                  # the last count of a process that ended as it should

running = {"stop": None, "thread": None, "count": None}


def start_counting(rank, world):
    """Count, and watch the next process, until `stop_counting`. The processes must know each other by now."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(host, port, is_master=False, wait_for_workers=False,
                          timeout=timedelta(minutes=1))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    mine, other = (f"plainvision/{attempt}/{one % world}" for one in (rank, rank + 1))

    # Two threads: the one that asks the store hangs with it when that is what stands still.
    stop, count = threading.Event(), {"theirs": None, "lost": False, "last": None}
    asks = threading.Thread(target=exchange, args=(store, mine, other, count, stop), daemon=True)
    asks.start()
    alarm = lambda: give_up((rank + 1) % world)             # noqa: E731
    threading.Thread(target=guard, args=(count, stop, alarm), daemon=True).start()
    running.update(stop=stop, thread=asks, count=count)
    atexit.register(stop_counting, last=None)


def stop_counting(last=DONE):
    """last: what the others are told; None of a process that fails: it is the next to be noticed."""
    if running["stop"] and not running["stop"].is_set():
        running["count"]["last"] = last
        running["stop"].set()
        running["thread"].join(3 * BEAT)


def exchange(store, mine, other, count, stop):
    """Write the own count, read the other's, again and again."""
    number = 0
    try:
        while not stop.wait(BEAT):
            number += 1
            store.set(mine, str(number))
            if store.check([other]):
                count["theirs"] = store.get(other)
        if count["last"]:
            store.set(mine, count["last"])
    except RuntimeError:                                    # the store has ended, and with it a process
        count["lost"] = True


def guard(count, stop, alarm):
    """Call `alarm` when the other's count stays the same for STILL beats.

    Counted in own beats: whoever was stopped himself, together with all others, may go on with them.
    """
    before, missed = None, 0
    while not stop.wait(BEAT) and not count["lost"]:
        now = count["theirs"]
        missed = 0 if now != before or now == DONE else missed + 1
        before = now
        if missed >= STILL:
            alarm()
            return


def give_up(other):
    """End this process from a thread: its main thread waits for the one that stands still."""
    print(f"\nStopped: process {other} has not answered for {STILL * BEAT:.0f} s: it stands still, or its "
          "machine does. What was saved last is whole; end that process, then go on with  resume=True .",
          file=sys.stderr, flush=True)
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(1)
