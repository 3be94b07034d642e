"""Every network as an .onnx file: how far it is from the network in PyTorch, how large it is, what may vary.

    python benchmarks/onnx_table.py [networks=['yolov8']] [opset=17]

The weights are random; the inputs are noise, of several batches and sizes where these may vary. Scores and
edges are compared before the suppression.
"""
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

import nets  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.prediction import onnx_graph  # noqa: E402
from utils.results.report import text_table  # noqa: E402
from utils.settings import read_settings  # noqa: E402

networks = []                       # which; []: all of them                    哪些网络
opset = 17                          # version of ONNX's operations              ONNX 算子集版本
classes = 20                        # of each network                           类别数

SHAPES = {"ssd300": (300, 300), "ssd512": (512, 512), "ssdlite320_mobilenet_v3": (320, 320)}
SMALL = (128, 160)                  # of the others: a graph does not depend on it


def main(s):
    rows = [["network", "input", "may vary", "score off", "edge off, px", "MiB", "s"]]
    for name in s.networks or nets.NETS:
        torch.manual_seed(0)
        shape = SHAPES.get(name, SMALL)
        model = nets.build(name, s.classes, shape).eval()

        # A network that cannot be exported has its reason in its row.
        began = time.process_time()
        try:
            content, free, _ = onnx_graph.make_graph(model, shape, s.opset)
        except UserError as error:
            rows.append([name, f"{shape[1]} x {shape[0]}", f"refused: {error}", "", "", "", ""])
            continue
        seconds = time.process_time() - began

        # How far its answers are from the network's, where batch and size differ too.
        off = onnx_graph.differences(model, content, onnx_graph.shapes_of(model, shape, free))
        rows.append([name, f"{shape[1]} x {shape[0]}", ", ".join(free) or "nothing", f"{off['scores']:.1e}",
                     f"{off['boxes']:.1e}" if "boxes" in off else "", f"{len(content) / 2**20:.1f}",
                     f"{seconds:.0f}"])
    print(f"torch {torch.__version__}, opset {s.opset}, {s.classes} classes")
    print(*text_table(rows), sep="\n")


if __name__ == "__main__":
    main(read_settings(globals()))
