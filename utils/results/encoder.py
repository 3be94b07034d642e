"""A process of its own that writes a video with OpenCV: frames come in on standard input.

    python utils/results/encoder.py path codec frames_per_second width height

OpenCV's file can be played only after it has been closed. This process closes it when its input ends, also
when the program that sends the frames is killed. And it encodes while the network works.
"""
import signal
import sys

import cv2
import numpy as np


def main(path, codec, fps, width, height):
    # Ctrl-C and SIGTERM reach all processes of a terminal or a job; the other one decides what becomes of it.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    shape = int(height), int(width), 3
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*codec), float(fps), shape[1::-1])
    print("open" if writer.isOpened() else "not open", flush=True)

    # What comes last may be half a frame.
    size = shape[0] * shape[1] * shape[2]
    while len(data := sys.stdin.buffer.read(size)) == size:
        image = np.frombuffer(data, np.uint8).reshape(shape)                        # RGB, OpenCV's are BGR
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()


if __name__ == "__main__":
    main(*sys.argv[1:])
