"""What the bits of a run depend on besides its settings: noted when it begins, kept when it goes on.

Another device, another number of threads or another PyTorch adds up floats in another order. That cannot be
helped, but a note says so.
"""
import multiprocessing

import torch

from utils.system.machine import usual_start

WORDS = {"device": "on the device {}", "threads": "with {} threads", "torch": "with PyTorch {}",
         "start": "with loader processes started by {}"}


def circumstances(device, start):
    """-> plain values, to be saved. device: torch.device.  start: of `choose_start`."""
    return {"device": device.type, "threads": torch.get_num_threads(), "torch": str(torch.__version__),
            "start": start}


def choose_start(then):
    """How loader processes start: as they did when the run began, if this system can; else as is usual.

    then: the `circumstances` of a resumed run, or None.
    """
    if isinstance(then, dict) and then.get("start") in multiprocessing.get_all_start_methods():
        return then["start"]
    return usual_start()


def changes(then, now):
    """-> sentences about what is no longer as it was when the run began."""
    if not isinstance(then, dict):                          # saved before version 0.5
        return []
    return [f"NOTE: this run began {words.format(then[name])} and goes on {words.format(now[name])}: from "
            "here on its numbers can differ in the last digits from those of a run without interruption."
            for name, words in WORDS.items() if name in then and then[name] != now[name]]
