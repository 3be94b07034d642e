"""A video frame after frame: the tracks of its objects, what is counted, and the tables of all of it."""
from collections import defaultdict, deque

import numpy as np
from PIL import Image, ImageDraw

from utils.prediction.counting import INK, SHADE, Counting, middle
from utils.prediction.tracking import LOW, Tracker
from utils.results.draw import class_colours, line_and_font_size, open_font
from utils.results.filters import thresholds_of
from utils.results.tables import Records, save_tables
from utils.settings import counted, shown

PATIENCE = 1.0                  # seconds for which a track is expected to come back
TRAIL = 30                      # places of a track that are drawn


class Follow:
    """What is kept of one video. The frames must come in their order."""

    def __init__(self, s, engine, file, fps):
        """file: the video's name in the tables.  fps: its frames per second."""
        self.s, self.file, self.names = s, file, engine.class_names
        self.confidence = thresholds_of(s, engine.class_names) if s.track else None
        self.tracker = Tracker(patience=max(1, round(PATIENCE * fps))) if s.track else None
        self.counting = Counting(s.regions, s.lines)
        self.records = Records() if s.save_json or s.save_csv or s.save_coco else None
        self.trails = defaultdict(lambda: deque(maxlen=TRAIL))
        self.frame = -1

    def least(self):
        """The lowest score that is asked for, None: as the variables say. Tracks also take unsure boxes."""
        return LOW if self.tracker else None

    def join(self, answer, frames=1):
        """The engine's answer about the next frame -> the same with the boxes' tracks; boxes that are unsure
        and on no track are left out. frames: how many frames after the last one."""
        if self.tracker is None:
            return answer
        wanted = self.confidence[answer["labels"]]
        tracks = self.tracker.update(answer["boxes"], answer["scores"], answer["labels"], wanted, frames)
        keep = (answer["scores"] >= wanted) | (tracks > 0)
        kept = {name: answer[name][keep] for name in ("boxes", "scores", "labels")}
        return kept | {"tracks": tracks[keep]}

    def add(self, picture, image, found, moment, frames=1):
        """A frame that is drawn. picture: (h, w, 3) uint8.  image: without what is drawn.  found: as in the
        .json.
        moment: s.  -> the picture with tracks and counts on it."""
        self.frame += frames
        size = image.shape[:2]
        boxes = found.get("boxes", [])
        self.counting.add(boxes, size)
        if self.records is not None:
            place = {"file": self.file, "width": size[1], "height": size[0], "frame": self.frame,
                     "seconds": round(moment, 3)}
            self.records.append(place | found | self.counting.record())
        return self.counting.draw(self.draw_tracks(picture, boxes))

    def draw_tracks(self, picture, boxes):
        """Each track's number in its box, and the way that it has come."""
        if self.tracker is None:
            return picture
        image = Image.fromarray(picture)
        pen = ImageDraw.Draw(image)
        line, size = line_and_font_size(*image.size)
        colours, font = class_colours(len(self.names)), open_font(None, size)

        # White on a dark rim is seen on every ground.
        for box in boxes:
            if "track" not in box:
                continue
            x, y = middle(box["xyxy"])
            self.trails[box["track"]].append((x, y))
            colour = tuple(colours[self.names.index(box["label"])].tolist())
            pen.line(list(self.trails[box["track"]]), colour, line)
            pen.text((x, y), str(box["track"]), SHADE, font, "mm", stroke_width=line, stroke_fill=INK)
        return np.array(image)

    def finish(self, folder, name):
        """Say what was counted, and save the tables beside the video."""
        for sentence in self.counting.summary(video=True):
            print(f"    {sentence}")
        if self.tracker:
            print(f"    {counted(self.tracker.given, 'track')}")
        if self.records is not None and len(self.records):
            for path in save_tables(self.s, folder, name, self.records, self.names):
                print(f"{shown(path)}: {counted(len(self.records), 'frame')}")
