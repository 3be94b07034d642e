"""What torchrun starts in place of train.py:  torchrun --nproc_per_node=2 tests/helpers/torture_ranks.py <project> <faults as JSON> [name=value ...]

As torture_server.py's child, but with nothing forked: train.main as a user's process runs it. faults: [[rank, name, argument, ...]].
"""
import importlib
import json
import os
import sys


def main():
    project, faults, *words = sys.argv[1:]
    sys.path[:0] = [project, os.path.dirname(os.path.abspath(__file__))]
    import torch
    torch.set_num_threads(1)
    import torture_server

    import train
    from utils.settings import read_settings
    torture_server.draw_nothing()
    torture_server.count_time_in_steps(train)
    for rank, name, *arguments in json.loads(faults):
        if rank == int(os.environ["RANK"]):
            getattr(importlib.import_module("torture_faults"), name)(*arguments)
    train.signals.run(train.main, read_settings(vars(train), words))


if __name__ == "__main__":
    main()
