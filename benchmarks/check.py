"""How fast the check pass is: a VOC folder, every image and XML read, against two processes that merely decode the same images.

    python benchmarks/check.py [images=5000] [rounds=5]

The images are 500 x 375 JPEGs of about 75 kB with three objects each, drawn into a temporary folder. Both sides run in turn; the figure is
the median of the rounds' ratios, because other work on the machine slows both. The pass can be the faster one, although it also reads the
XML files and takes a checksum of every image: all data of a JPEG are unpacked, but its pixels are only worked out at an eighth of the size.
Then the second start of a training: nothing changed, so only sizes and times of the files are asked.
"""
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from utils import settings  # noqa: E402
from utils.checks.folder import look_at_folder, settle_corners, whole_findings  # noqa: E402
from utils.checks.lists import check_before_training  # noqa: E402
from utils.images import opened  # noqa: E402
from utils.lists import write_list  # noqa: E402
from utils.settings import read_settings  # noqa: E402

images = 5000                       # how many                      图像数
rounds = 5                          # repetitions of both sides     重复次数
PROCESSES = 2
SIZE = (500, 375)
LISTS = {"train": "train", "val": "val", "test": "test"}


def draw(s, folder):
    """The data set: 50 different pictures, each written many times with another comment, so that no two files are equal."""
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    stream, pictures = np.random.default_rng(0), []
    for _ in range(50):
        picture = np.zeros((SIZE[1], SIZE[0], 3))
        for size, strength in ((4, 90), (16, 50), (64, 30), (250, 22)):         # coarse and fine, as in a photo
            noise = stream.normal(0, strength, (size * 3 // 4, size, 3))
            picture += cv2.resize(noise, SIZE, interpolation=cv2.INTER_CUBIC)
        pictures.append(cv2.imencode(".jpg", (picture + 128).clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes())
    stems = [f"{i:06d}" for i in range(s.images)]
    for i, stem in enumerate(stems):
        whole = pictures[i % len(pictures)]
        comment = stem.encode()
        (folder / f"JPEGImages/{stem}.jpg").write_bytes(whole[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + whole[2:])
        (folder / f"Annotations/{stem}.xml").write_text(annotation(stem, stream))
    for name, some in (("train", stems[:-200]), ("val", stems[-200:-100]), ("test", stems[-100:])):
        (folder / f"ImageSets/Main/{name}.txt").write_text("\n".join(some) + "\n")
    return statistics.mean(map(len, pictures)) / 1000


def annotation(stem, stream):
    """As LabelImg writes it."""
    things = ""
    for _ in range(3):
        x, y, w, h = (int(stream.integers(*span)) for span in ((1, 300), (1, 200), (20, 200), (20, 175)))
        things += f"\t<object>\n\t\t<name>thing</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n\t\t<difficult>0</difficult>\n" \
                  f"\t\t<bndbox>\n\t\t\t<xmin>{x}</xmin>\n\t\t\t<ymin>{y}</ymin>\n\t\t\t<xmax>{x + w}</xmax>\n\t\t\t<ymax>{y + h}</ymax>\n" \
                  "\t\t</bndbox>\n\t</object>\n"
    return f"<annotation>\n\t<folder>JPEGImages</folder>\n\t<filename>{stem}.jpg</filename>\n\t<size>\n\t\t<width>{SIZE[0]}</width>\n" \
           f"\t\t<height>{SIZE[1]}</height>\n\t\t<depth>3</depth>\n\t</size>\n\t<segmented>0</segmented>\n{things}</annotation>\n"


def merely_decode(paths):
    for path in paths:
        with opened(path) as image:
            image.load()


def checked(folder):
    """The pass as voc_annotation.py runs it."""
    part, findings = look_at_folder(folder, "detection", LISTS)
    findings = settle_corners(findings, list(part.samples.values()))
    return findings + whole_findings([part], ["thing"], folder / "classes.txt", "detection"), part


def main(s):
    folder = Path(tempfile.mkdtemp())
    settings.ROOT = folder
    try:
        size = draw(s, folder / "Set")
        paths = sorted((folder / "Set/JPEGImages").iterdir())
        chunks = [paths[i:i + 50] for i in range(0, len(paths), 50)]
        ratios, rates = [], []
        with ProcessPoolExecutor(PROCESSES) as pool:
            list(pool.map(merely_decode, chunks[:4]))                           # started, and the files are in the system's memory
            for number in range(s.rounds):
                began = time.perf_counter()
                list(pool.map(merely_decode, chunks))
                plain = time.perf_counter() - began
                began = time.perf_counter()
                findings, part = checked(folder / "Set")
                mine = time.perf_counter() - began
                assert not findings and len(part.samples) == s.images
                ratios.append(plain / mine)
                rates.append((s.images / plain, s.images / mine))
                print(f"round {number + 1}: {PROCESSES} processes decode {s.images / plain:.0f} images/s, the check pass {s.images / mine:.0f}, "
                      f"ratio {plain / mine:.2f}")
        print(f"{s.images} images of {size:.0f} kB: decoding {statistics.median(r for r, _ in rates):.0f}/s, checking "
              f"{statistics.median(r for _, r in rates):.0f}/s, median ratio {statistics.median(ratios):.2f}")
        second_start(folder, part)
    finally:
        shutil.rmtree(folder)


def second_start(folder, part):
    """The check at the start of a training, the first time and again."""
    (folder / "classes.txt").write_text("thing\n")
    for split, stems in part.sets.items():
        write_list(f"{split}.txt", [(part.samples[stem].image, [(*one["box"], 0) for one in part.samples[stem].truth]) for stem in stems])
    for name in ("first", "second", "third"):
        began = time.perf_counter()
        check_before_training("detection", {split: f"{split}.txt" for split in part.sets}, "classes.txt", (416, 416), 16, say=lambda text: None)
        print(f"{name} start of a training: {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main(read_settings(globals()))
