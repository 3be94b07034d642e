"""How far something is: a bar where somebody looks, else a line a minute."""
import time

from tqdm import tqdm

MINUTE = 60.0


def progress(items, what, off=False, total=None, size=None, amount=str):
    """The items one by one. what: words for it, like "evaluating".  off: say nothing at all.

    total: how much it is in all, if that is not the number of items.  size: a function that says how much of
    it an item is.  amount: a function that writes so much of it.
    With nohup, in a queue of a cluster or in a test nobody sees a bar; silence for an hour looks like a
    program that stands still.
    """
    total, done = len(items) if total is None else total, 0
    began = spoken = time.monotonic()
    bytes_too = {"unit": "B", "unit_scale": True} if amount is not str else {}
    with tqdm(total=total or None, desc=what, leave=False, disable=True if off else None, **bytes_too) as bar:
        for item in items:
            yield item
            step = size(item) if size else 1
            done += step
            bar.update(step)

            # The rest takes as long as what is done.
            now = time.monotonic()
            if bar.disable and not off and now - spoken >= MINUTE and done:
                spoken = now
                left = (now - began) / done * (total - done)
                rest = f" of {amount(total)}, about {left / 60:.1f} min left" if total else ""
                print(f"{what}: {amount(done)}{rest}", flush=True)
