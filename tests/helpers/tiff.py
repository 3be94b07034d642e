"""TIFFs of any bands and type of numbers, which Pillow does not write."""
import struct

import numpy as np


def tiff(pixels, planar=False, photometric=None):
    """pixels: (h, w, bands) of any type -> bytes. planar: band after band.  photometric: 0: the largest number is black."""
    height, width, bands = pixels.shape
    bits = pixels.dtype.itemsize * 8
    data = np.ascontiguousarray(pixels.transpose(2, 0, 1) if planar else pixels).tobytes()
    strips = bands if planar else 1
    if photometric is None:
        photometric = 2 if bands > 2 else 1
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    tags = {256: width, 257: height, 258: [bits] * bands, 259: 1, 262: photometric, 273: [8 + i * len(data) // strips for i in range(strips)],
            277: bands, 278: height, 279: [len(data) // strips] * strips, 284: 2 if planar else 1, 339: [kind] * bands}
    if bands > 3:
        tags[338] = [0] * (bands - 3)

    # Longs everywhere; what is longer than four bytes goes behind the table.
    behind, entries, place = b"", b"", 8 + len(data) + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        values = values if isinstance(values, list) else [values]
        raw = struct.pack(f"<{len(values)}I", *values)
        if len(raw) > 4:
            raw, behind = struct.pack("<I", place + len(behind)), behind + raw
        entries += struct.pack("<HHI", tag, 4, len(values)) + raw
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0" + behind
