"""What predict.py says: of a result, of a sum over many, of settings that have no effect."""
from utils.prediction.answers import tally
from utils.results import masks
from utils.settings import counted


def say_unused(s, engine):
    """What was asked for and has no effect with this network."""
    if engine.task == "segmentation":
        if s.fit != "letterbox":
            print(f'fit="{s.fit}" is for boxes; '
                  'for a network that finds the class of every pixel images are letterboxed.')
        if s.classes is not None or s.class_confidence:
            print("classes and class_confidence are for boxes; here every pixel keeps its class.")
        if s.crop:
            print("crop=True is for boxes; this network finds the class of every pixel: see save_cut_out.")
        if s.save_cut_out and masks.background_of(engine.class_names) is None:
            print(f'save_cut_out=True needs a first class called "background"; '
                  f'here it is "{engine.class_names[0]}", so nothing is cut out.')
    elif s.save_index or s.save_colour or s.save_cut_out:
        print("save_index, save_colour and save_cut_out are for segmentation; "
              "this network finds boxes: see crop.")


def print_record(s, target, found, note):
    """What was found in one image."""
    if "classes" in found:
        shares = (f"{row['label']} {masks.percent(row['share'])}" for row in found["classes"])
        print(f"{target}: " + ", ".join(shares))
    else:
        print(f"{target}: {counted(len(found['boxes']), 'box')}")
        for box in found["boxes"]:
            corners = " ".join(f"{edge:.0f}" for edge in box["xyxy"])
            print(f"    {box['label']}  {box['score']:.2f}  {corners}")

    # What the boxes or shares alone do not say.
    if note:
        print(f"    {note}")
    if "boxes" in found:
        print_count(s, "here", "detection", tally(found))


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
