"""The metrics of detection against stored numbers of the VOC devkit and pycocotools, pycocotools itself, and plain loops.

data/metrics/*.json: random detections with what the devkit's m-files (in Octave) and pycocotools 2.0.11 gave for them.
"""
import contextlib
import functools
import io
import json
from pathlib import Path

import numpy as np
import pytest
import slow_metrics
from slow_metrics import random_set

from utils import coco_ap as coco
from utils import metrics
from utils import voc_ap as voc
from utils.metrics import coco_ap, confusion_matrix, detection_results, log_average_miss_rate, precision_recall_f1, voc_ap

FILES = sorted((Path(__file__).parents[1] / "data" / "metrics").glob("*.json"))
COCO_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
TREATMENTS = ("difficult_as_iscrowd", "difficult_counted", "difficult_removed")


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def reference(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def lists(reference, treatment="difficult_as_iscrowd"):
    """The rows of a reference file -> detections, truths. What the treatment removes or counts is changed in the truths."""
    dets = np.array(reference["dets"], float).reshape(-1, 7)
    gts = np.array(reference["gts"], float).reshape(-1, 8)
    if treatment == "difficult_removed":
        gts = gts[gts[:, 6] == 0]
    detections, truths = [], []
    for i in range(reference["images"]):
        d, g = dets[dets[:, 0] == i], gts[gts[:, 0] == i]
        detections.append({"boxes": d[:, 3:], "scores": d[:, 2], "labels": d[:, 1].astype(int)})
        difficult = (g[:, 6] > 0) & (treatment != "difficult_counted")
        truths.append({"boxes": g[:, 2:6], "labels": g[:, 1].astype(int), "difficult": difficult, "crowd": g[:, 7] > 0})
    return detections, truths


def close(value, expected, error):
    assert (value is None) == (expected is None), (value, expected)
    assert value is None or abs(value - expected) <= error, (value, expected)


def test_there_are_references():
    assert len(FILES) == 9


@pytest.mark.parametrize("iou", ["0.5", "0.75"])
def test_voc_equals_the_devkit(reference, iou):
    expected, names = reference["voc"][iou], reference["classes"]
    result = voc_ap(*lists(reference), len(names), float(iou), inclusive=True)
    close(result["map_area"], expected["map_area"], 1e-9)
    close(result["map_11"], expected["map_11"], 1e-9)
    rates = {score: precision_recall_f1(*lists(reference), len(names), float(score), float(iou), True) for score in ("0.3", "0.5")}
    miss = log_average_miss_rate(*lists(reference), len(names), float(iou), True)
    for c, name in enumerate(names):
        one = expected["per_class"][name]
        close(result["area"][c], one["ap_area"], 1e-9)
        close(result["eleven"][c], one["ap_11"], 1e-9)
        close(miss[c], one["lamr_all_images"], 1e-9)
        for score, values in one["at_score"].items():
            assert {key: rates[score][c][key] for key in ("tp", "fp", "fn")} == {key: values[key] for key in ("tp", "fp", "fn")}
            for key in ("precision", "recall", "f1"):
                close(rates[score][c][key], values[key], 1e-12)


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_coco_equals_pycocotools_stored(reference, treatment):
    result = coco_ap(*lists(reference, treatment), len(reference["classes"]))
    for name, value in zip(COCO_NAMES, reference["coco"][treatment]["stats"]):
        close(result[name], None if value == -1 else value, 1e-6)
    for c, name in enumerate(reference["classes"]):
        close(result["per_class"][c], reference["coco"][treatment]["per_class"][name], 1e-6)


def test_confusion_matrix_equals_reference(reference):
    matrix = confusion_matrix(*lists(reference), len(reference["classes"]))
    assert matrix.tolist() == reference["confusion_matrix"]


def test_results_hold_the_same_numbers(reference):
    names = reference["classes"]
    results = detection_results(*lists(reference), names, 0.3, inclusive=True)
    assert json.loads(json.dumps(results)) == results                    # plain values only
    voc, coco = reference["voc"]["0.5"], reference["coco"]["difficult_as_iscrowd"]
    for key, expected in (("map50", voc["map_area"]), ("voc10", voc["map_area"]), ("voc07", voc["map_11"]), ("map50_95", coco["stats"][0])):
        close(results[key], expected, 1e-9)
    assert [row["name"] for row in results["per_class"]] == names        # spaces, commas, "difficult": names are only names
    assert results["objects"] == sum(one["npos"] for one in voc["per_class"].values())
    assert results["images"] == reference["images"] and results["detections"] == len(reference["dets"])
    for row in results["per_class"]:
        one = voc["per_class"][row["name"]]
        assert row["objects"] == one["npos"]
        close(row["ap50"], one["ap_area"], 1e-9)
        close(row["voc07"], one["ap_11"], 1e-9)
        close(row["ap50_95"], coco["per_class"][row["name"]], 1e-9)
        for key in ("precision", "recall", "f1"):
            close(row[key], one["at_score"]["0.3"][key], 1e-12)


SETS = {
    "plain": {}, "ties": {"ties": True, "step": 1, "most": 20}, "crowd": {"crowd": 0.3, "most": 25},
    "difficult": {"difficult": 0.5, "ties": True}, "many": {"images": 3, "classes": 1, "most": 500, "crowd": 0.1},
    "grid": {"step": 40, "ties": True, "most": 25, "crowd": 0.1},        # many equal overlaps
    "one class": {"classes": 1, "images": 1}, "classes without objects": {"classes": 30, "images": 4},
}


def official_coco(detections, truths, classes):
    """The six AP of pycocotools, None for its -1; difficult is given to it as iscrowd."""
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    data = {"images": [{"id": i + 1} for i in range(len(truths))], "annotations": [],
            "categories": [{"id": c + 1} for c in range(classes)]}
    rows = []
    for i, (found, truth) in enumerate(zip(detections, truths)):
        for box, label, difficult, crowd in zip(truth["boxes"], truth["labels"], truth["difficult"], truth["crowd"]):
            width, height = box[2:] - box[:2]
            data["annotations"].append({"id": len(data["annotations"]) + 1, "image_id": i + 1, "category_id": int(label) + 1,
                                        "bbox": [*box[:2], width, height], "area": width * height, "iscrowd": int(difficult or crowd)})
        rows += [{"image_id": i + 1, "category_id": int(label) + 1, "score": score, "bbox": [*box[:2], *(box[2:] - box[:2])]}
                 for box, label, score in zip(found["boxes"], found["labels"], found["scores"])]
    with contextlib.redirect_stdout(io.StringIO()):
        truth_file = coco.COCO()
        truth_file.dataset = data
        truth_file.createIndex()
        evaluation = cocoeval.COCOeval(truth_file, truth_file.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [None if value == -1 else float(value) for value in evaluation.stats[:6]]


@pytest.mark.parametrize("kind", SETS)
def test_coco_equals_pycocotools_live(kind):
    for seed in range(6):
        detections, truths = random_set(seed, **SETS[kind])
        classes = SETS[kind].get("classes", 3)
        if sum(len(one["scores"]) for one in detections):                # without any it stops; see test_without_detections
            ours = coco_ap(detections, truths, classes)
            for name, value in zip(COCO_NAMES, official_coco(detections, truths, classes)):
                close(ours[name], value, 1e-9)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_coco_last_object_wins_a_tie(order):
    """The first box lies exactly between two objects, the second on one of them: who takes what depends on the tie."""
    objects = np.array([[0, 0, 100, 100], [0, 20, 100, 120.0]])[order]
    truths = [{"boxes": objects, "labels": np.zeros(2, int), "difficult": np.zeros(2, bool), "crowd": np.zeros(2, bool)}]
    detections = [{"boxes": np.array([[0, 10, 100, 110], [0, 0, 100, 100.0]]), "scores": np.array([0.9, 0.8]), "labels": np.zeros(2, int)}]
    ours = coco_ap(detections, truths, 1)
    assert (ours["AP75"] > 0.99) == (order == [0, 1])
    for name, value in zip(COCO_NAMES, official_coco(detections, truths, 1)):
        close(ours[name], value, 1e-9)


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("inclusive", [False, True])
def test_voc_equals_its_slow_version(kind, inclusive):
    for seed in range(12):
        detections, truths = random_set(seed, **SETS[kind])
        classes, one = SETS[kind].get("classes", 3), int(inclusive)
        ours = voc_ap(detections, truths, classes, 0.5, inclusive)
        miss = log_average_miss_rate(detections, truths, classes, 0.5, inclusive)
        rows, objects = voc.flatten(detections, truths, classes)
        best, best_iou = voc.best_objects(rows, objects, inclusive)
        found = voc.per_class(rows, objects, voc.voc_states(rows, objects, 0.5, inclusive), objects.difficult)
        for label, (scores, right, wrong, total) in enumerate(found):
            slow = slow_metrics.by_falling_score(detections, label)
            states = slow_metrics.slow_voc_states(detections, truths, label, 0.5, one)
            assert scores.tolist() == [score for score, _, _ in slow]
            assert (right * 1 - ~(right | wrong)).tolist() == states
            assert total == slow_metrics.slow_count(truths, label)
            close(ours["area"][label], slow_metrics.slow_area_ap(states, total), 1e-12)
            close(ours["eleven"][label], slow_metrics.slow_eleven_point_ap(states, total), 1e-12)
            close(miss[label], slow_metrics.slow_miss_rate(states, total, len(truths)), 1e-12)

            own = slice(rows.start[label], rows.start[label + 1])
            first = np.searchsorted(objects.image, np.arange(len(truths)))          # of each image among all objects
            for object_number, iou, (_, image, box) in zip(best[own], best_iou[own], slow):
                number, slow_iou = slow_metrics.slow_best_object(box, truths[image], label, one)
                assert iou == slow_iou and object_number == (number + first[image] if number >= 0 else -1)


@pytest.mark.parametrize("kind", SETS)
def test_coco_equals_its_slow_version(kind):
    """Every state of every detection, at every threshold and size of objects."""
    for seed in range(3):
        detections, truths = random_set(seed, **SETS[kind])
        classes = SETS[kind].get("classes", 3)
        rows, objects = voc.flatten(detections, truths, classes)
        crowd = objects.crowd | objects.difficult
        place, rank = coco.group_places(rows)
        turns = coco.coco_turns(rows, objects, crowd, place)
        ours = coco_ap(detections, truths, classes)
        for name, (low, high) in coco.COCO_AREAS.items():
            states = coco.states_of_size(rows, objects, turns, crowd, rank, low, high)[0]
            means = []
            for label in range(classes):
                own = slice(rows.start[label], rows.start[label + 1])
                total = slow_metrics.slow_coco_count(truths, label, low, high)
                values = []
                for t, iou_threshold in enumerate(coco.COCO_IOUS):
                    slow = slow_metrics.slow_coco_states(detections, truths, label, iou_threshold, low, high)
                    assert states[own, t].tolist() == slow
                    values.append(slow_metrics.slow_coco_class_ap(slow, total))
                means.append(np.mean(values) if total else None)
            close(ours["AP" if name == "all" else f"AP{name[0]}"], coco.mean(means), 1e-12)
            if name == "all":
                for value, expected in zip(ours["per_class"], means):
                    close(value, expected, 1e-12)


@pytest.mark.parametrize("kind", SETS)
def test_rates_equal_their_slow_version(kind):
    for seed in range(6):
        detections, truths = random_set(seed, **SETS[kind])
        classes = SETS[kind].get("classes", 3)
        at = precision_recall_f1(detections, truths, classes, 0.4)
        rows = detection_results(detections, truths, [str(c) for c in range(classes)])["per_class"]
        curves = metrics.detection_curves(detections, truths, [str(c) for c in range(classes)])
        for label in range(classes):
            scores = [score for score, _, _ in slow_metrics.by_falling_score(detections, label)]
            states = slow_metrics.slow_voc_states(detections, truths, label)
            total = slow_metrics.slow_count(truths, label)
            assert at[label] == slow_metrics.slow_rates(scores, states, total, 0.4)
            close(rows[label]["best_f1"], slow_metrics.slow_best_f1(scores, states, total), 1e-12)

            for i, threshold in enumerate(curves[label]["thresholds"]):
                slow = slow_metrics.slow_rates(scores, states, total, threshold)
                for key, name in (("precision", "precision"), ("recall_at", "recall"), ("f1", "f1")):
                    value = curves[label][key][i]
                    assert np.isnan(value) if slow[name] is None else value == slow[name]


@pytest.mark.parametrize("kind", SETS)
def test_confusion_matrix_equals_its_slow_version(kind):
    for seed in range(6):
        detections, truths = random_set(seed, **SETS[kind])
        classes = SETS[kind].get("classes", 3)
        assert confusion_matrix(detections, truths, classes).tolist() == slow_metrics.slow_confusion_matrix(detections, truths, classes)


def test_pairs_in_small_portions_change_nothing(monkeypatch):
    detections, truths = random_set(3, images=10, most=30, difficult=0.2, crowd=0.2)
    whole = detection_results(detections, truths, ["a", "b", "c"])
    for module in (voc, coco):
        monkeypatch.setattr(module, "paired_ious", functools.partial(voc.paired_ious, most=5))
    assert detection_results(detections, truths, ["a", "b", "c"]) == whole


def test_eleven_points_are_tenths():
    """Recall of exactly 3/10, 6/10 and 7/10 counts for its point; 0.1 * 3 and numpy's arange would miss it."""
    boxes = np.array([[20.0 * i, 0, 20 * i + 10, 10] for i in range(10)])
    for found, expected in ((3, 4 / 11), (6, 7 / 11), (7, 8 / 11)):
        detections = [{"boxes": boxes[:found], "scores": np.ones(found), "labels": np.zeros(found, int)}]
        truths = [{"boxes": boxes, "labels": np.zeros(10, int), "difficult": np.zeros(10, bool)}]
        assert voc_ap(detections, truths, 1)["map_11"] == pytest.approx(expected, abs=1e-12)


def test_pixel_edges_equal_the_devkits_inclusive_pixels():
    detections, truths = random_set(5, step=1, ties=True)
    edges = [[{**one, "boxes": one["boxes"] - [1, 1, 0, 0]} for one in images] for images in (detections, truths)]
    assert voc_ap(*edges, 3) == voc_ap(detections, truths, 3, inclusive=True)
    half = [{"boxes": np.array([[1.0, 1, 10, 5]]), "scores": np.ones(1), "labels": np.zeros(1, int)}]        # 5 of 10 pixel rows
    truth = [{"boxes": np.array([[1.0, 1, 10, 10]]), "labels": np.zeros(1, int), "difficult": np.zeros(1, bool)}]
    assert voc_ap(half, truth, 1, inclusive=True)["map_area"] == 1.0             # IoU 0.5 is enough: >=, not >
    assert voc_ap(half, truth, 1)["map_area"] == 0.0


def test_order_of_images_changes_nothing():
    detections, truths = random_set(7, images=40, difficult=0.2, crowd=0.1)
    results = detection_results(detections, truths, ["a", "b", "c"])
    order = np.random.default_rng(0).permutation(40)
    again = detection_results([detections[i] for i in order], [truths[i] for i in order], ["a", "b", "c"])
    assert again == results
    matrix = confusion_matrix(detections, truths, 3)
    assert (confusion_matrix([detections[i] for i in order], [truths[i] for i in order], 3) == matrix).all()


NOTHING = {"boxes": np.zeros((0, 4), np.float32), "scores": np.zeros(0, np.float32), "labels": np.zeros(0, np.int64)}
NO_TRUTH = {"boxes": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64), "difficult": np.zeros(0, bool)}


def test_without_detections():
    _, truths = random_set(1)
    results = detection_results([NOTHING] * len(truths), truths, ["a", "b", "c", "never"])
    assert results["map50"] == results["map50_95"] == results["voc07"] == 0.0
    first, never = results["per_class"][0], results["per_class"][3]
    assert (first["ap50"], first["precision"], first["recall"], first["f1"], first["miss_rate"]) == (0.0, None, 0.0, 0.0, 1.0)
    assert never["ap50"] is never["recall"] is never["ap50_95"] is never["best_f1"] is None
    assert confusion_matrix([NOTHING] * len(truths), truths, 4)[4].sum() == sum(len(t["labels"]) for t in truths)


def test_without_objects_and_without_images():
    detections, _ = random_set(1)
    for found, truths in ((detections, [NO_TRUTH] * len(detections)), ([], [])):
        results = detection_results(found, truths, ["a", "b", "c"])
        assert results["map50"] is results["map50_95"] is results["coco"]["APs"] is None
        assert results["objects"] == 0 and results["images"] == len(truths)
        json.dumps(results, allow_nan=False)


def test_detections_that_are_no_numbers_are_dropped_and_counted():
    detections, truths = random_set(2)
    clean = detection_results(detections, truths, ["a", "b", "c"])
    bad = {"boxes": np.array([[0, 0, 9, 9], [np.nan, 0, 9, 9], [0, 0, np.inf, 9]]), "scores": np.array([np.nan, 0.9, 0.9]),
           "labels": np.zeros(3, int)}
    mixed = [{key: np.concatenate([bad[key], one[key]]) for key in one} for one in detections]
    results = detection_results(mixed, truths, ["a", "b", "c"])
    assert results.pop("not_finite") == 3 * len(detections) and clean.pop("not_finite") == 0
    assert results == clean
    assert (confusion_matrix(mixed, truths, 3) == confusion_matrix(detections, truths, 3)).all()


def test_wrong_labels_and_lengths_are_refused():
    detections, truths = random_set(2)
    with pytest.raises(ValueError, match="labels must be 0..0"):
        voc_ap(detections, truths, 1)
    with pytest.raises(ValueError, match="images with detections"):
        voc_ap(detections[1:], truths, 3)


def test_best_f1_is_the_best_of_all_thresholds():
    for seed in range(20):
        detections, truths = random_set(seed, ties=seed % 2 == 0, difficult=0.2)
        scores = sorted({float(s) for one in detections for s in one["scores"]})
        at = [precision_recall_f1(detections, truths, 3, s) for s in scores]
        for c, row in enumerate(detection_results(detections, truths, ["a", "b", "c"])["per_class"]):
            best = max((one[c]["f1"] for one in at if one[c]["f1"] is not None), default=None)
            if best:
                close(row["best_f1"], best, 1e-12)
                again = precision_recall_f1(detections, truths, 3, row["best_score"])[c]
                assert (again["precision"], again["recall"]) == (row["best_precision"], row["best_recall"])


def test_best_threshold_is_that_of_the_mean_f1():
    """Of thresholds that are as good the middle one; none where nothing is right; classes without objects do not count."""
    boxes = np.array([[0.0, 0, 9, 9], [20, 0, 29, 9], [50, 0, 59, 9]])
    found = [{"boxes": boxes, "scores": np.array([0.8, 0.7, 0.3]), "labels": np.array([0, 1, 1])}]
    truth = [{"boxes": np.array([[0.0, 0, 9, 9], [20, 0, 29, 9]]), "labels": np.array([0, 1]), "difficult": np.zeros(2, bool)}]
    results = metrics.detection_results(found, truth, ["a", "b", "none"])
    assert (results["best_threshold"], results["best_mean_f1"]) == (0.51, 1.0)
    assert metrics.best_threshold(metrics.detection_curves(found, truth, ["a", "b", "none"])) == (0.51, 1.0)
    at = metrics.precision_recall_f1(found, truth, 3, results["best_threshold"])
    assert [row["f1"] for row in at] == [1.0, 1.0, None]
    wrong = [found[0] | {"labels": np.array([1, 0, 0])}]
    assert metrics.detection_results(wrong, truth, ["a", "b"])["best_threshold"] is None
    assert metrics.best_threshold([]) == (None, None)


def test_curves_agree_with_the_table():
    detections, truths = random_set(4, images=30, ties=True, difficult=0.2)
    results = detection_results(detections, truths, ["a", "b", "c"], 0.5)
    for row, curve in zip(results["per_class"], metrics.detection_curves(detections, truths, ["a", "b", "c"])):
        assert curve["ap50"] == row["ap50"] and curve["thresholds"][50] == 0.5
        assert (curve["precision"][50], curve["recall_at"][50], curve["f1"][50]) == (row["precision"], row["recall"], row["f1"])


def test_duplicates_take_the_better_score_and_voc_has_no_second_choice():
    """Two objects, two boxes that both prefer the first: COCO gives the second box the second object, VOC does not."""
    truths = [{"boxes": np.array([[0, 0, 100, 100], [0, 0, 100, 80.0]]), "labels": np.zeros(2, int), "difficult": np.zeros(2, bool)}]
    detections = [{"boxes": np.array([[0, 0, 100, 99], [0, 0, 100, 98.0]]), "scores": np.array([0.9, 0.8]), "labels": np.zeros(2, int)}]
    assert voc_ap(detections, truths, 1)["map_area"] == 0.5
    assert coco_ap(detections, truths, 1)["AP50"] == pytest.approx(1.0)
