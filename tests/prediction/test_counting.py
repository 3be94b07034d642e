"""Objects in regions and over lines."""
import numpy as np
import pytest

from utils.errors import UserError
from utils.prediction.counting import Counting, crossing, is_inside, read_shapes

SIZE = (100, 200)                                                               # h, w
LINE = np.array([[100.0, 90], [100, 10]])                                       # upwards: its right is the picture's right


def box(x, y, label="car", track=None):
    return {"label": label, "score": 0.9, "xyxy": [x - 5, y - 5, x + 5, y + 5]} | ({"track": track} if track else {})


def counted(regions=None, lines=None):
    return Counting(read_shapes(regions or {}, "regions", (3, 99)), read_shapes(lines or {}, "lines", (2, 2)))


def test_regions_of_an_image():
    counting = counted({"left": [[0, 0], [100, 0], [100, 100], [0, 100]], "角": [[0.9, 0.0], [1.0, 0.0], [1.0, 0.5]]})
    counting.add([box(20, 20), box(100, 50, "person"), box(101, 50), box(197, 10)], SIZE)
    assert counting.summary() == ["left: 2 (car 1, person 1)", "角: 1 (car 1)"]         # on the border is inside
    counting.add([], SIZE)
    assert counting.summary() == ["left: 0", "角: 0"]
    assert counting.summary(video=True) == ["left: at most 2 at once", "角: at most 1 at once"]


def test_different_objects_of_a_video():
    counting = counted([[0, 0], [1, 0], [1, 1], [0, 1]])
    for frame in range(5):
        counting.add([box(20 + frame, 20, track=1), box(60, 60, "person", track=2 + frame % 2), box(70, 10)], SIZE)
    assert counting.summary(video=True) == ["region: at most 3 at once, different ones 3 (car 1, person 2)"]


@pytest.mark.parametrize("way, right, left", [
    ([(80, 50), (120, 50)], 1, 0),
    ([(120, 50), (80, 50)], 0, 1),
    ([(80, 50), (120, 50), (80, 50), (120, 50)], 2, 1),
    ([(80, 50), (100, 50), (120, 50)], 1, 0),                                   # stops on the line
    ([(100, 50), (80, 50)], 0, 0),                                              # begins on it: where it came from is not known
    ([(80, 5), (120, 5)], 0, 0),                                                # beside the line, above its end
    ([(80, 95), (120, 70)], 1, 0),
    ([(90, 50), (95, 50), (99, 50)], 0, 0),
])
def test_crossings(way, right, left):
    counting = counted(lines={"door": LINE.tolist()})
    for x, y in way:
        counting.add([box(x, y, track=4), box(30, 30, track=5), box(x, y)], SIZE)       # the last one has no track
    (sentence,) = counting.summary(video=True)
    count = [f"{n} (car {n})" if n else "0" for n in (right, left)]
    assert sentence == f"door: to the right {count[0]}, to the left {count[1]}"


def test_a_track_that_is_not_seen_on_the_line():
    counting = counted(lines=[[0.5, 1.0], [0.5, 0.0]])
    counting.add([box(60, 50, track=1)], SIZE)
    counting.add([], SIZE)
    counting.add([box(140, 50, track=1)], SIZE)
    assert counting.summary() == ["line: to the right 1 (car 1), to the left 0"]


def test_crossing_agrees_with_geometry():
    """Random ways over a slanted line, compared with the solution of the two linear equations."""
    rng = np.random.default_rng(0)
    ends, seen = np.array([[30.0, 20], [150, 80]]), set()
    for before, now in rng.uniform(0, 200, (300, 2, 2)):
        matrix = np.array([now - before, ends[0] - ends[1]]).T
        t, u = np.linalg.solve(matrix, ends[0] - before)
        expected = None
        if 0 < t < 1 and 0 < u < 1:
            expected = "to the right" if np.linalg.det([ends[1] - ends[0], now - before]) > 0 else "to the left"
        assert crossing(before, now, ends) == expected
        seen.add(expected)
    assert len(seen) == 3
    assert is_inside((30, 20), np.array([[30, 20], [150, 80], [30, 80]])) and not is_inside((29, 20), np.array([[30, 20], [150, 80], [30, 80]]))


def test_drawn():
    image = np.full((*SIZE, 3), 100, np.uint8)
    assert (counted().draw(image) == image).all()
    counting = counted({"a": [[10, 30], [60, 30], [60, 90], [10, 90]]}, {"b": [[0.6, 0.9], [0.6, 0.3]]})
    counting.add([box(20, 50)], SIZE)
    changed = (counting.draw(image) != image).any(2)
    assert changed[90, 15:55].all() and changed[35:80, 120].all() and not changed[45:85, 20:50].any() and (image == 100).all()


@pytest.mark.parametrize("value", ["x", 5, [1, 2], [[1, 2]], [[1, 2], [3]], [[0, 0], [1, -1]], {"a": [[0, 0]]}, [["a", "b"], ["c", "d"]],
                                   [[0, 0], [float("nan"), 1]], [[0, 0], [1, 1], [1, 0]]])
def test_what_is_no_line(value):
    with pytest.raises(UserError, match="lines=.*expected points"):
        read_shapes(value, "lines", (2, 2))


def test_nothing_to_count():
    for nothing in (None, {}, [], ""):
        assert read_shapes(nothing, "regions", (3, 99)) == {}
