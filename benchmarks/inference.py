"""Time of one image through a detector, tensor in, boxes after NMS out: ours and torchvision's, same weights.

    python benchmarks/inference.py [networks=['ssd300']] [rounds=15]

The images and the thresholds are the same on both sides, and so are the numbers of boxes found (printed; the
heads are scaled so that there are some). Both sides run in turn, the figures are medians of the clock.
"""
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from torchvision.models import detection  # noqa: E402

import nets  # noqa: E402
from utils.evaluate import suppress  # noqa: E402
from utils.results.report import text_table  # noqa: E402
from utils.settings import read_settings  # noqa: E402
from utils.weights import load_weights  # noqa: E402

networks = ["ssd300", "ssdlite320_mobilenet_v3", "retinanet", "faster_rcnn"]   # which      哪些网络
rounds = 15                         # repetitions                               重复次数
threads = 0                         # of PyTorch; 0: as many as it chooses      线程数

# name -> torchvision's builder, and its own input (H, W), score threshold, IoU of the NMS, boxes at most
THEIRS = {"ssd300": (detection.ssd300_vgg16, (300, 300), 0.01, 0.45, 200),
          "ssdlite320_mobilenet_v3": (detection.ssdlite320_mobilenet_v3_large, (320, 320), 0.001, 0.55, 300),
          "retinanet": (detection.retinanet_resnet50_fpn, (480, 640), 0.05, 0.5, 300),
          "faster_rcnn": (detection.fasterrcnn_resnet50_fpn, (480, 640), 0.05, 0.5, 100)}


def main(s):
    if s.threads:
        torch.set_num_threads(s.threads)
    rows = [["network", "input", "ours, ms", "torchvision, ms", "ratio", "boxes, ours", "theirs"]]
    for name in s.networks:
        ours, theirs, boxes = pair(name)
        mine, others = (statistics.median(times) * 1e3 for times in race(s, ours, theirs))
        height, width = THEIRS[name][1]
        rows.append([name, f"{width} x {height}", f"{mine:.1f}", f"{others:.1f}", f"{mine / others:.2f}",
                     *(str(count) for count in boxes)])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {s.rounds}")
    print(*text_table(rows), sep="\n")


def race(s, ours, theirs):
    """-> seconds of every round of ours, of theirs. Who begins changes from round to round."""
    times = {ours: [], theirs: []}
    for turn in range(s.rounds + 2):
        for run in (ours, theirs) if turn % 2 else (theirs, ours):
            began = time.perf_counter()
            run()
            if turn >= 2:                                   # the first two warm up
                times[run].append(time.perf_counter() - began)
    return times[ours], times[theirs]


@torch.no_grad()
def pair(name):
    """-> function that runs ours, one that runs torchvision's, how many boxes each finds."""
    builder, shape, confidence, nms_iou, most = THEIRS[name]
    torch.manual_seed(0)
    sizes = {} if "ssd" in name else {"min_size": shape[0], "max_size": shape[1]}
    theirs = builder(weights=None, weights_backbone=None, num_classes=91, **sizes).eval()

    # Random heads find next to nothing: make them louder, so that the NMS has work.
    for part, parameter in theirs.named_parameters():
        if part.endswith(("weight", "bias")) and ("classification_head" in part or "cls_score" in part):
            parameter.add_(0.1 * torch.randn_like(parameter) * parameter.abs().mean())

    # The same weights on both sides, through a file, as a user would bring them.
    options = {"box_sizes": "coco"} if name == "ssd300" else {}
    model = nets.build(name, 90, shape, **options)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(theirs.state_dict(), Path(folder) / "weights.pth")
        load_weights(model, Path(folder) / "weights.pth")
    model.eval()
    image = torch.rand(1, 3, *shape)

    @torch.inference_mode()
    def ours():
        return suppress(model, model(image)[0], confidence, nms_iou, most)[0]

    @torch.inference_mode()
    def others():
        return theirs([image[0]])[0]
    return ours, others, (len(ours()["boxes"]), len(others()["boxes"]))


if __name__ == "__main__":
    main(read_settings(globals()))
