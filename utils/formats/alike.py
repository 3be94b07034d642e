"""Pictures that show nearly the same: the same shot resized, compressed again, or taken a moment earlier.

Each picture gets a word of 64 bits, its perceptual hash: which of the lowest frequencies of its grey copy are
stronger than their median. Two pictures are alike when few of these bits differ. Source: C. Zauner,
Implementation and Benchmarking of Perceptual Image Hash Functions, Hagenberg 2010 (the DCT hash).
"""
from functools import cache

import cv2
import numpy as np

LOW = 8                         # frequencies in each direction
ENOUGH = 32                     # px of a side that show them; a larger copy only takes time
NEAR = 6                        # bits of 64 that may differ
FLAT = 1.0                      # grey levels: where no frequency is stronger there is nothing to compare
BLOCK = 256                     # pictures compared with all others at a time, to bound the memory


def look_of(grey):
    """A grey picture (h, w) uint8 -> its word, 16 hexadecimal digits; "" of a picture of one colour."""
    if min(grey.shape) > 4 * ENOUGH:
        grey = cv2.resize(grey, (ENOUGH, ENOUGH), interpolation=cv2.INTER_AREA)
    height, width = grey.shape
    frequencies = (cosines(height) @ grey.astype(np.float32) @ cosines(width).T).ravel()
    if np.abs(frequencies[1:]).max() < FLAT:
        return ""
    median = np.partition(frequencies, LOW**2 // 2)[LOW**2 // 2]
    return np.packbits(frequencies >= median).tobytes().hex()


@cache
def cosines(length):
    """The first rows of the discrete cosine transform (type II) of so many values, (LOW, length) float32."""
    rows = np.cos(np.pi / length * np.outer(np.arange(LOW), np.arange(length) + 0.5))
    return (rows / length).astype(np.float32)


def most_alike(looks, others):
    """For each word of `others` the index of the nearest one in `looks`, -1 where none is near enough.

    With +1 and -1 for the bits the product of two words is 64 - 2 * (bits that differ): one product of
    matrices compares a block with all.
    """
    if not looks:
        return [-1] * len(others)
    ours, theirs = signs(looks), signs(others)
    found = []
    for start in range(0, len(theirs), BLOCK):
        agreement = theirs[start:start + BLOCK] @ ours.T                    # (others of the block, looks)
        best = agreement.argmax(1)
        near = agreement.max(1) >= LOW**2 - 2 * NEAR
        found += np.where(near, best, -1).tolist()
    return found


def signs(looks):
    """Words -> (N, 64) float32 of +1 and -1."""
    words = np.frombuffer(bytes.fromhex("".join(looks)), np.uint8).reshape(-1, LOW)
    return np.unpackbits(words, axis=1).astype(np.float32) * 2 - 1
