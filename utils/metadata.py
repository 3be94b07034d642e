"""What a checkpoint says besides its weights: is every value of the kind that train.py writes?

Asked once, where a checkpoint is read, so that no script meets text where it counts, or a list without end.
"""
from collections.abc import Mapping
from typing import Any

from utils.errors import UserError
from utils.images import FITS
from utils.settings import AnyPath, Rule, brief, number, one_of, optional, several, shown, text, whole

MOST_CLASSES = 10_000
LONGEST_NAME = 200              # letters of a class name


def names_of_classes() -> Rule:
    """A rule: a list of texts, of which a network can have that many."""
    def good(value: Any) -> bool:
        return (isinstance(value, (list, tuple)) and 1 <= len(value) <= MOST_CLASSES
                and all(isinstance(one, str) and len(one) <= LONGEST_NAME for one in value))
    return good, f"1 to {MOST_CLASSES:,} names, each of at most {LONGEST_NAME} letters"


def dictionary(values: Rule | None = None, keys: type = str) -> Rule:
    """A rule: a dict; with keys of one type, whose values keep the other rule."""
    def good(value: Any) -> bool:
        return (isinstance(value, Mapping) and all(isinstance(key, keys) for key in value)
                and (values is None or all(map(values[0], value.values()))))
    return good, "a dict" + (f", each value {values[1]}" if values else "")


def finite() -> Rule:
    """A rule: a number as a training may sum it up; a bad learning rate makes large ones."""
    plain, expected = number()

    def good(value: Any) -> bool:
        return plain(value) or isinstance(value, float) and abs(value) <= 1e300
    return good, expected


def rows(each: Rule) -> Rule:
    """A rule: a list, every entry of which keeps the other rule."""
    def good(value: Any) -> bool:
        return isinstance(value, list) and all(map(each[0], value))
    return good, f"a list, each entry {each[1]}"


def tensors() -> Rule:
    """A rule: what state_dict() gives."""
    def good(value: Any) -> bool:
        import torch  # only here: what an .onnx file says is checked without PyTorch
        return isinstance(value, torch.Tensor)

    found = dictionary((good, "a tensor"))
    return lambda value: found[0](value) and len(value) > 0, "tensors with their names"


# What every script uses, and in the settings of the training what other scripts look up.
ABOUT: dict[str, Rule] = {
    "net": text(), "options": dictionary(), "class_names": names_of_classes(),
    "input_shape": several(2, whole(1)), "settings": dictionary(), "epoch": whole(0), "model": tensors(),
    "confidence": optional(number(0, 1))}
SETTINGS: dict[str, Rule] = {
    "net": text(), "fit": optional(one_of(FITS)), "threshold": optional(number(0, 1)),
    "ignore_labels": rows(whole(0)), "dataset": text(), "optimizer": text(), "epochs": optional(whole(1)),
    **dict.fromkeys(("classes_path", "train_list", "val_list", "test_list"), optional(text()))}

# What only a resumed training uses.
TRAINING: dict[str, Rule] = {
    "model": tensors(), "optimizer": dictionary(), "scaler": dictionary(), "ema_steps": whole(0),
    "step": whole(0), "batch": whole(0), "seen": whole(0), "waited": whole(0), "clock": number(0),
    "sums": dictionary(finite()), "history": rows(dictionary(finite())), "seconds": rows(number(0)),
    "best": number(-1), "confidence": optional(number(0, 1)),
    "machine": dictionary(), "lists": dictionary(), "circumstances": dictionary()}
# may be missing
LATER = {"confidence", "machine", "ema_steps", "batch", "seconds", "clock", "waited", "lists",
         "circumstances"}
OPTIMIZER: dict[str, Rule] = {"state": dictionary(dictionary(), int), "param_groups": rows(dictionary())}


def check_metadata(content: Mapping, path: AnyPath, resumed: bool = False) -> None:
    """Error: a value that is not of the kind that train.py writes; it names what was expected and found.

    content: a checkpoint of train.py.  resumed: whether a training goes on with it.
    """
    check_part(content, ABOUT, "", path, LATER)
    check_part(content["settings"], SETTINGS, "settings.", path, later=SETTINGS)
    if not resumed:
        return
    check_part(content, {"training": dictionary()}, "", path)
    check_part(content["training"], TRAINING, "training.", path, LATER)
    check_part(content["training"]["optimizer"], OPTIMIZER, "training.optimizer.", path)

    # The numbers of the progress belong together.
    training = content["training"]
    if len(training["history"]) != content["epoch"] or training["sums"] and not training["seen"]:
        raise UserError(f"{shown(path)} contradicts itself: {content['epoch']} epochs done, "
                        f"{len(training['history'])} in its history, {training['seen']} images of the next.")


def check_part(values: Mapping, rules: dict[str, Rule], prefix: str, path: AnyPath,
               later: Any = ()) -> None:
    """The values of one dict. later: names that may be missing."""
    for name, (good, expected) in rules.items():
        if name not in values and name in later:
            continue
        found = brief(values[name]) if name in values else "nothing"
        if name not in values or not good(values[name]):
            raise UserError(f"{shown(path)} is not as train.py writes it: {prefix}{name} is {found}, "
                            f"expected {expected}.")
