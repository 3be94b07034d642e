"""Pictures kept in memory, decoded and shrunken, so that an epoch after the first one opens no files."""
import mmap

import numpy as np

from utils.system.machine import machine_memory

CACHE_SHARE = 0.25              # of the machine's memory may hold pictures; the others are decoded each time
FILLED = 1                      # the first byte of a slot that holds a picture
HEADER = 9                      # bytes: that one, and four shorts: (h, w) as kept, (h, w) of the original
LONGEST = 2**16 - 1             # px: a longer side does not fit into a short


class PictureCache:
    """One slot a picture, for as many pictures of a list as fit into CACHE_SHARE, the first ones first.

    count: pictures in the list.  largest: (H, W), none is larger.  bytes_per_pixel: 3, or 4 for those with a
    mask.

    The memory is anonymous and shared: a page is taken when it is first written to, and forked workers fill
    it together.
    """

    def __init__(self, count, largest, bytes_per_pixel=3):
        self.bytes_per_pixel = bytes_per_pixel
        self.slot = HEADER + largest[0] * largest[1] * bytes_per_pixel
        self.slots = min(count, int(CACHE_SHARE * machine_memory()) // self.slot)
        self.memory = mmap.mmap(-1, self.slots * self.slot) if self.slots else None

    def __getstate__(self):
        return {**self.__dict__, "memory": None, "slots": 0}                # a spawned worker cannot share it

    def get(self, index, read):
        """-> picture (h, w, 3), its mask (h, w) or None, size (h, w) of the original; none of them may be
        written to.

        read: function (index) -> the same from the files, called when the cache does not hold them.
        """
        if index >= self.slots:
            return read(index)
        start = index * self.slot
        if self.memory[start] != FILLED:
            image, mask, size = read(index)
            if max(size) > LONGEST:
                return image, mask, size
            self.fill(start, image, mask, size)
        return self.view(start)

    def fill(self, start, image, mask, size):
        """Copy a picture into the slot that begins at this byte."""
        header = np.frombuffer(self.memory, np.uint16, 4, start + 1)
        header[:] = (*image.shape[:2], *size)
        np.frombuffer(self.memory, np.uint8, image.size, start + HEADER)[:] = image.ravel()
        if mask is not None:
            np.frombuffer(self.memory, np.uint8, mask.size, start + HEADER + image.size)[:] = mask.ravel()
        self.memory[start] = FILLED                         # last, so that nobody reads half a picture

    def view(self, start):
        """What `get` returns, in the slot itself, without a copy."""
        height, width, *size = (int(side) for side in np.frombuffer(self.memory, np.uint16, 4, start + 1))
        pixels = np.frombuffer(self.memory, np.uint8, height * width * self.bytes_per_pixel, start + HEADER)
        pixels.flags.writeable = False                                      # whoever augments works on a copy
        image = pixels[:height * width * 3].reshape(height, width, 3)
        mask = pixels[height * width * 3:].reshape(height, width) if self.bytes_per_pixel == 4 else None
        return image, mask, tuple(size)
