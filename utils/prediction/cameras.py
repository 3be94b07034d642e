"""What a camera sees, through an engine: always the newest frame, until it ends or somebody ends it."""
import signal
import time
from collections import Counter

from tqdm import tqdm

from utils.prediction.answers import find_and_draw, tally
from utils.prediction.follow import Follow
from utils.prediction.live import Rate, open_live, without_password
from utils.prediction.videos import predict_video, tell_video, until_stopped
from utils.prediction.window import ENDS, caption
from utils.prediction.words import print_count
from utils.results import media
from utils.results.video import VideoFile
from utils.settings import counted, shown
from utils.system import signals

BRIDGE = 30.0                   # seconds: a longer pause is written into the video in parts


def predict_camera(s, engine, item, folder, window):
    """A camera or a stream until Esc or Ctrl-C, drawn into a new video that is as long as what happened."""
    source = open_live(item.place)
    if source is None:
        predict_video(s, engine, item._replace(kind="video"), folder, window)
        return
    video = VideoFile(folder, item.name.name, source.fps, aspect=source.aspect)
    name = without_password(item.place)
    follow = Follow(s, engine, name, source.fps)
    if s.crop or s.save_index or s.save_colour or s.save_cut_out:
        print("crop, save_index and so on are for images; here only the video is saved.")
    print(f"Camera or stream {name}: {'Esc in the window or ' if window else ''}Ctrl-C ends it.")

    # Ctrl-C is how a camera ends. Another signal ends the program too, with what there is.
    start, total = time.monotonic(), Counter()
    _, stopped, readable = until_stopped(source, video, watch, s, engine, source, video, follow, total,
                                         window)

    # The frame in which it was stopped is not in the video.
    seen, seconds = source.seen - (stopped is not None), time.monotonic() - start
    print(f"{counted(seen, 'frame')} in {seconds:.1f} s, {seen / max(seconds, 1e-6):.1f} frames per second "
          f"(of {source.arrived} that came: always the newest)")
    print_count(s, "all frames together", engine.task, total)
    follow.finish(folder, item.name.name)
    tell_video(video, readable, f"{video.last:.1f} s")
    if isinstance(stopped, signals.Stopped) and stopped.number != signal.SIGINT:
        raise stopped


def watch(s, engine, source, video, follow, total, window):
    """Frame after frame: find, draw, write, show. follow: of follow.py.  total: Counter that is added to.

    Returns when the source ends or the window is closed.
    """
    begin = last = before = None
    done = Rate()
    bar = tqdm(unit="frame", disable=None)
    try:
        for image, moment in source.frames():
            if image is not None:
                begin = moment if begin is None else begin
                passed = 1 if before is None else max(1, round((moment - before) * source.fps))
                before = moment
                picture, found = find_and_draw(s, engine, image, True, follow, moment - begin, passed)
                total += tally(found)
                record(video, picture, moment - begin)
                last = picture
                done.count()
                bar.update()

            # Also while no frame comes: a window must not be stuck.
            if window and last is not None:
                rates = f"{done.rate():.1f} of {source.rate():.1f} frames per second"
                key = window.show(caption(last, f"{rates}    Esc: end    s: save a picture"))
                if key in ENDS:
                    return
                if key == "s":
                    save_frame(video, last)
    finally:
        bar.close()

        # What was seen last stays to be seen until the end.
        if last is not None and not source.ended:
            record(video, last, time.monotonic() - source.begin - begin)


def record(video, picture, moment):
    """Add a picture of a camera to a VideoFile, so that it is shown at its time: the video is as long as
    what happened. moment: s from the first picture on."""
    if video.writer is None:
        video.open(picture)
    if video.codec == "H.264":
        while moment - video.last > BRIDGE:                 # in which the stream was lost
            video.write(video.image, video.last + BRIDGE)
        video.write(picture, moment)
        return

    # Pictures at equal distances: the one before is repeated up to this one, and one that comes too early is
    # left out.
    due = round(moment * video.fps) + 1 - video.written
    for _ in range(due - 1):
        video.write(video.image)
    if due > 0:
        video.write(picture)


def save_frame(video, picture):
    """The key s: a picture beside the video."""
    path = media.fresh(video.folder, f"{video.name}_frame", ".jpg")
    media.save_image(path, picture)
    tqdm.write(f"{shown(path)} is saved.")
