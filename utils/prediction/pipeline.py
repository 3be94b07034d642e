"""Reading, the network, drawing and saving at the same time, in threads: OpenCV, Pillow and PyTorch let other
threads run while they compute.

The network stays in the main thread, where Ctrl-C arrives. What waits is bounded, so that memory does not
grow with the number of pictures, and everything comes out in the order in which it went in.
"""
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Lock

ROOM = 100_000_000              # pixels of pictures that may wait between two stages


class Clock:
    """Seconds that each stage has taken, whatever thread it ran in:  with clock("read"): ..."""

    def __init__(self):
        self.seconds, self.lock = Counter(), Lock()

    @contextmanager
    def __call__(self, stage):
        began = time.perf_counter()
        yield
        with self.lock:
            self.seconds[stage] += time.perf_counter() - began


class InOrder:
    """Work for other threads: handed over piece by piece, and taken back in the same order."""

    def __init__(self, threads):
        self.pool, self.waiting = ThreadPoolExecutor(threads), deque()

    def put(self, work, *arguments):
        self.waiting.append(self.pool.submit(work, *arguments))

    def take(self, most=0):
        """-> generator of results, the oldest first, until at most so many pieces are still waiting.
        What went wrong in a piece is raised in its turn."""
        while len(self.waiting) > most:
            wait([self.waiting[0]])                     # stopped meanwhile, nothing is lost
            yield self.waiting.popleft().result()

    def rest(self):
        """-> generator of the results that are left, without those that went wrong: another has failed."""
        while self.waiting:
            if not self.waiting[0].exception():
                yield self.waiting[0].result()
            self.waiting.popleft()

    def close(self):
        """What has not begun is not done any more."""
        self.pool.shutdown(cancel_futures=True)


def read_ahead(read, items, threads, most):
    """-> generator of read(item) for every item, in their order, while `most` later ones are being read.

    What `read` gives has `pixels`: after a large picture fewer are read ahead.
    """
    line, room = InOrder(threads), most
    try:
        for item in items:
            line.put(read, item)
            for result in line.take(room):
                room = min(most, ROOM // max(1, result.pixels))
                yield result
        yield from line.take()
    finally:
        line.close()


def iterate_ahead(values, most):
    """-> generator of what the iterator `values` gives; another thread asks it for the next `most` ones."""
    line, end = InOrder(1), object()
    try:
        while True:
            while len(line.waiting) <= most:
                line.put(next, values, end)
            for value in line.take(most):
                if value is end:
                    return
                yield value
    finally:
        line.close()


def in_batches(pictures, size, answer):
    """-> generator of (picture, its answer), in the order of `pictures`, a generator.

    size: of a batch, in which all have one `shape`: of 4 * size pictures those of one shape go together.
    answer: a function, list of pictures -> list of answers. Those whose shape is None get None.
    """
    window, pixels = [], 0
    for picture in pictures:
        window.append(picture)
        pixels += picture.pixels
        if size == 1 or len(window) == 4 * size or pixels > ROOM:
            yield from answer_window(window, size, answer)
            window, pixels = [], 0
    yield from answer_window(window, size, answer)


def answer_window(window, size, answer):
    """-> generator of (picture, answer) in the order of the list `window`."""
    answers, shapes = {}, dict.fromkeys(picture.shape for picture in window if picture.shape)
    for shape in shapes:
        same = [place for place, picture in enumerate(window) if picture.shape == shape]
        for first in range(0, len(same), size):
            places = same[first:first + size]
            answers.update(zip(places, answer([window[place] for place in places])))
    for place, picture in enumerate(window):
        yield picture, answers.get(place)
