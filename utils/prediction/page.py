"""The page on which a network is tried out, see tools/page.py: pictures come in, what was found goes out.

page.html draws. It gets all boxes down to a low score, before non-maximum suppression, and does that itself:
so its sliders act at once, and the network is asked once for each picture.
"""
import base64
import io
import threading
from pathlib import Path

from PIL import Image

from utils.errors import UserError
from utils.results import masks
from utils.results.address import open_bytes
from utils.results.draw import class_colours
from utils.settings import shown
from utils.system.web import MOST_BYTES, Declined, as_json, html

PAGE = Path(__file__).with_name("page.html")
LOWEST = 0.01                   # boxes with a lower score are not sent, and the slider begins here
MOST_BOXES = 2000               # the best ones are sent
MOST_PIXELS = 40_000_000        # of a picture
PATIENCE = 60.0                 # seconds that a picture waits while the network is busy with others


class Page:
    """What the browser can ask for. s: the settings of tools/page.py."""

    def __init__(self, engine, s):
        self.engine, self.s = engine, s
        self.turn = threading.Lock()                        # the network looks at one picture at a time

    def routes(self):
        return {("GET", "/"): self.page, ("GET", "/network"): self.network,
                ("POST", "/picture"): self.picture}

    def page(self, request):
        return html(PAGE.read_text(encoding="utf-8"))

    def network(self, request):
        """What the page has to know before the first picture."""
        engine, s = self.engine, self.s
        names = engine.class_names
        values = {"task": engine.task, "net": engine.info["net"], "class_names": names,
                  "most_bytes": MOST_BYTES, "input": "{1} × {0}".format(*engine.input_shape),
                  "file": shown(s.model_path)}

        # Where its sliders stand, and the colours of the legend.
        if engine.task == "segmentation":
            colours = masks.mask_colours(names)[:len(names)]
            values |= {"opacity": s.opacity, "background": masks.background_of(names)}
        else:
            colours = class_colours(len(names))
            values |= {"confidence": s.confidence, "nms_iou": s.nms_iou, "max_boxes": s.max_boxes}
        return as_json(values | {"colours": colours.tolist()})

    def picture(self, request):
        """A picture, the bytes of its file -> what was found in it, or {"error", "kind"} of what is none."""
        try:
            image = open_bytes(request.body, "This file", most_pixels=MOST_PIXELS)
        except UserError as error:
            return as_json({"error": str(error), "kind": error.kind})
        if not self.turn.acquire(timeout=PATIENCE):
            raise Declined("The network is busy with other pictures: try it again in a moment.", 503, "busy")
        try:
            found = self.regions(image) if self.engine.task == "segmentation" else self.boxes(image)
        finally:
            self.turn.release()
        return as_json({"width": image.shape[1], "height": image.shape[0], **found})

    def boxes(self, image):
        """-> {"boxes"}: all of them by falling score. With nms_iou=1 none is removed."""
        (every,) = self.engine.detect([image], LOWEST, 1.0, MOST_BOXES)
        rows = zip(every["boxes"].tolist(), every["scores"].tolist(), every["labels"].tolist())
        return {"boxes": [{"label": label, "score": score, "xyxy": box} for box, score, label in rows]}

    def regions(self, image):
        """-> {"classes", "mask"}: the shares of the pixels, and the class of each as a grey PNG in base64."""
        (every,) = self.engine.segment([image], self.s.threshold, (1.0,), False, False)
        data = io.BytesIO()
        Image.fromarray(every["labels"]).save(data, format="PNG", compress_level=1)
        return {"classes": masks.pixel_shares(every["labels"], self.engine.class_names),
                "mask": base64.b64encode(data.getvalue()).decode()}
