"""utils/miou.py against stored numbers and against plain loops.

data/miou/cases.npz: random masks and predictions with the confusion matrix and the numbers that scikit-learn and the VOC devkit
(VOCevalseg.m in Octave) gave for them; NaN = undefined. Case "pred_out_of_range" holds impossible values and no numbers.
"""
import json
from pathlib import Path

import numpy as np
import pytest

from utils.errors import UserError
from utils.miou import count_confusion, list_results, segmentation_results
from utils.results.report import one_class_only, segmentation_report

CASES = np.load(Path(__file__).parents[1] / "data" / "miou" / "cases.npz")
NAMES = sorted({key.split("/")[0] for key in CASES.files})
PER_CLASS, OVERALL = ("iou", "pa", "precision", "f1"), ("miou", "mpa", "mprecision", "accuracy", "fwiou")


def pictures(name):
    count = sum(key.startswith(f"{name}/truth/") for key in CASES.files)
    return [(CASES[f"{name}/truth/{i}"], CASES[f"{name}/labels/{i}"]) for i in range(count)]


def counted(pairs, num_classes):
    return sum(count_confusion(truth, labels, num_classes) for truth, labels in pairs)


def test_there_are_cases():
    assert len(NAMES) == 6 and len(pictures("voc21")) == 8


@pytest.mark.parametrize("name", [name for name in NAMES if name != "pred_out_of_range"])
def test_equals_the_references(name):
    expected = CASES[f"{name}/confusion"]
    matrix = counted(pictures(name), len(expected))
    assert matrix.dtype == np.int64 and np.array_equal(matrix, expected)
    results = segmentation_results(matrix, [f"class {c}" for c in range(len(expected))])
    assert json.loads(json.dumps(results, allow_nan=False)) == results                       # plain values only
    for key in OVERALL:
        assert results[key] == pytest.approx(float(CASES[f"{name}/{key}"]), rel=0, abs=1e-12), key
    for key in PER_CLASS:
        ours = np.array([np.nan if row[key] is None else row[key] for row in results["per_class"]])
        np.testing.assert_allclose(ours, CASES[f"{name}/{key}"], rtol=0, atol=1e-12)         # NaN where NaN is
    assert [row["pixels"] for row in results["per_class"]] == expected.sum(1).tolist()
    assert [row["predicted"] for row in results["per_class"]] == expected.sum(0).tolist()
    assert results["pixels"] == expected.sum()
    assert results["absent"] == [f"class {c}" for c in np.flatnonzero(expected.sum(0) + expected.sum(1) == 0)]


def test_by_hand():
    """4 x 2 pixels, four classes, the last one nowhere."""
    (pair,) = pictures("by_hand")
    results = segmentation_results(count_confusion(*pair, 4), ["sky", "sea", "sand", "ship"])
    assert results["miou"] == pytest.approx((1 / 4 + 2 / 4 + 1 / 2) / 3) and results["accuracy"] == pytest.approx(4 / 7)
    assert results["mf1"] == pytest.approx((2 / 5 + 4 / 6 + 2 / 3) / 3)
    assert results["absent"] == ["ship"] and results["per_class"][3]["iou"] is None


def test_kappa():
    """By hand (accuracy 0.7, luck 0.5), luck alone, always wrong, and where it is undefined."""
    names = ["yes", "no"]
    assert segmentation_results(np.array([[20, 5], [10, 15]]), names)["kappa"] == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    assert segmentation_results(np.array([[9, 3], [3, 1]]), names)["kappa"] == 0
    assert segmentation_results(np.eye(2, dtype=int), names)["kappa"] == 1
    assert segmentation_results(np.array([[0, 7], [7, 0]]), names)["kappa"] == -1
    for matrix in ([[5, 0], [0, 0]], [[0, 0], [0, 0]]):
        assert segmentation_results(np.array(matrix), names)["kappa"] is None
    assert list_results(np.array([[5, 3], [0, 0]]), names)["kappa"] is None
    large = np.array([[2**45, 1], [1, 2**45]])                                      # 35 million megapixels
    assert segmentation_results(large, names)["kappa"] == pytest.approx(1) and segmentation_results(large, names)["kappa"] < 1


def slow_confusion(truth, labels, num_classes):
    """Pixel by pixel: one more of this true and this predicted class."""
    matrix = [[0] * num_classes for _ in range(num_classes)]
    for true, predicted in zip(truth.ravel(), labels.ravel()):
        if true != 255:
            matrix[true][predicted] += 1
    return matrix


def slow_numbers(truth, labels, c):
    """The numbers of one class from the two sets of pixels, where it is true and where it is predicted."""
    pixels = [(true == c, predicted == c) for true, predicted in zip(truth.ravel(), labels.ravel()) if true != 255]
    true, said = (sum(int(pair[side]) for pair in pixels) for side in (0, 1))
    both = sum(int(is_true and is_said) for is_true, is_said in pixels)
    union = true + said - both
    return {"iou": both / union if union else None, "pa": both / true if true else None,
            "precision": both / said if said else None, "f1": 2 * both / (true + said) if union else None}


def test_equals_its_slow_version():
    rng = np.random.default_rng(0)
    for _ in range(40):
        k, shape = int(rng.integers(1, 7)), tuple(rng.integers(1, 9, 2))
        truth = rng.choice([*rng.integers(0, k, 3), 255], shape).astype(np.uint8)
        labels = rng.integers(0, k, shape).astype(np.uint8)
        matrix = count_confusion(truth, labels, k)
        assert matrix.tolist() == slow_confusion(truth, labels, k)
        results, ious = segmentation_results(matrix, [str(c) for c in range(k)]), []
        for c, row in enumerate(results["per_class"]):
            slow = slow_numbers(truth, labels, c)
            for key, value in slow.items():
                assert row[key] == (None if value is None else pytest.approx(value)), key
            ious += [] if slow["iou"] is None else [slow["iou"]]
        assert results["miou"] == (pytest.approx(np.mean(ious)) if ious else None)


def test_large_images_are_counted_in_strips(monkeypatch):
    rng = np.random.default_rng(1)
    truth, labels = rng.integers(0, 5, (30, 41), np.uint8), rng.integers(0, 5, (30, 41), np.uint8)
    whole = count_confusion(truth, labels, 5)
    monkeypatch.setattr("utils.miou.EXACT", 500)               # 1,230 pixels: three strips
    assert (count_confusion(truth, labels, 5) == whole).all() and whole.sum() == truth.size


def test_one_class_is_no_measurement():
    for matrix, names in (([[50]], ["background"]), ([[50, 0], [0, 0]], ["background", "cat"])):
        results = list_results(np.array(matrix), names)
        assert [results[mean] for mean in ("miou", "mpa", "mf1", "mprecision")] == [None] * 4 and results["accuracy"] == 1.0
    assert list_results(np.array([[50, 0], [0, 1]]), names)["miou"] == 1.0
    results = list_results(np.array([[50]]), ["background"])
    assert [results[mean] for mean in ("miou", "mpa", "mf1", "mprecision")] == [None] * 4 and results["per_class"][0]["iou"] == 1.0
    assert "with one class there is nothing to measure" in one_class_only(np.array([[50]]), ["background"], 3)


def test_nothing_labelled():
    ignored = np.full((4, 5), 255, np.uint8)
    results = segmentation_results(count_confusion(ignored, np.zeros((4, 5), np.uint8), 3), ["a", "b", "c"])
    assert [results[key] for key in (*OVERALL, "mf1")] == [None] * 6
    assert results["absent"] == ["a", "b", "c"] and results["pixels"] == 0
    assert "mIoU        –" in segmentation_report(results)


def test_slices_and_all_255_classes():
    rng = np.random.default_rng(1)
    truth, labels = (rng.integers(0, 255, (30, 40), dtype=np.uint8) for _ in range(2))
    part = count_confusion(truth[::2, ::-1], labels[::2, ::-1], 255)                         # not contiguous
    assert part.sum() == 600 and np.array_equal(part, count_confusion(truth[::2].copy(), labels[::2].copy(), 255))


def test_impossible_predictions_of_the_reference_case():
    for i, (truth, labels) in enumerate(pictures("pred_out_of_range")):
        with pytest.raises(UserError) as caught:
            count_confusion(truth, labels, 4, where=f"pic_{i:02d}.png")
        sevens, ignored = (labels == 7).sum(), (labels == 255).sum()
        counts = [f"{count} pixel{'' if count == 1 else 's'}" for count in (sevens, ignored)]
        assert str(caught.value) == (f"pic_{i:02d}.png: the prediction contains the values 7 ({counts[0]}), 255 ({counts[1]}), "
                                     "but there are 4 classes, 0 to 3.")


def test_impossible_values():
    good = np.zeros((3, 4), np.uint8)
    bad = good.copy()
    bad[1, 1:3] = 21
    sentence = r"^b 1\.png: the mask contains the value 21 \(2 pixels\), but there are 21 classes, 0 to 20, and 255 for what .*\.$"
    with pytest.raises(UserError, match=sentence):
        count_confusion(bad, good, 21, "b 1.png")
    assert count_confusion(bad, good, 22)[21, 0] == 2
    with pytest.raises(UserError, match=r"^the prediction contains the value 21 \(2 pixels\)"):
        count_confusion(np.full((3, 4), 255, np.uint8), bad, 21)                             # under ignored pixels, too
    many = np.arange(12, dtype=np.uint8).reshape(3, 4)
    with pytest.raises(UserError, match=r"values 2 \(1 pixel\), 3 .* 6 \(1 pixel\) \.\.\., but"):
        count_confusion(many, good, 2)
    with pytest.raises(TypeError, match="takes uint8, not uint8 and int64"):
        count_confusion(good, good.astype(np.int64) - 1, 21)


def test_sizes_that_differ():
    with pytest.raises(UserError, match=r"^a\.png: the prediction is 3 x 4 pixels \(rotated by 90 degrees\), the mask 4 x 3\.$"):
        count_confusion(np.zeros((3, 4), np.uint8), np.zeros((4, 3), np.uint8), 2, "a.png")
    with pytest.raises(UserError, match=r"the prediction is 4 x 2 pixels, the mask 4 x 3\.$"):
        count_confusion(np.zeros((3, 4), np.uint8), np.zeros((2, 4), np.uint8), 2)


def test_report():
    results = segmentation_results(np.array([[6, 2, 0, 0], [0, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0]]), ["background", "猫", "dog", "cow"])
    lines = segmentation_report(results).splitlines()
    assert lines[0].split() == ["class", "iou", "pa", "precision", "f1", "pixels", "predicted"]
    assert lines[2].split() == ["猫", "0.000", "–", "0.000", "0.000", "0", "2"]
    assert lines[4].split() == ["cow", "–", "–", "–", "–", "0", "0"]
    text = "\n".join(lines)
    assert "prediction holds them: cow." in text and "iou 0: 猫." in text and "10 labelled pixels" in text
    assert f"mIoU        {(0.75 + 0 + 1) / 3:.3f}  mean IoU" in text and "mPA         0.875  " in text
    assert segmentation_report({**results, "images": 7}).count("7 images, 10 labelled pixels") == 1
    assert "Left out" not in segmentation_report(segmentation_results(np.eye(2, dtype=int), ["a", "b"]))
