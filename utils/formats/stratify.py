"""A split in which every class comes as evenly as possible into train, val and test.

Source: K. Sechidis, G. Tsoumakas, I. Vlahavas, On the Stratification of Multi-Label Data, ECML PKDD 2011,
algorithm 1 (iterative stratification): the rarest class is dealt out first, each of its images to the part
that lacks most of it. One departure: the parts get exactly the sizes they are given; a part that is full
takes no more.
"""
import random
from collections import Counter

from utils.images import IGNORED


def deal_evenly(classes, sizes, seed=0):
    """-> list of names per part.

    classes: dict name -> classes in it.  sizes: images per part, together all of them.
    """
    # Sorted first, so that the result depends on the seed alone and not on the order of the files.
    rng = random.Random(seed)
    left = {name: sorted(set(classes[name]), key=str) for name in sorted(classes)}
    total = Counter(label for labels in left.values() for label in labels)

    # What each part still wants: images, and images of each class.
    free = list(sizes)
    shares = [size / max(1, len(left)) for size in sizes]
    lacking = [{label: share * count for label, count in total.items()} for share in shares]

    dealt = [[] for _ in sizes]
    while left:
        # The rarest class first: of a class with three images each part should get one.
        counts = Counter(label for labels in left.values() for label in labels)
        rarest = min(counts, key=lambda label: (counts[label], str(label)), default=None)
        names = [name for name, labels in left.items() if rarest is None or rarest in labels]
        rng.shuffle(names)

        # Each of its images goes to the part that lacks most of it, then to the emptiest, then by lot.
        for name in names:
            labels = left.pop(name)
            open_parts = (part for part, room in enumerate(free) if room > 0)
            part = max(open_parts, key=lambda part: (lacking[part].get(rarest, 0.0), free[part],
                                                     rng.random()))
            dealt[part].append(name)
            free[part] -= 1
            for label in labels:
                lacking[part][label] -= 1
    return dealt


def classes_in(truth):
    """The classes of an image: the names of its objects, or the values in its mask.

    truth: list of dict(name, ...), or (256,) pixels per value.
    """
    if isinstance(truth, list):
        return {thing["name"] for thing in truth}
    return {value for value, count in enumerate(truth.tolist()) if count and value != IGNORED}
