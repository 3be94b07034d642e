"""Videos through an engine: every frame found, drawn, written."""
import time
from collections import Counter
from contextlib import closing

from tqdm import tqdm

from utils.errors import UserError
from utils.prediction.answers import ask, draw_answer, found_in, tally
from utils.prediction.follow import Follow
from utils.prediction.pipeline import InOrder, iterate_ahead
from utils.prediction.window import ENDS
from utils.prediction.words import print_count
from utils.results.video import VideoFile, VideoSource
from utils.settings import counted, shown
from utils.system import signals

AHEAD = 2                       # frames of a file that wait between two stages


def predict_video(s, engine, item, folder, window):
    """Every frame of a video, drawn into a new video."""
    source = VideoSource(item.place)
    video = VideoFile(folder / item.name.parent, item.name.name, source.fps, item.place, source.aspect)
    follow = Follow(s, engine, shown(item.place), source.fps)
    if s.crop or s.save_index or s.save_colour or s.save_cut_out:
        print("crop, save_index and so on are for images; here only the video is saved.")

    # Whatever stops it ends the program too, with what there is.
    start, total = time.monotonic(), Counter()
    whole_file, stopped, readable = until_stopped(source, video, predict_frames, s, engine, source, video,
                                                  follow, total, window)

    # What was read ahead when it was stopped is not in the video.
    seen, seconds = video.seen, time.monotonic() - start
    print(f"{counted(seen, 'frame')} in {seconds:.1f} s, {seen / max(seconds, 1e-6):.1f} frames per second")
    print_count(s, "all frames together", engine.task, total)
    follow.finish(folder / item.name.parent, item.name.name)
    tell_video(video, readable, f"{source.fps:g} per second")
    if stopped is None and whole_file and source.complaint():
        print(source.complaint())
    if isinstance(stopped, signals.Stopped):
        raise stopped


def until_stopped(source, video, work, *arguments):
    """work(*arguments) until it is done or stopped; source and video are closed then.

    -> what it gave, what stopped it, None where nothing did; how many frames can be read back.
    """
    given = stopped = None
    try:
        given = work(*arguments)
    except (KeyboardInterrupt, signals.Stopped) as stop:
        stopped = stop
        print("\nStopped; what was seen so far is kept.")
    finally:
        source.close()
        readable = video.close()
    return given, stopped, readable


def predict_frames(s, engine, source, video, follow, total, window):
    """Frame after frame: find, draw, write. follow: of follow.py.  total: Counter that is added to.
    -> False after Esc

    The next frames are read, and the last ones drawn and written, while the network computes.
    """
    frames = iterate_ahead(source.frames(), AHEAD)
    line = InOrder(1)

    # One thread draws and writes, so that the frames stay in order.
    try:
        with closing(frames):
            for image, moment, hole in tqdm(frames, total=source.count or None, unit="frame", disable=None):
                (answer,) = ask(s, engine, [image], least=follow.least())
                answer = follow.join(answer, 1 + hole)
                line.put(write_frame, s, engine, video, follow, image, answer, moment, hole)
                for picture, found in line.take(AHEAD):
                    total += tally(found)
                    if window and window.show(picture) in ENDS:
                        return False
        return True
    finally:
        for _, found in line.rest():
            total += tally(found)
        line.close()


def write_frame(s, engine, video, follow, image, answer, moment, hole):
    """Draw one frame and add it to the video. -> the picture, what was found"""
    found = found_in(engine, answer)
    picture = draw_answer(s, engine, image, answer, found, video=True)
    picture = follow.add(picture, image, found, moment, 1 + hole)

    # A hole is filled with the frame before it, so that everything after it keeps its time.
    for _ in range(hole):
        video.write(picture if video.image is None else video.image)
    video.write(picture, moment)
    video.seen += 1
    return picture, found


def tell_video(video, readable, pace):
    """Where a video is, and what it is not. readable: frames that can be read back from it.
    pace: words about its time.
    Error: fewer than were written."""
    # OpenCV says nothing when the disk is full, so the frames were counted once more.
    if readable < video.written:
        raise UserError(f"{shown(video.path)} holds {readable} of {video.written} frames. Is the disk full?")
    print(f"{shown(video.path)}: {counted(readable, 'frame')}, {pace}" if readable
          else "No frame was read, so there is no video.")
    if complaint := video.complaint():
        print(complaint)
