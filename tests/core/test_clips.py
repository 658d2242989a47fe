"""Films and pictures as a player shows them: the files of `tests/cases`, and others of the same kinds."""

from __future__ import annotations

import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageCms
from pyramid_video.media import pictures
from pyramid_video.media.clips import clip_frames_at, inspect_clip, read_video
from pyramid_video.media.colours import to_srgb
from pyramid_video.media.video_frames import turn

CASES = ROOT / "tests" / "cases"
RED, GREEN, BLUE, BLACK, WHITE = (220, 30, 30), (30, 160, 30), (30, 30, 220), (0, 0, 0), (255, 255, 255)


def look(path: Path):
    return inspect_clip(path.parent, path)


def frame(path: Path, time: float = 0.0) -> np.ndarray:
    return next(clip_frames_at(path.parent, path, [time]))


def is_near(pixel, colour, off=12) -> bool:
    return bool(np.abs(np.asarray(pixel).astype(int) - colour).max() <= off)


def write_film(path: Path, pictures, fps=10, codec="libx264", pix_fmt="yuv420p", **colour) -> Path:
    """A film of pictures `(h, w, 3 or 4)` bytes; `colour` sets tags of the stream."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        for name, value in colour.items():
            setattr(stream.codec_context, name, value)
        for picture in pictures:
            made = av.VideoFrame.from_ndarray(picture, format="rgba" if picture.shape[-1] == 4 else "rgb24")
            container.mux(stream.encode(made))
        container.mux(stream.encode(None))
    return path


def copy_film(path: Path, copy: Path, first: int = 0) -> Path:
    """A film as FFmpeg copies it, without its packets before `first`."""
    with av.open(str(path)) as source, av.open(str(copy), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.metadata.update(source.streams.video[0].metadata)
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is not None and number >= first:
                packet.stream = stream
                target.mux(packet)
    return copy


def halves(height=48, width=64, top=RED, bottom=BLUE) -> np.ndarray:
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2], picture[height // 2 :] = top, bottom
    return picture


def test_a_phone_film_is_upright():
    path = CASES / "video" / "phone.mp4"
    assert (look(path).width, look(path).height) == (64, 96)
    shown = frame(path)
    assert shown.shape == (96, 64, 3) and is_near(shown[8, 32], RED) and is_near(shown[-8, 32], BLUE)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", (False, True))
def test_every_way_of_holding_a_phone_is_undone(turns, mirrored):
    """A display matrix maps (x, y) to (a x + c y, b x + d y); the picture follows its pixels, also where mirrored."""
    matrix = np.linalg.matrix_power(np.array(((0, -1), (1, 0))), turns) @ np.diag((-1 if mirrored else 1, 1))
    (a, c), (b, d) = (65536 * matrix).tolist()
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    places = np.array([(x, y) for y in range(2) for x in range(3)]) @ matrix.T
    places -= places.min(0)
    turned = turn(picture, (a, b, c, d))
    for (x, y), pixel in zip(places, picture.reshape(-1, 3), strict=True):
        assert (turned[y, x] == pixel).all()


def test_wide_pixels_are_made_square():
    path = CASES / "video" / "anamorphic.mp4"
    assert (look(path).width, look(path).height) == (128, 96)
    disc = frame(path).max(-1) > 128
    rows, columns = np.flatnonzero(disc.any(1)), np.flatnonzero(disc.any(0))
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=3)


def test_tall_pixels_and_mad_ones(tmp_path):
    """DV has pixels higher than wide; a ratio of thousands is a broken number and passed over."""
    picture = halves(48, 64)
    for ratio, size in ((Fraction(1, 2), (64, 96)), (Fraction(9000, 1), (64, 48))):
        path = write_film(tmp_path / f"{ratio.numerator}.mkv", [picture] * 3, sample_aspect_ratio=ratio)
        assert (look(path).width, look(path).height) == size


def test_hdr_keeps_the_colours_of_the_screen():
    assert is_near(frame(CASES / "video" / "hdr_pq.mp4")[120, 160], (230, 120, 30), off=4)


def test_hdr_of_phones_and_wide_primaries_are_mapped():
    """HLG's 75 % is paper white, and grey stays grey; what is brighter stays below white, in order."""
    levels = np.array((0.0, 0.375, 0.75, 0.9, 1.0))
    greys = np.repeat((levels * 65535).round().astype(np.uint16)[None, :, None], 3, -1)
    mapped = to_srgb(greys, transfer=18, primaries=9)[0]
    assert (np.ptp(mapped.astype(int), axis=-1) <= 1).all() and (np.diff(mapped[:, 0].astype(int)) >= 0).all()
    assert mapped[0, 0] == 0 and 235 <= mapped[2, 0] <= 250
    red = np.array([[(65535, 0, 0)]], np.uint16)
    assert to_srgb(red, transfer=13, primaries=12).tolist() == [[[255, 0, 0]]]  # redder than the screen can be


@pytest.mark.parametrize(("height", "tag", "matrix"), ((96, 2, 5), (720, 2, 1), (96, 1, 1), (720, 6, 5), (96, 9, 9)))
def test_the_matrix_is_the_one_that_players_take(tmp_path, height, tag, matrix):
    """As tagged; without a tag BT.709 from 720 lines on and BT.601 below."""
    picture = np.full((height, 64, 3), (230, 120, 30), np.uint8)
    scale = {5: "bt601", 1: "bt709", 9: "bt2020"}[matrix]
    graph = av.filter.Graph()
    chain = [graph.add_buffer(width=64, height=height, format="rgb24", time_base=Fraction(1, 10))]
    chain += [graph.add("scale", f"out_color_matrix={scale}:out_range=limited:flags=accurate_rnd")]
    chain += [graph.add("format", "pix_fmts=yuv420p"), graph.add("buffersink")]
    graph.link_nodes(*chain).configure()
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, height, "yuv420p"
        stream.codec_context.colorspace = tag
        for index in range(2):
            made = av.VideoFrame.from_ndarray(picture, format="rgb24")
            made.pts, made.time_base = index, Fraction(1, 10)
            graph.push(made)
            shown = graph.pull()
            shown.colorspace = tag
            container.mux(stream.encode(shown))
        container.mux(stream.encode(None))
    assert is_near(frame(path)[height // 2, 32], (230, 120, 30), off=4)


def test_a_film_that_begins_at_30_s_is_as_long_as_it_is():
    path = CASES / "video" / "offset30.mkv"
    assert look(path).seconds == pytest.approx(3.0, abs=0.05)
    early, late = frame(path, 0.2), frame(path, 2.8)
    assert np.abs(early.astype(int) - late).max() > 100  # the square has moved


def test_a_cut_film_ends_where_its_data_end(tmp_path):
    found = look(CASES / "video" / "halfdata.mp4")
    assert found.seconds == pytest.approx(1.0, abs=0.1) and found.note == "breaks off after 1.0 of 2.0 s"
    whole = write_film(tmp_path / "whole.mkv", [np.full((48, 64, 3), level, np.uint8) for level in range(0, 240, 4)])
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    assert 1.0 < look(cut).seconds < 5.9 and look(whole).seconds == pytest.approx(6.0, abs=0.05)


def test_a_film_trimmed_without_encoding_begins_where_it_was_trimmed(tmp_path):
    """Its key frame lies before its beginning: an edit list says from which frame on it is shown."""
    levels = range(20, 236, 3)
    whole = write_film(tmp_path / "whole.mp4", [np.full((48, 64, 3), level, np.uint8) for level in levels], fps=24)
    trimmed = tmp_path / "trimmed.mp4"
    with av.open(str(whole)) as source, av.open(str(trimmed), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.pts is not None:
                shift = round(0.5 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                target.mux(packet)
    assert look(trimmed).seconds == pytest.approx(2.5, abs=0.05)
    assert frame(trimmed).mean() == pytest.approx(levels[12], abs=4)
    frames, rate = read_video(trimmed)
    assert len(frames) == 60 and rate == 24


def test_a_film_that_is_cut_between_key_frames_begins_at_the_next(tmp_path):
    levels = np.linspace(20, 230, 40)
    noise = np.random.default_rng(0).integers(-15, 15, (48, 64, 3))
    pictures = [(level + noise).clip(0, 255).astype(np.uint8) for level in levels]
    path = write_film(tmp_path / "whole.webm", pictures, codec="libvpx-vp9", gop_size=20)
    cut = copy_film(path, tmp_path / "cut.webm", first=5)
    assert look(path).seconds == pytest.approx(4.0, abs=0.1) and look(cut).seconds == pytest.approx(2.0, abs=0.1)
    for time in (0.0, 1.0):
        assert frame(cut, time + 0.01).mean() == pytest.approx(levels[20 + round(time * 10)], abs=6)
    with pytest.raises(ValueError, match="cannot be decoded"):
        look(copy_film(path, tmp_path / "nothing.webm", first=25))


def test_films_put_together_as_bytes_are_read_to_their_end(tmp_path):
    """Recorders join transport streams so; the times begin again, and the size may be another."""
    first = write_film(tmp_path / "a.ts", [halves()] * 30)
    second = write_film(tmp_path / "b.ts", [halves(32, 32)] * 10)
    path = tmp_path / "joined.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    assert look(path).seconds == pytest.approx(3.0, abs=0.15) and look(path).note == ""
    assert frame(path, 2.5).shape == (48, 64, 3)


def test_long_films_are_films():
    path = CASES / "video" / "long90min.mp4"
    assert look(path).seconds == pytest.approx(5400)
    assert frame(path, 5000.0).mean() > frame(path, 100.0).mean() + 100


def test_the_film_is_the_track_that_plays(tmp_path):
    with pytest.raises(ValueError, match="only a cover picture"):
        look(CASES / "video" / "cover.mp4")
    assert look(CASES / "video" / "two.mkv").seconds == pytest.approx(3.0, abs=0.05)
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="only sound"):
        look(path)


def test_a_bad_spot_is_told_by_its_time():
    path = CASES / "video" / "corrupt.mp4"
    assert frame(path, 0.5).shape == (64, 96, 3)
    with pytest.raises(ValueError, match=r"cannot be decoded 1\.\d s after its start"):
        list(clip_frames_at(path.parent, path, [1.0, 1.5, 2.0]))


def test_transparency_shows_white(tmp_path):
    shown = frame(CASES / "video" / "alpha.mov")
    assert (shown == WHITE).all(-1).any() and not (shown == (0, 255, 0)).all(-1).any()
    picture = np.zeros((48, 64, 4), np.uint8)
    picture[:, :32] = (*RED, 255)
    picture[:, 32:] = (*GREEN, 0)
    path = write_film(tmp_path / "web.webm", [picture] * 3, codec="libvpx-vp9", pix_fmt="yuva420p")
    tagged = copy_film(path, tmp_path / "tagged.webm")
    with av.open(str(tagged)) as found:
        assert "ALPHA_MODE" in found.streams.video[0].metadata
    for each in (path, tagged):
        shown = frame(each)
        assert is_near(shown[24, 8], RED) and is_near(shown[24, 56], WHITE)


def test_interlaced_films_are_of_one_moment(tmp_path):
    """The lines of two moments lie between each other in a frame; a moving edge would look like a comb."""
    pictures = []
    for index in range(4):
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[0::2, : 8 + 8 * index] = picture[1::2, : 12 + 8 * index] = 255
        pictures.append(picture)
    path = tmp_path / "camera.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, options={"flags": "+ilme+ildct", "qscale": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.bit_rate = 8_000_000
        for picture in pictures:
            made = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            container.mux(stream.encode(made))
        container.mux(stream.encode(None))
    shown = frame(path, 0.04).astype(int)
    assert np.abs(np.diff(shown[8:-8, :, 0], axis=0)).max() < 60


@pytest.mark.parametrize("ending", ("mpg", "ts", "flv", "wmv", "3gp", "avi"))
def test_older_containers_are_searched_to_the_right_frame(tmp_path, ending):
    """Brightness tells the time; not all of these can be searched exactly."""
    codec = {"mpg": "mpeg2video", "wmv": "wmv2", "avi": "mpeg4", "3gp": "mpeg4"}.get(ending, "libx264")
    levels = np.linspace(20, 230, 75)
    pictures = [np.full((48, 64, 3), round(level), np.uint8) for level in levels]
    path = write_film(tmp_path / f"film.{ending}", pictures, fps=25, codec=codec)
    assert look(path).seconds == pytest.approx(3.0, abs=0.1)
    for time in (0.0, 1.0, 2.8):
        assert frame(path, time + 0.01).mean() == pytest.approx(levels[round(time * 25)], abs=6)


@pytest.mark.parametrize("ending", ("gif", "webp", "png"))
def test_delays_that_no_screen_shows_are_a_tenth_of_a_second(tmp_path, ending):
    assert look(CASES / "video" / "delay10.gif").seconds == pytest.approx(1.2)
    pictures = [Image.new("RGB", (16, 16), (level, 0, 0)) for level in (0, 120, 240)]
    path = tmp_path / f"quick.{ending}"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[10, 20, 10], loop=0)
    assert look(path).seconds == pytest.approx(0.22)


def test_an_apng_that_begins_with_a_picture_for_old_programs(tmp_path):
    pictures = [Image.new("RGB", (16, 16), (level, 0, 0)) for level in (250, 0, 120)]
    path = tmp_path / "hidden.png"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=200, default_image=True)
    assert look(path).seconds == pytest.approx(0.4) and frame(path)[0, 0, 0] == 0


def test_pictures_look_as_in_a_browser(tmp_path):
    pictures = CASES / "pictures"
    assert frame(pictures / "gray16.png").mean() == pytest.approx(127, abs=1)
    assert frame(pictures / "exif6.jpg").shape == (64, 48, 3)
    assert look(pictures / "stereo.jpg").seconds == 0
    assert frame(pictures / "la.png").shape == (48, 64, 3)
    pages = [Image.new("L", (16, 16), level) for level in (40, 200)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    assert look(tmp_path / "pages.tif").seconds == 0 and frame(tmp_path / "pages.tif").mean() == 40
    Image.fromarray(np.full((8, 8), 30000, np.uint16)).save(tmp_path / "grey.tif")
    assert frame(tmp_path / "grey.tif").mean() == pytest.approx(30000 / 257, abs=1)
    Image.new("F", (8, 8), 0.5).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match="whole numbers"):
        look(tmp_path / "float.tif")
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "print.jpg")
    assert is_near(frame(tmp_path / "print.jpg")[4, 4], (255, 0, 0), off=6)


@pytest.mark.parametrize("ending", ("jpg", "png", "webp", "tif"))
def test_a_picture_is_looked_at_without_being_converted(tmp_path, ending, monkeypatch):
    """In all eight ways of holding a camera it has the size in which it is shown."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for way in range(1, 9):
        exif, path = Image.Exif(), tmp_path / f"{way}.{ending}"
        exif[0x0112] = way
        Image.new("RGB", (24, 16), "red").save(path, exif=exif, icc_profile=profile)
        height, width = frame(path).shape[:2]
        with monkeypatch.context() as patch:
            patch.setattr(pictures, "to_srgb", None)
            assert (look(path).width, look(path).height) == (width, height)
        assert (width, height) == ((16, 24) if way > 4 else (24, 16))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_bombs_and_damage_are_reasons_and_not_crashes(tmp_path):
    with pytest.raises(ValueError, match="too large; at most"):
        look(CASES / "pictures" / "bomb_65535x65535.gif")
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        look(CASES / "pictures" / "truncated_tiger.gif")
    huge = bytearray((CASES / "pictures" / "la.png").read_bytes())
    huge[16:24] = (9000).to_bytes(4, "big") * 2  # width and height of a png, and its checksum
    huge[29:33] = zlib.crc32(bytes(huge[12:29])).to_bytes(4, "big")
    (tmp_path / "huge.png").write_bytes(huge)
    with pytest.raises(ValueError, match="9000x9000; at most"):
        look(tmp_path / "huge.png")
    for name in (
        "video/phone.mp4",
        "video/offset30.mkv",
        "video/delay10.gif",
        "pictures/exif6.jpg",
        "captions/bom.avi",
    ):
        content = (CASES / name).read_bytes()
        damaged = tmp_path / f"damaged{Path(name).suffix}"
        for seed in range(40):
            generator = np.random.default_rng(seed)
            spoilt = np.frombuffer(content, np.uint8).copy()
            spoilt[generator.integers(0, len(spoilt), 30)] = generator.integers(0, 256, 30)
            damaged.write_bytes(spoilt[: generator.integers(1, len(spoilt) + 1)].tobytes())
            try:
                list(clip_frames_at(tmp_path, damaged, [0.0, 0.5 * max(0.0, look(damaged).seconds)]))
            except ValueError as error:
                assert str(error)


def test_no_playlist_opens_further_files(tmp_path):
    film = write_film(tmp_path / "secret.ts", [halves()] * 10)
    assert look(film).seconds > 0
    lists = {
        "concat": "ffconcat version 1.0\nfile secret.ts\n",
        "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    }
    for name, text in lists.items():
        path = tmp_path / f"{name}.mp4"
        path.write_text(text)
        with pytest.raises(ValueError, match="cannot be read as a video"):
            look(path)


def test_words_in_another_encoding_do_not_hide_a_film(tmp_path):
    path = write_film(tmp_path / "film.avi", [halves()] * 5, codec="mpeg4")
    content = path.read_bytes()
    assert b"Lavf" in content
    path.write_bytes(content.replace(b"Lavf", b"L\xe9\xe8f"))
    assert look(path).seconds == pytest.approx(0.5)
