"""How fast the check pass is: a VOC folder, every image and XML read, against decoding the same images.

    python benchmarks/check.py [images=5000] [rounds=5]

The images are 500 x 375 JPEGs of about 75 kB with three objects each, drawn into a temporary folder; two
processes decode them. Both sides run in turn; the figure is the median of the rounds' ratios, because other
work on the machine slows both. The pass can be the faster one, although it also reads the XML files and takes
a checksum of every image: all data of a JPEG are unpacked, but its pixels are only worked out at an eighth of
the size. Then the second start of a training: nothing changed, so only sizes and times of the files count.
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
    """The dataset. -> kB of an image."""
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    stream = np.random.default_rng(0)
    pictures = [picture(stream) for _ in range(50)]

    # Each picture is written many times, with another comment in its head: no two files are equal.
    stems = [f"{i:06d}" for i in range(s.images)]
    for i, stem in enumerate(stems):
        jpeg = pictures[i % len(pictures)]
        text = stem.encode()
        comment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
        (folder / f"JPEGImages/{stem}.jpg").write_bytes(jpeg[:2] + comment + jpeg[2:])
        (folder / f"Annotations/{stem}.xml").write_text(annotation(stem, stream))
    for name, some in (("train", stems[:-200]), ("val", stems[-200:-100]), ("test", stems[-100:])):
        (folder / f"ImageSets/Main/{name}.txt").write_text("\n".join(some) + "\n")
    return statistics.mean(map(len, pictures)) / 1000


def picture(stream):
    """The bytes of a JPEG: noise, coarse and fine, so that it is as hard to decode as a photo."""
    pixels = np.zeros((SIZE[1], SIZE[0], 3))
    for size, strength in ((4, 90), (16, 50), (64, 30), (250, 22)):
        noise = stream.normal(0, strength, (size * 3 // 4, size, 3))
        pixels += cv2.resize(noise, SIZE, interpolation=cv2.INTER_CUBIC)
    pixels = (pixels + 128).clip(0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()


def annotation(stem, stream):
    """As LabelImg writes it."""
    things = ""
    for _ in range(3):
        x, y, w, h = (int(stream.integers(*span)) for span in ((1, 300), (1, 200), (20, 200), (20, 175)))
        things += ("\t<object>\n\t\t<name>thing</name>\n\t\t<pose>Unspecified</pose>\n"
                   "\t\t<truncated>0</truncated>\n\t\t<difficult>0</difficult>\n"
                   f"\t\t<bndbox>\n\t\t\t<xmin>{x}</xmin>\n\t\t\t<ymin>{y}</ymin>\n"
                   f"\t\t\t<xmax>{x + w}</xmax>\n\t\t\t<ymax>{y + h}</ymax>\n\t\t</bndbox>\n\t</object>\n")

    # Everything that LabelImg says, also what the check does not ask for: it has to be read all the same.
    return (f"<annotation>\n\t<folder>JPEGImages</folder>\n\t<filename>{stem}.jpg</filename>\n"
            f"\t<size>\n\t\t<width>{SIZE[0]}</width>\n\t\t<height>{SIZE[1]}</height>\n"
            f"\t\t<depth>3</depth>\n\t</size>\n\t<segmented>0</segmented>\n{things}</annotation>\n")


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

    # What the check notes about the files goes there as well, so this project is left as it is.
    try:
        size = draw(s, folder / "Set")
        rates, part = race(s, folder / "Set")
        decoding, checking = (statistics.median(column) for column in zip(*rates))
        ratio = statistics.median(mine / plain for plain, mine in rates)
        print(f"{s.images} images of {size:.0f} kB: decoding {decoding:.0f}/s, checking {checking:.0f}/s, "
              f"median ratio {ratio:.2f}")
        second_start(folder, part)
    finally:
        shutil.rmtree(folder)


def race(s, folder):
    """-> list of (images a second decoded, checked) of every round, what the check read."""
    paths = sorted((folder / "JPEGImages").iterdir())
    chunks = [paths[i:i + 50] for i in range(0, len(paths), 50)]
    rates = []
    with ProcessPoolExecutor(PROCESSES) as pool:
        # Both sides begin with processes that are started and files that are in the system's memory.
        list(pool.map(merely_decode, chunks[:4]))
        for turn in range(s.rounds):
            began = time.perf_counter()
            list(pool.map(merely_decode, chunks))
            plain = s.images / (time.perf_counter() - began)
            began = time.perf_counter()
            findings, part = checked(folder)
            mine = s.images / (time.perf_counter() - began)

            # A pass that overlooks images would be fast, too.
            assert not findings and len(part.samples) == s.images
            rates.append((plain, mine))
            print(f"round {turn + 1}: {PROCESSES} processes decode {plain:.0f} images/s, "
                  f"the check pass {mine:.0f}, ratio {mine / plain:.2f}")
    return rates, part


def second_start(folder, part):
    """The check at the start of a training, the first time and again."""
    (folder / "classes.txt").write_text("thing\n")
    lists = {split: f"{split}.txt" for split in part.sets}
    for split, stems in part.sets.items():
        samples = [part.samples[stem] for stem in stems]
        boxes = [[(*one["box"], 0) for one in sample.truth] for sample in samples]
        write_list(lists[split], list(zip((sample.image for sample in samples), boxes)))

    # The first time everything is read and noted; later only sizes and times of the files are compared.
    for name in ("first", "second", "third"):
        began = time.perf_counter()
        check_before_training("detection", lists, "classes.txt", (416, 416), 16, say=lambda text: None)
        print(f"{name} start of a training: {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main(read_settings(globals()))
