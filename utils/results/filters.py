"""Which boxes are shown: the variables classes, confidence and class_confidence of predict.py."""
import numpy as np

from utils.errors import UserError, did_you_mean
from utils.settings import Settings, check, number, optional
from utils.system.files import printable

NO_CONFIDENCE = 0.3             # the least score of a box where no training says which one is best


def choose_confidence(s: Settings, info: dict, name: str = "confidence") -> None:
    """The least score of a box, where the variable is None: at which F1 was best in the training, so that
    predict.py shows what get_map.py counts.

    info: of nets.load.  name: of the variable.
    """
    check(s, **{name: optional(number(0, 1))})
    if getattr(s, name) is None and info.get("confidence") is not None:
        s.put(name, info["confidence"], "best F1 in the training")
    elif getattr(s, name) is None:
        s.put(name, NO_CONFIDENCE, "no training says which")


def check_filters(s, names):
    """Error when one of these variables names a class that the network does not have.

    names: of its classes."""
    chosen_classes(s.classes, names)
    for label, value in s.class_confidence.items():
        class_number(label, names, "class_confidence")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise UserError(f"class_confidence: {label!r} has {value!r}, expected a number from 0 to 1.")


def thresholds_of(s, names):
    """-> (K,) float32, the least score of each class; infinite for those that are not wanted."""
    limits = np.full(len(names), s.confidence, np.float32)
    for label, value in s.class_confidence.items():
        limits[class_number(label, names, "class_confidence")] = value

    wanted = chosen_classes(s.classes, names)
    if wanted is not None:
        others = np.setdiff1d(np.arange(len(names)), wanted)
        limits[others] = np.inf
    return limits


def chosen_classes(classes, names):
    """The variable classes: None, a name, a number, "cat,dog" or a list -> list of numbers, None: all."""
    if classes is None:
        return None
    if isinstance(classes, str) and classes not in names:
        classes = [part.strip(" '\"") for part in classes.strip("[]() ").split(",") if part.strip(" '\"")]
    if isinstance(classes, (str, int)):
        classes = [classes]
    if not isinstance(classes, (list, tuple)) or not classes:
        raise UserError(f'classes={classes!r}: expected names of classes, like ["{names[0]}"], '
                        "or None for all.")
    return [class_number(label, names, "classes") for label in classes]


def class_number(label, names, where):
    """A class as the user writes it, a name or a number -> its number."""
    if isinstance(label, str) and label in names:
        return names.index(label)
    if not isinstance(label, bool) and str(label).isdecimal() and int(label) < len(names):
        return int(label)
    some = ", ".join(printable(name) for name in names[:20]) + ", ..." * (len(names) > 20)
    raise UserError(f"{where}: these weights know no class {label!r}.{did_you_mean(label, names)} "
                    f"Their classes: {some}")
