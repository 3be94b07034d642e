"""Found: what a network says of one picture."""
import io
import json
from pathlib import Path

from PIL import Image

from plainvision.utils.prediction.answers import draw_answer, found_in
from plainvision.utils.prediction.window import open_window
from plainvision.utils.results import media


class Found:
    """What was found in one picture.

    image           the picture, (h, w, 3) uint8 RGB
    path, moment    where it is from; of a frame the time in s
    boxes           (P, 4) float32 x1, y1, x2, y2 in pixels of the picture
    scores, labels  (P,) float32 falling; (P,) int64, the number of the class
    names           the P names of these classes
    mask            with a network for segmentation: (h, w) uint8, the class of every pixel; else None.
                    Then there are no boxes.
    shares          with such a network: name -> share of the pixels
    """

    def __init__(self, settings, engine, image, answer, path=None, moment=None):
        self.settings, self.engine, self.answer = settings, engine, answer
        self.image, self.path, self.moment = image, path, moment
        self.class_names = engine.class_names
        self.found = found_in(engine, answer)

        # Of the two kinds of answers one is empty.
        is_mask = engine.task == "segmentation"
        self.mask = answer["labels"] if is_mask else None
        self.boxes, self.scores, self.labels = (
            [] if is_mask else answer[name] for name in ("boxes", "scores", "labels"))
        self.names = [self.class_names[label] for label in self.labels]
        self.shares = {row["label"]: row["share"] for row in self.found.get("classes", ())}

    def __len__(self):
        return len(self.boxes)

    def __repr__(self):
        where = f"{self.path}: " if self.path is not None else ""
        if self.mask is not None:
            return f"<{where}" + ", ".join(f"{name} {share:.1%}" for name, share in self.shares.items()) + ">"
        found = ", ".join(f"{name} {score:.2f}" for name, score in zip(self.names, self.scores))
        return f"<{where}{found or 'nothing found'}>"

    def to_dict(self):
        """As predict.py writes it with save_json=True, of one picture."""
        about = {"file": None if self.path is None else str(self.path), "width": self.image.shape[1],
                 "height": self.image.shape[0]}
        return about | ({} if self.moment is None else {"moment": self.moment}) | self.found

    def to_json(self):
        """The same as text."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def plot(self):
        """-> the picture with what was found drawn on it, (h, w, 3) uint8 RGB; with a mask it is higher than
        the picture, by the legend."""
        return draw_answer(self.settings, self.engine, self.image, self.answer, self.found)

    def save(self, path):
        """The drawn picture into a file; if there is one of this name, beside it. -> its Path"""
        path = Path(path).expanduser()
        target = media.fresh(path.parent, path.stem, path.suffix or ".png")
        media.save_image(target, self.plot(), self.path if isinstance(self.path, Path) else None)
        return target

    def show(self):
        """In a notebook below the cell, with a display in a window, else as a file in the current folder."""
        if in_notebook():
            from IPython.display import display
            display(self)
        elif window := open_window():
            window.show(self.plot(), wait=0)
            window.close()
        else:
            print(f"No window can be opened here: {self.save('found.png')}")

    def _repr_png_(self):
        """What a notebook shows of an answer."""
        file = io.BytesIO()
        Image.fromarray(self.plot()).save(file, "PNG")
        return file.getvalue()


def in_notebook():
    """Whether this runs in a notebook, which shows pictures itself."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return "IPKernelApp" in getattr(get_ipython(), "config", {})
