"""Options of a dataset, written in one row in the tests: those of its augmentation and the others."""
from dataclasses import fields

from utils.augment import Augmentation

NAMES = {field.name for field in fields(Augmentation)}


def dataset_options(train=True, **options):
    """-> keyword arguments of DetectionData or SegmentationData. train=False: without augmentation, whatever it is set to."""
    how = {name: options.pop(name) for name in NAMES & set(options)}
    return {"augmentation": Augmentation(**how) if train else None, **options}
