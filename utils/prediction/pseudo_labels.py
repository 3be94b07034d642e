"""What a network has found becomes labels: a dataset that voc_annotation.py reads, to be corrected by hand or
trained on. The variable save_labels."""
import contextlib
import sys
from pathlib import Path

from utils.errors import UserError
from utils.formats.written import WRITERS, place_image, safe_name
from utils.results.masks import index_png
from utils.results.media import fresh, save_image
from utils.settings import counted, shown
from utils.system.files import whole_folder, write_text

KINDS = {"detection": ("voc", "yolo", "coco"), "segmentation": ("mask",)}
LEAST = 1                       # px; narrower boxes are no labels


def check_kind(kind, task):
    """Error: the network has no such labels to give."""
    known = KINDS[task]
    if kind and kind not in known:
        raise UserError(f'save_labels="{kind}": the labels of a network for {task} are saved as '
                        + " or ".join(f'"{name}"' for name in known) + ".")


class PseudoLabels(contextlib.ExitStack):
    """The folder labels_<kind> below that of the results, being written. It appears, whole, when this is
    closed.

    class_names: of the network.  Images are copied, so that the folder is a dataset of its own.
    """

    def __init__(self, folder, kind, class_names):
        super().__init__()
        self.target, self.kind, self.class_names = fresh(folder, f"labels_{kind}"), kind, class_names
        self.part, self.taken, self.stems, self.samples = None, set(), {}, []

    def add(self, place, image, found, labels=None):
        """place: Path of the image, or its address.  image: (h, w, 3) uint8, its pixels.
        found: as the .json has it.  labels: (h, w) uint8, the class of every pixel."""
        try:
            self.keep(place, image, found, labels)
        except (UserError, OSError):                        # the folder goes: it would look like a dataset
            self.part, self.stems = None, {}
            self.__exit__(*sys.exc_info())
            raise

    def keep(self, place, image, found, labels):
        """See `add`."""
        if self.part is None:
            self.part = self.enter_context(whole_folder(self.target))
        path = place if isinstance(place, Path) else self.fetched(place, image)
        if path in self.stems:
            return
        self.stems[path] = stem = safe_name(path, self.taken)

        # Masks are too large to be kept until the end.
        if self.kind == "mask":
            place_image(path, self.part / "JPEGImages" / (stem + path.suffix), False)
            index_png(self.part / "SegmentationClass" / f"{stem}.png", labels)
            return
        height, width = image.shape[:2]
        objects = [as_object(box, width, height) for box in found["boxes"]]
        self.samples.append((path, (width, height), [one for one in objects if one]))

    def fetched(self, address, image):
        """An image that came from the net is kept in a file beside the dataset."""
        name = safe_name(Path(address.partition("?")[0].rpartition("/")[2] or "image"), set())
        path = fresh(self.target.parent / "fetched", Path(name).stem, ".png")
        save_image(path, image)
        return path

    def finish(self):
        """Write what was kept, and give the folder its name. -> a sentence about it, "" where nothing was
        added."""
        if self.part is None:
            return ""

        # What says what the labels mean; for boxes also the labels themselves. Whole, or not at all.
        with self:
            self.describe()
        task = " task=segmentation" if self.kind == "mask" else ""
        return (f"{shown(self.target)}: {counted(len(self.stems), 'image')} with labels. Look at them, "
                f'then:  python voc_annotation.py "dataset={shown(self.target)}"{task}')

    def describe(self):
        """Write what says what the labels mean; of boxes also the labels and images."""
        if self.kind == "mask":
            # Which number is which class, for mask_key.py: "number name", or "name number".
            rows = [f"{name} {number}" if name[:1].isdigit() else f"{number} {name}"
                    for number, name in enumerate(self.class_names)]
            write_text(self.part / "mask_values.txt", "\n".join(rows) + "\n")
        else:
            # Images that the user will divide have no lists: VOC then has none, others one for all.
            lists = {"all" if self.kind == "voc" else "train": self.samples}
            WRITERS[self.kind](self.part, self.class_names, lists, self.stems, False)


def as_object(box, width, height):
    """A box as the .json has it -> an object as utils/formats has it, inside the image; None: nothing is
    left."""
    x1, y1, x2, y2 = box["xyxy"]
    edges = max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2)
    if edges[2] - edges[0] < LEAST or edges[3] - edges[1] < LEAST:
        return None
    return {"name": box["label"], "box": edges, "difficult": False}
