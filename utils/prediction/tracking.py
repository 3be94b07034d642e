"""Which box of this frame is which object of the frame before: tracks through a video.

A detector knows one picture. A tracker says for each track where its object should be now (a Kalman filter
that believes in constant velocity), and joins tracks and boxes that overlap most. It does so twice, as
ByteTrack: first with the sure boxes, then with the unsure ones: an object half hidden behind another has a
low score, but it lies where a track expects it, and noise does not.

Sources: SORT, arXiv 1602.00763 (motion and overlap are enough); ByteTrack, arXiv 2110.06864 (the second
round); Kalman, "A New Approach to Linear Filtering and Prediction Problems", 1960. What differs: pairs are
joined greedily, the best first, not by the Hungarian method; a box is four numbers that move independently,
so that a filter of two numbers, place and velocity, does for each of them what papers write as one of eight.
"""
import numpy as np

from utils.prediction.overlap import iou

LOW = 0.1                       # boxes of a lower score are not even unsure
FIRST, SECOND = 0.2, 0.5        # least overlap of track and box in the two rounds
NEW = 0.1                       # a new track needs a score so much above the threshold
PLACE, VELOCITY = 1 / 20, 1 / 160       # how far a box may be off, in its own height: px, and px per frame


class Track:
    """One object. number: 0 until it was seen twice.  state: (4, 2) centre x, centre y, width, height, each
    with its velocity.  doubt: (2, 2) the covariance of place and velocity, the same for all four."""

    def __init__(self, box, label):
        self.label, self.number, self.unseen = label, 0, 0
        self.state = np.stack([as_centre(box), np.zeros(4)], 1)
        self.doubt = np.diag([2 * PLACE * box_height(box), 10 * VELOCITY * box_height(box)]) ** 2

    def move(self, frames=1):
        """Some frames later: place + velocity, and with each a little more doubt about both."""
        step = np.array([[1.0, 1.0], [0.0, 1.0]])
        for _ in range(frames):
            height = max(self.state[3, 0], 1.0)
            self.state = self.state @ step.T
            self.doubt = step @ self.doubt @ step.T + np.diag([PLACE * height, VELOCITY * height]) ** 2
        self.unseen += frames

    def see(self, box):
        """A box was joined to it: believe it as far as it is surer than what was expected."""
        error = as_centre(box) - self.state[:, 0]
        gain = self.doubt[:, 0] / (self.doubt[0, 0] + (PLACE * box_height(box)) ** 2)
        self.state = self.state + np.outer(error, gain)
        self.doubt = self.doubt - np.outer(gain, self.doubt[0])
        self.unseen = 0

    def box(self):
        """Where it should be: xyxy px."""
        centre, size = self.state[:2, 0], np.maximum(self.state[2:, 0], 1)
        return np.concatenate([centre - size / 2, centre + size / 2])


class Tracker:
    """patience: a track that was not seen for so many frames has ended."""

    def __init__(self, patience=30):
        self.tracks, self.patience, self.given, self.begun = [], patience, 0, False

    def update(self, boxes, scores, labels, confidence, frames=1):
        """One frame. boxes: (P, 4) xyxy px, scores: (P,), labels: (P,), those from LOW on.
        confidence: (P,) the threshold of each box: a score from there on is sure.
        frames: how many frames after the last one this is.
        -> (P,) int, the number of each box's track, 0: none (yet)."""
        for track in self.tracks:
            track.move(frames)
        numbers, sure = np.zeros(len(boxes), int), scores >= confidence

        # First what is sure, with all tracks; then what is not, with those that were there a frame ago.
        seen = join(self.tracks, boxes, labels, np.flatnonzero(sure), FIRST)
        recent = [track for track in self.tracks if track not in seen and track.unseen == frames]
        seen |= join(recent, boxes, labels, np.flatnonzero(~sure), SECOND)
        for track, row in seen.items():
            track.see(boxes[row])
            numbers[row] = self.number_of(track)

        # A sure box without a track begins one. What was seen once only, or not for long, is forgotten.
        self.tracks = [t for t in self.tracks if t.unseen <= (self.patience if t.number else 0)]
        for row in np.flatnonzero(scores >= np.minimum(confidence + NEW, (1 + confidence) / 2)):
            if row not in seen.values():
                self.tracks.append(Track(boxes[row], labels[row]))
                numbers[row] = 0 if self.begun else self.number_of(self.tracks[-1])
        self.begun = True
        return numbers

    def number_of(self, track):
        if not track.number:
            self.given += 1
            track.number = self.given
        return track.number


def join(tracks, boxes, labels, rows, least):
    """Tracks and boxes of one class that overlap, the best pair first. rows: the boxes that take part.
    -> dict track -> row. (The Hungarian method finds the best sum of all pairs; a test compares the two.)"""
    if not tracks or not len(rows):
        return {}
    overlap = iou(np.array([track.box() for track in tracks]), boxes[rows])         # (tracks, rows)
    overlap[np.array([track.label for track in tracks])[:, None] != labels[rows]] = 0

    joined = {}
    while overlap.max() > least:
        track, box = np.unravel_index(overlap.argmax(), overlap.shape)
        joined[tracks[track]] = rows[box]
        overlap[track] = overlap[:, box] = 0
    return joined


def as_centre(box):
    """xyxy -> centre x, centre y, width, height."""
    return np.concatenate([(box[:2] + box[2:]) / 2, box[2:] - box[:2]])


def box_height(box):
    return max(float(box[3] - box[1]), 1.0)
