"""Films: which track is the film, how long it really is, and its frames at given times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from .files import other_file
from .info import MOST_PIXELS, ClipError, ClipInfo
from .video_frames import FrameConverter

if TYPE_CHECKING:
    from av.container import InputContainer

VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv")
VIDEOS += (".3gp", ".3g2", ".ogv", ".vob", ".asf")
# What may be inside, whatever a file is called. Playlists, which would open further files and addresses, are not.
CONTAINERS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg,mpegvideo,h264,hevc,m4v,ivf,obu,gif,apng,wav,mp3,aac"
MARGINS = (0.0, 2.0, 10.0)  # seconds before the wanted time that are searched for
TOLERANCE = 0.5  # seconds by which headers are wrong without anything being lost
FAR = 1 << 40  # a time behind every end, in any unit a stream counts in
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own decoders of these pass transparency over


class BrokenVideoError(ClipError):
    """A film that cannot be decoded from `at` seconds on."""

    def __init__(self, at: float, reason: object) -> None:
        super().__init__(f"cannot be decoded {at:.1f} s after its start ({reason})")
        self.at = at


def inspect_video(file: BinaryIO) -> ClipInfo:
    """Find out what a film is by its first frame and the times of its last packets; ValueError says what is wrong."""
    with open_video(file) as video:
        height, width = video.convert(video.first).shape[:2]
        seconds = video.seconds
        return ClipInfo(width, height, video.fps, seconds, video.cut_note())


def video_frames_at(file: BinaryIO, times: Sequence[float]) -> Iterator[np.ndarray]:
    """The frames shown at rising `times` in seconds, `(h, w, 3)` bytes; after its end a film shows its last frame.

    Raises ValueError when the film cannot be decoded there.
    """
    with open_video(file) as video:
        wanted, last = list(times), None
        for at, frame in video.frames(times[0]):
            past = [time for time in wanted if time < at - 1e-6]
            if last is not None and past:  # the frame before was still shown then
                yield from [video.convert(last)] * len(past)
                del wanted[: len(past)]
            if not wanted:
                return
            last = frame
        yield from [video.convert(last)] * len(wanted)


@contextmanager
def open_container(file: BinaryIO) -> Iterator[InputContainer]:
    """Open a file of films or sound; what FFmpeg says becomes a ValueError."""
    import av

    limits = {"format_whitelist": CONTAINERS, "protocol_whitelist": ""}
    try:
        # Through the open file, so that FFmpeg reads what was checked, whatever the name means to it.
        with av.open(file, container_options=limits, metadata_errors="replace", buffer_size=1 << 18) as container:
            yield container
    except (av.FFmpegError, OSError) as error:
        raise ClipError(other_file(file) or f"cannot be read as a video ({error.strerror or error})") from error


@contextmanager
def open_video(file: BinaryIO) -> Iterator[Video]:
    """Open the film in a file; ValueError says why there is none."""
    with open_container(file) as container:
        yield Video(container)


class Video:
    """The film in an open container."""

    def __init__(self, container) -> None:
        import av

        self.container, self.stream = container, film_track(container)
        codec = self.stream.codec_context
        if codec.width * codec.height > MOST_PIXELS:
            raise ClipError(f"is {codec.width}x{codec.height}; at most {MOST_PIXELS:,} pixels are read")
        codec.options = {"max_pixels": str(MOST_PIXELS)}  # it may grow on the way
        codec.thread_type = "SLICE"  # threads that work frames ahead also fail ahead, by the number of cores
        self.decoder = codec
        name = WITH_ALPHA.get(codec.name)
        tags = {key.lower(): value for key, value in self.stream.metadata.items()}  # in capitals where it was copied
        if tags.get("alpha_mode") == "1" and name in av.codecs_available:
            self.decoder = av.CodecContext.create(name, "r")
        self.rate = Fraction(self.stream.average_rate or self.stream.guessed_rate or 1)
        self.fps = float(self.rate)
        self.convert = FrameConverter(self.stream)
        self.begin = 0.0
        self.begin, self.first = next(self._decode(), (0.0, None))
        if self.first is None:
            raise ClipError("holds no frame that can be decoded")

    @property
    def declared(self) -> float:
        """How many seconds the file says the film takes; 0 when it does not say."""
        if self.stream.duration:
            return float(self.stream.duration * self.stream.time_base)
        alone = len(self.container.streams) == 1
        return max(0.0, (self.container.duration or 0) / 1e6 - self.begin) if alone else 0.0

    @cached_property
    def seconds(self) -> float:
        """How long the film is."""
        return self._find_end() - self.begin

    def cut_note(self) -> str:
        """That the film is shorter than its header says; empty where it is not."""
        if self.seconds >= self.declared - max(TOLERANCE, 0.05 * self.declared):
            return ""
        return f"breaks off after {self.seconds:.1f} of {self.declared:.1f} s"

    def _find_end(self) -> float:
        """When the last frame has been shown, as the packets say that are there; the header may promise more."""
        import av

        end = self.begin
        for offset in (FAR, None):  # where searching does not lead to the end, the file is read through
            try:
                self._seek(offset)
                ends = [self._end_of(packet) for packet in self.container.demux(self.stream) if shows(packet)]
            except (av.FFmpegError, OSError):
                continue
            end = max(end, *ends, self.begin)
            if end > self.begin and end - self.begin >= self.declared - TOLERANCE:
                break
        return end

    def frames(self, start: float = 0.0) -> Iterator[tuple[float, object]]:
        """Frames with their seconds since the first, from at latest the one that is shown at `start` on."""
        import av

        for margin in MARGINS if start > 0 else ():  # searching is inexact in some formats
            found = None
            try:
                self._seek(int((self.begin + start - margin) / self.stream.time_base))
                decoded = self._decode()
                found = next(decoded, None)
            except (av.FFmpegError, BrokenVideoError):
                pass
            if found is not None and found[0] <= self.begin + start + 1e-6:
                break
        else:
            self._seek(None)
            decoded = self._decode()
            found = next(decoded, None)
        while found is not None:
            yield found[0] - self.begin, found[1]
            found = next(decoded, None)

    def _seek(self, offset: int | None) -> None:
        """Go to the last key frame before a time in the stream's unit; None is the start of the file."""
        if offset is None:
            self.container.seek(0)
        else:
            self.container.seek(offset, stream=self.stream)
        self.decoder.flush_buffers()

    def _decode(self) -> Iterator[tuple[float, object]]:
        """Frames with their times from where the file stands; where it is cut there, from the next key frame."""
        import av

        at = problem = None
        try:
            for packet in self.container.demux(self.stream):
                try:
                    decoded = self.decoder.decode(packet)
                except av.FFmpegError as error:
                    if at is not None:
                        raise
                    problem = error  # of a packet that follows on others that are not there
                    continue
                for frame in decoded:
                    if frame.pts is None:
                        at = self.begin if at is None else at + (1 / self.fps)
                    else:
                        time = float(frame.pts * (packet.time_base or self.stream.time_base))
                        at = time if at is None else max(at, time)
                    if frame.is_corrupt:
                        raise BrokenVideoError(at - self.begin, "parts of the picture are missing")
                    yield at, frame
            if at is None and problem is not None:
                raise problem
        except av.FFmpegError as error:
            raise BrokenVideoError((self.begin if at is None else at) - self.begin, error.strerror or error) from error

    def _end_of(self, packet) -> float:
        length = packet.duration * packet.time_base if packet.duration else 1 / self.fps
        return float(packet.pts * packet.time_base + length)


def shows(packet) -> bool:
    """Whether what is in a packet is ever seen."""
    return packet.pts is not None and not packet.is_discard


def film_track(container):
    """The track that is the film; neither a cover nor a row of thumbnails."""
    from av.stream import Disposition

    tracks = [track for track in container.streams.video if track.codec_context is not None]
    if not tracks:
        raise ClipError("holds no video" + (", only sound" if container.streams.audio else " that can be decoded"))
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    films = [track for track in tracks if not track.disposition & covers]
    if not films:
        raise ClipError("holds no video, only a cover picture")
    best = container.streams.best("video")
    return best if best in films else films[0]
