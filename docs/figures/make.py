"""Draw the figures of the docs again:  python docs/figures/make.py [name ...]

Each is a function that gives a page; it becomes docs/pictures/NAME.svg. Nothing is downloaded, all seeds are fixed.
"""
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from docs.figures import assignment, basics  # noqa: E402
from utils.errors import UserError, did_you_mean, speak_plainly  # noqa: E402
from utils.settings import ROOT  # noqa: E402

FUNCTIONS = (
    assignment.assignment, assignment.assign_yolo, assignment.assign_ssd, assignment.assign_retinanet, assignment.assign_yolox,
    assignment.assign_yolov8, basics.letterbox, basics.anchors_yolov3, basics.nms_steps, basics.focal_loss, basics.lr_schedules,
)
FIGURES = {function.__name__: function for function in FUNCTIONS}
FOLDER = ROOT / "docs" / "pictures"


def main(names):
    for name in names:
        if name not in FIGURES:
            raise UserError(f'There is no figure "{name}".{did_you_mean(name, FIGURES)} Known: {", ".join(FIGURES)}.')
    for name in names or FIGURES:
        start = time.process_time()
        text = FIGURES[name]().written()
        (FOLDER / f"{name}.svg").write_text(text, encoding="utf-8", newline="\n")
        print(f"docs/pictures/{name}.svg  {len(text.encode()) / 1000:.0f} kB  {time.process_time() - start:.1f} s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    speak_plainly()
    main(sys.argv[1:])
