"""H.264 in .mp4 through PyAV (optional: pip install av): what browsers, phones and notebooks play."""
from fractions import Fraction

from utils.errors import UserError
from utils.settings import shown

TICKS = 90000                   # times are counted in these parts of a second: as finely as by any camera
HYBRID = (61, 7)                # libavformat of FFmpeg 7.1, the first that has hybrid_fragmented

# Every frame goes to the disk at once, so a killed program leaves a file that plays. When the file is closed
# it becomes an ordinary one.
FRAGMENTS = {"movflags": "hybrid_fragmented+frag_every_frame", "flush_packets": "1"}
# zerolatency: without it the encoder holds some 40 frames back, which a killed program would lose.
QUALITY = {"preset": "veryfast", "crf": "20", "tune": "zerolatency"}
SOUNDS = ("aac", "mp3", "ac3", "eac3", "alac", "flac", "opus")          # that an .mp4 can hold


def pyav():
    """The module of PyAV; None where it is not installed, broken or too old."""
    try:
        import av
    except (ImportError, OSError):
        return None
    return av if av.library_versions["libavformat"] >= HYBRID else None


def open_h264(path, fps, size, aspect, like):
    """-> H264Writer, None where it cannot be opened."""
    av = pyav()
    if av is None:
        return None
    try:
        return H264Writer(av, path, fps, size, aspect, like)
    except (av.FFmpegError, OSError, ValueError):           # ValueError: a PyAV built without this encoder
        return None


class H264Writer:
    """A file being written, every frame at its own time.

    complaint: a sentence about the sound that could not be copied, or "".
    """

    def __init__(self, av, path, fps, size, aspect, like):
        """size: (W, H), both even.  aspect: of a pixel, None: square.
        like: the video file whose sound is copied, or None."""
        self.av, self.path, self.complaint = av, path, ""
        rate = Fraction(fps).limit_denominator(65535)
        self.file = av.open(str(path), "w", options=FRAGMENTS)
        self.stream = self.file.add_stream("libx264", rate=rate, options=QUALITY)

        # yuv420p is what browsers play; its colours are made by BT.601 (5), and the file says so.
        self.stream.width, self.stream.height = size
        self.stream.pix_fmt = "yuv420p"
        codec = self.stream.codec_context
        codec.time_base = Fraction(1, TICKS)
        codec.colorspace = 5
        codec.gop_size = max(1, round(2 * fps))             # a player finds a whole picture every two seconds
        if aspect:
            codec.sample_aspect_ratio = aspect

        # The next piece of the sound, until a picture of its time has been written.
        self.sound = self.open_sound(like) if like else iter(())
        self.waiting = next(self.sound, None)

    def open_sound(self, path):
        """-> generator of the sound of a video, see `packets`."""
        try:
            source = self.av.open(str(path))
            given = next(iter(source.streams.audio), None)
            if given is None or not source.streams.video:
                return iter(())

            # What an .mp4 cannot hold is named below, like what cannot be read.
            name = given.codec_context.name
            if name in SOUNDS:
                return packets(source, given, self.file.add_stream_from_template(given))
        except (self.av.FFmpegError, OSError, ValueError) as error:
            name = str(error)
        self.complaint = f"The sound of {shown(path)} cannot be copied into an .mp4 ({name}) and is left out."
        return iter(())

    def write(self, image, moment):
        """image: (H, W, 3) uint8 RGB.  moment: s."""
        frame = self.av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.time_base = Fraction(1, TICKS)
        frame.pts = round(moment * TICKS)
        try:
            self.file.mux(self.stream.encode(frame))

            # The sound up to here, so that both stay side by side in the file.
            while self.waiting and self.waiting[0] <= moment:
                self.file.mux(self.waiting[1])
                self.waiting = next(self.sound, None)
        except (self.av.FFmpegError, OSError) as error:
            raise UserError(f"{shown(self.path)} cannot be written: {error}.") from None

    def close(self):
        """Write what is still in the encoder, then the table of contents."""
        try:
            self.file.mux(self.stream.encode())
            self.file.close()
        except (self.av.FFmpegError, OSError) as error:
            raise UserError(f"{shown(self.path)} cannot be written: {error}.") from None


def packets(source, given, copy):
    """-> generator of (time in s from the first picture on, packet) of the stream `given` of a file, made for
    the stream `copy` of another."""
    # Times count from the first picture, whatever the file's own clock says.
    video = source.streams.video[0]
    begin = float((video.start_time or 0) * video.time_base)
    shift = round(begin / given.time_base)

    with source:
        for packet in source.demux(given):
            # The last packet is empty; sound from before the first picture has no place.
            if packet.dts is None or packet.pts is None or packet.pts < shift:
                continue
            packet.pts -= shift
            packet.dts -= shift
            packet.stream = copy
            yield float(packet.pts * given.time_base), packet
