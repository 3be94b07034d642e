"""Videos, cameras and streams through an engine: every frame found, drawn, written."""
import signal
import time
from collections import Counter

from tqdm import tqdm

from utils.errors import UserError
from utils.prediction.answers import find_objects, find_regions, tally
from utils.prediction.words import print_count
from utils.results import media
from utils.results.video import VideoFile, VideoSource
from utils.settings import counted, shown
from utils.system import signals


def predict_video(s, engine, item, folder, window):
    """Every frame of a video, or what a camera sees until Ctrl-C or Esc, drawn into a new video."""
    source = VideoSource(item.place)
    like = item.place if item.kind == "video" else None
    video = VideoFile(folder / item.name.parent, item.name.name, source.fps, like, source.aspect)
    if s.save_json or s.save_csv or s.crop or s.save_index or s.save_colour or s.save_cut_out:
        print("save_json, save_csv, crop, save_index and so on are for images; here only the video is saved.")
    if item.kind == "camera":
        print(f"Camera or stream {item.place}: {'Esc in the window or ' if window else ''}Ctrl-C ends it.")

    # Ctrl-C is how a camera ends. Anything else that is stopped ends the program too, with what there is.
    start, stopped, total = time.monotonic(), None, Counter()
    try:
        whole_file = predict_frames(s, engine, source, video, total, window)
    except (KeyboardInterrupt, signals.Stopped) as stop:
        stopped = stop
        print("\nStopped; what was seen so far is kept.")
    finally:
        source.close()
        readable = video.close()

    # The frame in which it was stopped is not in the video.
    seen, seconds = source.seen - (stopped is not None), time.monotonic() - start
    print(f"{counted(seen, 'frame')} in {seconds:.1f} s, {seen / max(seconds, 1e-6):.1f} frames per second")
    print_count(s, "all frames together", engine.task, total)
    tell_video(video, readable, source.fps)
    if stopped is None and whole_file and source.complaint():
        print(source.complaint())
    if isinstance(stopped, signals.Stopped) and (stopped.number != signal.SIGINT or not source.live):
        raise stopped


def predict_frames(s, engine, source, video, total, window):
    """Frame after frame: find, draw, write. total: Counter that is added to. -> False after Esc"""
    look_for = find_regions if engine.task == "segmentation" else find_objects
    start, last = time.monotonic(), None
    bar = tqdm(source.frames(), total=source.count or None, unit="frame", disable=None)
    for image, moment, hole in bar:
        picture, found, *_ = look_for(s, engine, image, video=True)
        total += tally(found)

        # A hole is filled with the frame before it, so that everything after it keeps its time.
        for _ in range(hole):
            video.write(picture if last is None else last)
        last = picture

        # A camera goes on while the network computes: repeated frames keep the video at true speed.
        if source.live:
            copies = round((time.monotonic() - start) * source.fps) - video.written
            for _ in range(max(1, copies)):
                video.write(picture)
        else:
            video.write(picture, moment)
        if window and not media.show_image(picture, 1):
            return False
    return True


def tell_video(video, readable, fps):
    """Where a video is, and what it is not. readable: frames that can be read back from it.
    Error: fewer than were written."""
    # OpenCV says nothing when the disk is full, so the frames were counted once more.
    if readable < video.written:
        raise UserError(f"{shown(video.path)} holds {readable} of {video.written} frames. Is the disk full?")
    print(f"{shown(video.path)}: {counted(readable, 'frame')}, {fps:g} per second" if readable
          else "No frame was read, so there is no video.")
    if complaint := video.complaint():
        print(complaint)
