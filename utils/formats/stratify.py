"""A split in which every class comes as evenly as possible into train, val and test.

Source: K. Sechidis, G. Tsoumakas, I. Vlahavas, On the Stratification of Multi-Label Data, ECML PKDD 2011, algorithm 1 (iterative
stratification): the rarest class is dealt out first, each of its images to the part that lacks most of it. One departure: the parts get
exactly the sizes they are given, a part that is full takes no more.
"""
import random
from collections import Counter

from utils.images import IGNORED


def deal_evenly(classes, sizes, seed=0):
    """classes: dict name -> classes in it.  sizes: images per part, together all of them. -> list of names per part."""
    rng = random.Random(seed)
    left = {name: sorted(set(classes[name]), key=str) for name in sorted(classes)}
    free = list(sizes)                                                      # images that a part still wants
    total = Counter(label for labels in left.values() for label in labels)
    share = [size / max(1, len(left)) for size in sizes]
    lacking = [{label: part * count for label, count in total.items()} for part in share]      # images of a class that a part still wants
    dealt = [[] for _ in sizes]
    while left:
        counts = Counter(label for labels in left.values() for label in labels)
        rarest = min(counts, key=lambda label: (counts[label], str(label)), default=None)
        names = [name for name, labels in left.items() if rarest is None or rarest in labels]
        rng.shuffle(names)
        for name in names:
            labels = left.pop(name)
            part = max((number for number, room in enumerate(free) if room > 0),
                       key=lambda number: (lacking[number].get(rarest, 0.0), free[number], rng.random()))
            dealt[part].append(name)
            free[part] -= 1
            for label in labels:
                lacking[part][label] -= 1
    return dealt


def classes_in(truth):
    """The classes of an image: the names of its objects, or the values in its mask. truth: list of dict(name, ...), or (256,) pixels per value."""
    if isinstance(truth, list):
        return {thing["name"] for thing in truth}
    return {value for value, count in enumerate(truth.tolist()) if count and value != IGNORED}
