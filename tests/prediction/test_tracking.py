"""Tracks on a made sequence whose truth is known, see mot.py."""
import mot
import numpy as np
import pytest

from utils.prediction import tracking
from utils.prediction.overlap import iou
from utils.prediction.suppression import hard_rows

BOX = np.array([[100.0, 100, 140, 180]])


def follow(sequence, confidence=0.5, **options):
    """-> list of (truth, found) for mot_metrics."""
    tracker, frames = tracking.Tracker(**options), []
    for truth, boxes, scores in sequence:
        boxes, scores = boxes[scores >= tracking.LOW], scores[scores >= tracking.LOW]
        numbers = tracker.update(boxes, scores, np.zeros(len(boxes), int), np.full(len(boxes), confidence))
        frames.append((truth, {number: box for number, box in zip(numbers.tolist(), boxes) if number}))
    return frames


def see(tracker, boxes, score=0.9, label=0, frames=1):
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    count = len(boxes)
    return tracker.update(boxes, np.full(count, score), np.full(count, label), np.full(count, 0.5), frames).tolist()


@pytest.fixture(scope="module")
def sequence():
    return mot.made_sequence(seed=1)


def test_numbers_of_the_made_sequence(sequence):
    """Six objects that cross twice, one missed for ten frames, false boxes: no number is lost or swapped, no false box gets one.
    The 44 boxes that are missing are those that the detector did not give."""
    frames = follow(sequence)
    found = mot.mot_metrics(frames)
    assert (found["switches"], found["false"], found["missed"]) == (0, 0, 44)
    assert found["mota"] == pytest.approx(0.939, abs=0.001) and found["idf1"] == pytest.approx(0.968, abs=0.001)
    assert {number for _, one in frames for number in one} == set(range(1, 7))


def test_what_each_part_is_there_for(sequence, monkeypatch):
    """Without motion numbers are swapped; without the second round hidden objects are missing; without patience they begin anew."""
    monkeypatch.setattr(tracking, "SECOND", 2)
    assert mot.mot_metrics(follow(sequence))["missed"] == 56
    monkeypatch.undo()
    assert mot.mot_metrics(follow(sequence, patience=3))["switches"] >= 1

    real = tracking.Track.see

    def stand_still(track, box):
        real(track, box)
        track.state[:, 1] = 0
    monkeypatch.setattr(tracking.Track, "see", stand_still)
    found = mot.mot_metrics(follow(sequence))
    assert found["switches"] >= 3 and found["idf1"] < 0.8


def test_greedy_pairs_are_nearly_always_the_best_ones(sequence, monkeypatch):
    """Compared with the best sum over all pairs, which the Hungarian method finds."""
    real, different, compared = tracking.join, 0, 0

    def both(tracks, boxes, labels, rows, least):
        nonlocal different, compared
        joined = real(tracks, boxes, labels, rows, least)
        if tracks and len(rows):
            overlap = iou(np.array([track.box() for track in tracks]), boxes[rows])
            best = {(i, rows[j]) for i, j in mot.best_join(overlap, least)}
            different += {(tracks.index(track), row) for track, row in joined.items()} != best
            compared += 1
        return joined
    monkeypatch.setattr(tracking, "join", both)
    follow(sequence[:70])
    assert compared > 70 and different <= 2


def test_the_measures_themselves():
    """Three frames, two objects, by hand: one box missed, one false, the numbers swapped in the last frame."""
    left, right, far = np.array([0.0, 0, 10, 10]), np.array([20.0, 0, 30, 10]), np.array([50.0, 50, 60, 60])
    truth = {"a": left, "b": right}
    found = mot.mot_metrics([(truth, {1: left, 2: right}), (truth, {1: left, 3: far}), (truth, {2: left, 1: right})])
    assert (found["missed"], found["false"], found["switches"]) == (1, 1, 2)
    assert found["mota"] == pytest.approx(1 - 4 / 6)
    assert found["idf1"] == pytest.approx(2 * 3 / (6 + 6))                      # a is 1 in two frames, b is 2 in one


def test_a_new_number_needs_a_second_look_and_a_sure_score():
    tracker = tracking.Tracker()
    assert see(tracker, BOX) == [1]                                             # in the first frame all are new
    assert see(tracker, [*BOX, [300, 100, 340, 180]]) == [1, 0]
    assert see(tracker, [*BOX, [301, 100, 341, 180]]) == [1, 2]
    assert see(tracker, [*BOX, [500, 100, 540, 180]]) == [1, 0]                 # once only: it never gets one
    assert see(tracker, BOX) == [1]
    assert see(tracker, [500, 100, 540, 180]) == [0]
    fresh = tracking.Tracker()
    assert [see(fresh, BOX, score=0.55), see(fresh, BOX, score=0.3), see(fresh, BOX, score=0.9)] == [[0], [0], [0]]
    assert see(fresh, BOX, score=0.3) == [1]                                    # unsure, but where a track is


def test_numbers_end_with_patience_and_are_not_given_again():
    tracker = tracking.Tracker(patience=5)
    assert see(tracker, BOX) == [1]
    for _ in range(5):
        assert see(tracker, []) == []
    assert see(tracker, BOX) == [1]
    assert see(tracker, [], frames=6) == []
    assert [see(tracker, BOX), see(tracker, BOX)] == [[0], [2]]


def test_classes_are_kept_apart():
    tracker = tracking.Tracker()
    assert see(tracker, BOX, label=0) == [1]
    assert see(tracker, BOX, label=1) == [0]


def test_what_the_filter_believes():
    """It learns a velocity of 3 px a frame, and goes on with it while the object is not seen, also over a hole."""
    tracker = tracking.Tracker()
    for frame in range(20):
        see(tracker, BOX + [3.0 * frame, 0, 3.0 * frame, 0])
    (track,) = tracker.tracks
    assert track.state[0, 1] == pytest.approx(3, abs=0.1) and abs(track.state[1:, 1]).max() < 0.01
    doubt = track.doubt[0, 0]
    see(tracker, [], frames=4)
    assert track.box() == pytest.approx(BOX[0] + [69, 0, 69, 0], abs=1) and track.doubt[0, 0] > doubt


def test_overlap():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 20, 30], [9, 9, 5, 5]], float)
    assert iou(boxes[:1], boxes)[0] == pytest.approx([1, 1 / 3, 0, 0])
    rows = hard_rows(boxes[:2].repeat(2, 0), np.array([0.5, 0.9, 0.6, 0.2]), np.array([0, 0, 0, 1]), 0.5)
    assert rows.tolist() == [1, 2, 3]
    assert len(hard_rows(boxes[:0], np.zeros(0), np.zeros(0), 0.5)) == 0 and iou(boxes[:0], boxes).shape == (0, 4)
