"""Which network when: the table in the READMEs, made of benchmarks/networks.tsv and benchmarks/results.md.

    python benchmarks/networks.py                     the table, from what the file holds
    python benchmarks/networks.py measure=segformer   also count and time this network (measure=all: every one)

A new network gets a line in networks.tsv, the last three columns empty, and then the second command. GFLOPs are
those of summary.py at the input of the network's recipe, with 80 classes (segmenters: 21). Seconds are CPU time of one
thread for one picture, tensor in, boxes or scores out, random weights, median of three.
"""
import csv
import re
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

import nets  # noqa: E402
from summary import parents, walk  # noqa: E402
from utils.settings import ROOT, read_settings  # noqa: E402

measure = ""                        # network to count and time; "all"; "": none   要计算的网络

TABLE, RESULTS = ROOT / "benchmarks" / "networks.tsv", ROOT / "benchmarks" / "results.md"
BEGIN, END = "<!-- made by: python benchmarks/networks.py -->\n", "<!-- end of what is made -->\n"
CLASSES = {"detection": 80, "segmentation": 21}

# README -> names of the columns, of the two tasks, and which columns of the file are in its language
PAGES = {"README.md": (("network", "take it when", "parameters", "GFLOPs", "CPU, s", "published", "here", "first weights"),
                       {"detection": "Boxes", "segmentation": "Masks"}, "take it when", "first weights"),
         "README.zh-CN.md": (("网络", "什么时候用", "参数量", "GFLOPs", "CPU，秒", "公布的精度", "这里测得", "初始权重"),
                             {"detection": "框", "segmentation": "掩码"}, "什么时候用", "初始权重")}


def main(s):
    torch.set_num_threads(1)
    rows = read_rows()
    for row in rows:
        if s.measure in (row["name"], "all"):
            row |= measured(row["name"])
    write_rows(rows)

    # Between the two marks of each README stands what is made; the rest is written by hand.
    for page in PAGES:
        path = ROOT / page
        before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        path.write_text(before + BEGIN + table(page, rows) + END + after, encoding="utf-8", newline="\n")


def read_rows():
    """-> list of dicts, a network each, in the order of the file."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def write_rows(rows):
    lines = ["\t".join(line) for line in [list(rows[0]), *(row.values() for row in rows)]]
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


@torch.inference_mode()
def measured(name):
    """-> {"parameters", "GFLOPs", "seconds"} of a network as its recipe takes it, as text."""
    network = nets.find_net(name)
    shape = network.recipe["input_shape"]
    model = nets.build(name, CLASSES[network.task], shape).eval()
    rows = walk(model, shape)
    names = {part for part, *_ in rows}
    flops = sum(cost for part, _, _, cost in rows if not parents(part) & names)

    times = []
    for _ in range(4):
        began = time.process_time()
        model.decode(model(torch.zeros(1, 3, *shape))[0])
        times.append(time.process_time() - began)
    parameters = sum(p.numel() for p in model.parameters())
    return {"parameters": f"{parameters:,}", "GFLOPs": f"{flops / 1e9:.1f}", "seconds": f"{statistics.median(times[1:]):.2f}"}


def found_here(command):
    """The first mAP50 or mean IoU that results.md has for a command; "-" without one."""
    if not command:
        return "-"
    row = next(line for line in RESULTS.read_text(encoding="utf-8").splitlines() if f"| `{command}` |" in line)
    return re.search(r"(?:mAP50|mIoU) ([\d.]+)", row)[1]


def page_of(name):
    """The page of a network: its own, or that of the network whose variant it is, ssd300 or hrnet for hrnet_ocr."""
    name = {"ssd512": "ssd300"}.get(name, name)
    own = (ROOT / "docs" / "en" / f"{name}.md").is_file()
    return name if own or "_" not in name else page_of(name.rpartition("_")[0])


def table(page, rows):
    """The table of a README as text, detectors first."""
    head, tasks, when, weights = PAGES[page]
    language = "zh" if "zh" in page else "en"
    lines = []
    for task, title in tasks.items():
        lines += ["", "| " + " | ".join([f"{title}: {head[0]}", *head[1:]]) + " |", "|---|---|---|---|---|---|---|---|"]
        for row in rows:
            if nets.NETS[row["name"]].task == task:
                cells = [f"[`{row['name']}`](docs/{language}/{page_of(row['name'])}.md)", row[when], row["parameters"], row["GFLOPs"], row["seconds"],
                         row["published"], found_here(row["result"]), row[weights]]
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\n"


if __name__ == "__main__":
    main(read_settings(globals()))
