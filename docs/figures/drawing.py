"""A page on which figures are drawn: SVG, written line by line, so that it looks the same with every version of every library.

A page has panels, a panel has coordinates of its own (the pixels of a photo, or the axes of a plot). Numbers that a
caption quotes are noted as facts; they are kept in the file, and a test compares captions with them.
"""
import base64
import io
import json
from html import escape

import numpy as np
from PIL import Image

INK, GREY, PALE = "#222222", "#8a8a8a", "#dddddd"
COLOURS = ("#d1495b", "#1f77b4", "#2a9d5c", "#e08a00", "#7b4bb3", "#00908f")
FONT = "Helvetica, Arial, 'DejaVu Sans', 'Liberation Sans', sans-serif"
QUALITY = 72                        # of the JPEG photos in a page


class Panel:
    """A rectangle of the page with coordinates of its own: x (left, right) and y (top, bottom).

    clip: nothing is drawn beyond its border.
    """

    def __init__(self, place, x=None, y=None, clip=False):
        """place: (left, top, width, height) on the page."""
        self.left, self.top, self.width, self.height = place
        self.x, self.y = x or (0, self.width), y or (0, self.height)
        self.clip, self.parts, self.images = clip, [], {}

    def at(self, x, y):
        """Own coordinates -> px from the panel's corner."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0]) * self.width
        down = (y - self.y[0]) / (self.y[1] - self.y[0]) * self.height
        return float(across), float(down)

    def panel(self, place, **coordinates):
        """A panel inside this one."""
        inner = Panel(place, **coordinates)
        inner.images = self.images
        self.parts.append(inner)
        return inner

    def add(self, tag, content="", **attributes):
        words = "".join(f' {name.rstrip("_").replace("_", "-")}="{number(value)}"'
                        for name, value in attributes.items() if value is not None)
        self.parts.append(f"<{tag}{words}>{content}</{tag}>" if content else f"<{tag}{words}/>")

    def rect(self, box, colour=None, fill="none", width=1.5, opacity=None, dash=None):
        """box: xyxy in own coordinates."""
        (x1, y1), (x2, y2) = self.at(*box[:2]), self.at(*box[2:])
        self.add("rect", x=min(x1, x2), y=min(y1, y2), width=abs(x2 - x1), height=abs(y2 - y1), fill=fill, fill_opacity=opacity,
                 stroke=colour, stroke_width=width if colour else None, stroke_dasharray=dash)

    def line(self, points, colour=INK, width=1.5, dash=None, fill="none", opacity=None):
        path = " ".join(",".join(number(value) for value in self.at(*point)) for point in points)
        self.add("polyline", points=path, fill=fill, fill_opacity=opacity, stroke=colour, stroke_width=width, stroke_dasharray=dash)

    def arrow(self, start, end, colour=INK, width=1.5):
        """A line with a head at its end."""
        (x1, y1), (x2, y2) = self.at(*start), self.at(*end)
        length = max(((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5, 1e-6)
        dx, dy = (x2 - x1) / length * 7, (y2 - y1) / length * 7
        head = [(x2, y2), (x2 - dx - dy * 0.5, y2 - dy + dx * 0.5), (x2 - dx + dy * 0.5, y2 - dy - dx * 0.5)]
        self.add("line", x1=x1, y1=y1, x2=x2 - dx * 0.8, y2=y2 - dy * 0.8, stroke=colour, stroke_width=width)
        self.add("polygon", points=" ".join(f"{number(x)},{number(y)}" for x, y in head), fill=colour)

    def dot(self, x, y, colour=INK, radius=2.5, opacity=None, edge=None):
        x, y = self.at(x, y)
        self.add("circle", cx=x, cy=y, r=radius, fill=colour, fill_opacity=opacity, stroke=edge)

    def text(self, x, y, words, size=13, colour=INK, anchor="start", bold=False, halo=False):
        """anchor: start, middle or end.  halo: a white edge, for words on a photo."""
        x, y = self.at(x, y)
        self.add("text", escape(str(words)), x=x, y=y, font_size=size, fill=colour, text_anchor=None if anchor == "start" else anchor,
                 font_weight="bold" if bold else None, stroke="white" if halo else None, stroke_width=3 if halo else None,
                 paint_order="stroke" if halo else None)

    def image(self, pixels, box=None, exact=False):
        """pixels: (h, w, 3) or (h, w) uint8.  exact: small maps, whose pixels are to be seen as squares."""
        box = box or (self.x[0], self.y[0], self.x[1], self.y[1])
        (x1, y1), (x2, y2) = self.at(*box[:2]), self.at(*box[2:])
        key = (pixels.tobytes(), pixels.shape, exact)
        name = self.images.setdefault(key, f"i{len(self.images)}")
        self.add("use", href=f"#{name}", transform=f"translate({number(x1)} {number(y1)}) scale({number(x2 - x1)} {number(y2 - y1)})")

    def axes(self, across, down, x_label="", y_label="", size=11):
        """Grid lines and numbers. across, down: the values that are named."""
        for value in across:
            self.line([(value, self.y[0]), (value, self.y[1])], PALE, 1)
            x, _ = self.at(value, 0)
            self.add("text", f"{value:g}", x=x, y=self.height + size + 4, font_size=size, fill=INK, text_anchor="middle")
        for value in down:
            self.line([(self.x[0], value), (self.x[1], value)], PALE, 1)
            _, y = self.at(0, value)
            self.add("text", f"{value:g}", x=-6, y=y + 4, font_size=size, fill=INK, text_anchor="end")
        self.rect((self.x[0], self.y[0], self.x[1], self.y[1]), GREY, width=1)
        if x_label:
            self.add("text", escape(x_label), x=self.width / 2, y=self.height + 2 * size + 10, font_size=size + 1, fill=INK, text_anchor="middle")
        if y_label:
            self.add("text", escape(y_label), x=0, y=-8, font_size=size + 1, fill=INK)

    def written(self):
        inner = "\n".join(part if isinstance(part, str) else part.written() for part in self.parts)
        overflow = "" if self.clip else ' overflow="visible"'
        place = " ".join(f'{name}="{number(value)}"' for name, value in
                         zip(("x", "y", "width", "height"), (self.left, self.top, self.width, self.height)))
        return f"<svg {place}{overflow}>\n{inner}\n</svg>"


class Page(Panel):
    """The whole figure."""

    def __init__(self, width, height, title):
        super().__init__((0, 0, width, height))
        self.title, self.facts = title, {}

    def note(self, **facts):
        """Numbers that a caption may quote."""
        self.facts.update(facts)

    def written(self):
        images = "\n".join(embedded(name, *key) for key, name in self.images.items())
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
                f'height="{self.height}" font-family="{FONT}">\n<title>{escape(self.title)}</title>\n'
                f"<desc>{escape(json.dumps(self.facts))}</desc>\n<defs>\n{images}\n</defs>\n"
                f'<rect width="100%" height="100%" fill="white"/>\n'
                + "\n".join(part if isinstance(part, str) else part.written() for part in self.parts) + "\n</svg>\n")


def number(value):
    """Two digits are a hundredth of a pixel; text stays as it is."""
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def embedded(name, content, shape, exact):
    """A picture inside the page, 1 x 1 large: JPEG, or PNG where every pixel counts."""
    pixels = np.frombuffer(content, np.uint8).reshape(shape)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG" if exact else "JPEG", quality=QUALITY, optimize=True)
    text = base64.b64encode(file.getvalue()).decode()
    look = ' style="image-rendering:pixelated"' if exact else ""
    kind = "png" if exact else "jpeg"
    return f'<image id="{name}" width="1" height="1" preserveAspectRatio="none"{look} href="data:image/{kind};base64,{text}"/>'


def heat(values, low=None, high=None):
    """(h, w) numbers -> (h, w, 3) uint8: from dark blue over red to pale yellow, the colours of a fire."""
    values = np.asarray(values, np.float64)
    low = values.min() if low is None else low
    high = values.max() if high is None else high
    share = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    stops = np.array([[10, 10, 60], [90, 20, 120], [200, 50, 80], [250, 150, 40], [255, 250, 190]], np.float64)
    places = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(share, places, stops[:, channel]) for channel in range(3)], -1).round().astype(np.uint8)


def pale(pixels, strength=0.45):
    """A photo as a background: grey and light, so that colours on it are seen."""
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    light = 255 - strength * (255 - grey)
    return np.repeat(light.round().astype(np.uint8)[..., None], 3, 2)
