"""What predict.py says: of a result, of a sum over many."""
from collections import Counter
from pathlib import Path

from utils.prediction.answers import tally
from utils.prediction.counting import listed
from utils.results import masks
from utils.settings import counted, shown

NAMED = 10                      # skipped files that are named at the end
LOWEST = 0.001                  # a score below this is none
EASIER = (0.1, 0.01)            # values of confidence that are tried next, and no lower ones
STAGES = ("read", "fit", "network", "decode + NMS", "draw", "save")


def print_record(s, target, found, hint):
    """What was found in one image. hint: see answers.py, or None."""
    if "classes" in found:
        shares = (f"{row['label']} {masks.percent(row['share'])}" for row in found["classes"])
        print(f"{target}: " + ", ".join(shares))
    else:
        print(f"{target}: {counted(len(found['boxes']), 'box')}")
        for box in found["boxes"]:
            corners = " ".join(f"{edge:.0f}" for edge in box["xyxy"])
            print(f"    {box['label']}  {box['score']:.2f}  {corners}")

    # What the boxes or shares alone do not say.
    if hint:
        print(f"    {hint_words(s, hint)}")
    if "boxes" in found:
        print_count(s, "here", "detection", tally(found))
    for region, classes in found.get("regions", {}).items():
        print(f"    {region}: {listed(classes)}")


def print_count(s, where, task, total):
    """How many objects, or what share of the pixels, each class has, if that was asked for.
    total: see `tally`."""
    if not s.count:
        return
    if task == "segmentation":
        rows = [f"{label} {masks.percent(pixels / total.total())}" for label, pixels in total.most_common()]
    else:
        rows = [f"{label} {objects}" for label, objects in sorted(total.items())]
    title = "pixels" if task == "segmentation" else "count"
    print(f"    {title}, {where}: " + (", ".join(rows) or "nothing"))


def hint_words(s, hint):
    """Why nothing is to be seen in an image, and how close it was. hint: see answers.py."""
    if hint.only is not None:
        return f'everything is "{hint.only}"; the best other class is "{hint.label}" with ' \
               f"{hint.score:.3g} at its best pixel"
    if hint.score < LOWEST:
        return f"nothing reaches confidence={s.confidence:g}; no box has even {LOWEST}"
    return f'nothing reaches confidence={s.confidence:g}; the best was "{hint.label}" with {hint.score:.3f}'


def print_sums(s, engine, sums, place, seconds):
    """What has become of several images. sums: of images.py.  place: the folder of the results."""
    names = [Path(item.place).name for item, _ in sums.skipped]
    which = ", ".join(names[:NAMED]) + " ..." * (len(names) > NAMED)
    print(f"{counted(sums.done, 'image')}, {len(sums.skipped)} skipped{': ' + which if which else ''}. "
          f"Results: {shown(place)}")
    if engine.task == "detection":
        print(f"    {counted(sums.total.total(), 'box')}")
    print_hints(s, sums)
    print_count(s, "all images", engine.task, sums.total)
    print(f"    {words_of_time(engine.clock, sums.done, seconds)}")


def print_hints(s, sums):
    """In how many images nothing is to be seen, how close the best of them came, and what to do about it."""
    if not sums.hints:
        return
    best, of = max(sums.hints, key=lambda hint: hint.score), f"in {len(sums.hints)} of {sums.done} images"
    if best.only is not None:
        # Not every image need be of the same class.
        only, times = Counter(hint.only for hint in sums.hints).most_common(1)[0]
        words = f'everything is "{only}"' if times == len(sums.hints) else "everything is one class"
        print(f'    {of} {words}; the best other class is "{best.label}" with {best.score:.3g} '
              "at its best pixel")
        return

    # A confidence that some boxes reach, unless they are hardly more than noise.
    lower = [value for value in EASIER if value < min(best.score, s.confidence)]
    advice = f"try confidence={lower[0]:g}, or train longer" if lower else "train longer"
    near = f"highest {best.score:.2g}, {best.label}" if best.score >= LOWEST else f"no box has even {LOWEST}"
    print(f"    {of} nothing reached {s.confidence:g} ({near}): {advice}")


def words_of_time(clock, images, seconds):
    """How fast it was, and what took how long. Stages overlap: they add up to more than the whole."""
    parts = [f"{stage} {1000 * clock.seconds[stage] / max(1, images):.1f}" for stage in STAGES
             if stage in clock.seconds]
    return f"{images / max(seconds, 1e-6):.1f} images/s; ms for each: {', '.join(parts)}"
