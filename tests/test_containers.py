"""A file is read to its end or refused: MP3 without a length, joined files, unfinished WAVs, sound of phones."""

import contextlib
import io
import os
import struct
import sys

import av
import numpy as np
import pytest
import soundfile

from sfjax import audio, audio_io
from sfjax.containers import foreign, mp3, wav
from sfjax.errors import UserError
from sfjax.inference import splicing


def noise(samples, seed=0):
    return np.random.default_rng(seed).uniform(-0.3, 0.3, samples).astype(np.float32)


def encoded(wav, rate, form, subtype=None, **options):
    out = io.BytesIO()
    soundfile.write(out, wav, rate, format=form, subtype=subtype, **options)
    return out.getvalue()


def put(path, content):
    path.write_bytes(content)
    return path


def whole(path):
    """The samples of a file, which are the same read at once, in blocks and in crops."""
    wav, rate = audio.read(path)
    assert audio.probe(path).frames == len(wav)
    for seconds in (0.05, 0.31):
        np.testing.assert_allclose(np.concatenate(list(audio.blocks(path, rate=rate, seconds=seconds))), wav, atol=1e-6)
    for start in (1, len(wav) // 3, len(wav) - 50):
        np.testing.assert_allclose(audio.read(path, start=start, frames=50)[0], wav[start : start + 50], atol=1e-6)
    return wav


def without_xing(content):
    """An MP3 without the first frame, which states the length."""
    assert content.find(b"Xing") in range(9, 40) or content.find(b"Info") in range(9, 40)
    return content[content.index(content[:2], 4) :]


# MP3


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE", "AVERAGE"])
@pytest.mark.parametrize("rate, channels", [(8_000, 1), (16_000, 1), (24_000, 2), (44_100, 1), (48_000, 2)])
def test_an_mp3_that_does_not_state_its_length_is_read_to_its_end(tmp_path, mode, rate, channels):
    wav = np.stack([noise(rate) * np.linspace(1, 0.01, rate)] * channels, axis=1)  # the first frames are the longest
    content = encoded(wav, rate, "MP3", bitrate_mode=mode, compression_level=0.2)
    expected = whole(put(tmp_path / "stated.mp3", content))
    assert len(expected) == rate
    read = whole(put(tmp_path / "bare.mp3", without_xing(content)))
    with av.open(str(tmp_path / "bare.mp3")) as container:
        assert len(read) == sum(frame.samples for frame in container.decode(audio=0))
    delay = int(np.argmax(np.correlate(read[: rate // 2 + 2500], expected[: rate // 2], "valid")))
    np.testing.assert_allclose(read[delay : delay + rate][:-2000], expected[:-2000], atol=1e-4)


def test_tags_before_between_and_after_the_frames_do_not_matter(tmp_path):
    bare = without_xing(encoded(noise(16_000), 16_000, "MP3"))
    expected = whole(put(tmp_path / "a.mp3", bare))
    id3 = b"ID3\4\0\0" + bytes([0, 0, 2, 5]) + (b"\xff\xfb\x90\x44" * 70)[:261]
    half = bare.index(bare[:2], len(bare) // 2)
    tail = b"TAG".ljust(128, b" ")
    for content in (id3 + bare, id3 + bare + tail, bare[:half] + id3 + bare[half:], b"\0" * 500 + bare):
        assert len(whole(put(tmp_path / "b.mp3", content))) == len(expected)


def test_joined_mp3s_are_read_one_after_the_other(tmp_path):
    one, two = (encoded(noise(n, n), 16_000, "MP3") for n in (16_000, 9_000))
    wavs = [whole(put(tmp_path / f"{i}.mp3", content)) for i, content in enumerate((one, two))]
    tag = b"TAG".ljust(128, b" ")
    for content in (one + two, one + tag + two + tag):
        np.testing.assert_allclose(whole(put(tmp_path / "both.mp3", content)), np.concatenate(wavs), atol=1e-6)
    other = encoded(noise(8_000), 22_050, "MP3")
    with pytest.raises(UserError, match=r"other.mp3: joins MP3s of 16000 Hz .* 22050 Hz"):
        audio.read(put(tmp_path / "other.mp3", one + other))


def test_an_mp3_that_lost_its_end_is_refused_if_it_states_its_length(tmp_path):
    content = encoded(noise(32_000), 16_000, "MP3")
    with pytest.raises(UserError, match="cut short"):
        list(audio.blocks(put(tmp_path / "a.mp3", content[: len(content) // 2]), rate=16_000, seconds=1.0))


def test_blocks_of_a_variable_bit_rate_have_the_samples_of_the_whole(tmp_path):
    path = put(
        tmp_path / "a.mp3", encoded(noise(132_300), 44_100, "MP3", bitrate_mode="VARIABLE", compression_level=0.9)
    )
    plain = soundfile.SoundFile(path)
    assert np.abs(plain.read(44_100) - audio.read(path)[0][:44_100]).max() < 1e-6
    assert np.abs(plain.read(44_100) - audio.read(path)[0][44_100:88_200]).max() > 0.01  # why lossy.Lossy exists
    whole(path)


def test_the_lengths_of_frames_are_those_of_the_standard():
    assert mp3._parsed(0xFB, 0x90, 0xC0).length == 417  # MPEG-1 layer 3, 128 kbit/s, 44100 Hz
    assert mp3._parsed(0xFB, 0x92, 0x00).length == 418 and mp3._parsed(0xFB, 0x92, 0x00).channels == 2
    assert mp3._parsed(0xF3, 0x48, 0xC0).length == 144  # MPEG-2, 32 kbit/s, 16000 Hz
    assert mp3._parsed(0xFD, 0xA0, 0xC0).length == 626  # layer 2, 192 kbit/s
    assert mp3._parsed(0xFF, 0x14, 0xC0).length == 32  # layer 1, 32 kbit/s, 48000 Hz
    assert mp3._parsed(0xFB, 0xF0, 0xC0) is None and mp3._parsed(0xEB, 0x90, 0xC0) is None


# Ogg, FLAC


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_chained_ogg_is_read_one_link_after_the_other(tmp_path, subtype):
    one, two = (encoded(noise(n, n), 16_000, "OGG", subtype) for n in (16_000, 5_000))
    wavs = [whole(put(tmp_path / f"{i}.ogg", content)) for i, content in enumerate((one, two))]
    chained = put(tmp_path / "chain.ogg", one + two + one)
    np.testing.assert_array_equal(whole(chained), np.concatenate([*wavs, wavs[0]]))
    assert len(splicing.read(chained)[0]) == 37_000
    with pytest.raises(UserError, match="16000 Hz .* 48000 Hz"):
        audio.read(put(tmp_path / "rates.ogg", one + encoded(noise(9_000), 48_000, "OGG", subtype)))
    with pytest.raises(UserError, match="chains 2 Ogg recordings; number 2 is not readable"):
        audio.read(put(tmp_path / "lost.ogg", one + two[:60]))


def test_joined_flacs_are_refused(tmp_path):
    content = encoded(noise(5_000), 16_000, "FLAC")
    path = put(tmp_path / "a.flac", content + content)
    for read in (audio.probe, lambda path: list(audio.blocks(path, rate=16_000, seconds=1.0)), splicing.read):
        with pytest.raises(UserError, match="joins several FLAC"):
            read(path)


# WAV


@pytest.mark.parametrize(
    "form, subtype", [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16")]
)
@pytest.mark.parametrize("stated", [0, 1000, 20_001])
def test_a_wav_that_states_less_than_it_holds_is_read_to_its_end_with_a_note(tmp_path, capfd, form, subtype, stated):
    content = bytearray(encoded(noise(16_000), 16_000, form, subtype))
    expected = audio.read(put(tmp_path / "right.wav", content))[0]
    if form == "RF64":
        struct.pack_into("<Q", content, content.index(b"ds64") + 16, stated)
    else:
        struct.pack_into("<I", content, content.index(b"data") + 4, stated)
    assert capfd.readouterr().err == ""
    path = put(tmp_path / "died.wav", content)
    np.testing.assert_array_equal(whole(path), expected)
    np.testing.assert_array_equal(splicing.read(path)[0].shape, (16_000, 1))
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"{path}: ") and f"states {stated} bytes" in line
    assert path.read_bytes() == content


FIELDS = {  # where a header states the length: a mark, bytes from it, format, and what the number counts besides
    "W64": (bytes.fromhex("64617461f3acd311"), 16, "<Q", 24),
    "AIFF": (b"SSND", 4, ">I", 8),
    "CAF": (b"data", 4, ">q", 4),
    "AU": (b".snd", 8, ">I", 0),
}


@pytest.mark.parametrize("form", FIELDS)
@pytest.mark.parametrize("stated", [0, 1000, 20_000])
def test_other_containers_that_state_less_than_they_hold_are_read_to_their_end(tmp_path, capfd, form, stated):
    content = bytearray(encoded(noise(16_000), 16_000, form, "PCM_16", endian="BIG" if form == "AU" else None))
    mark, offset, size_format, extra = FIELDS[form]
    expected = audio.read(put(tmp_path / "right.wav", content))[0]
    assert len(expected) == 16_000 and capfd.readouterr().err == ""
    struct.pack_into(size_format, content, content.index(mark) + offset, stated + extra)
    np.testing.assert_array_equal(whole(put(tmp_path / "died.wav", content)), expected)
    (line,) = capfd.readouterr().err.splitlines()
    assert f"states {stated} bytes of sound, but it holds 32000" in line
    with pytest.raises(UserError, match="states 32000 bytes of sound, holds .*cut short"):
        struct.pack_into(size_format, content, content.index(mark) + offset, 32_000 + extra)
        audio.probe(put(tmp_path / "cut.wav", content[:20_000]))


@pytest.mark.parametrize("form", ["AIFF", "W64", "CAF"])
def test_chunks_after_the_sound_of_other_containers_are_no_sound(tmp_path, capfd, form):
    content = encoded(noise(16_000), 16_000, form, "PCM_16")
    name, size_format, counted = {
        "AIFF": (b"APPL", ">I", 0),
        "CAF": (b"free", ">q", 0),
        "W64": (b"abcd" + wav.W64, "<Q", 24),
    }[form]
    tail = name + struct.pack(size_format, 4000 + counted) + bytes([7]) * 4000
    audio.probe(put(tmp_path / "a.wav", content + tail))
    assert capfd.readouterr().err == ""


def test_a_map_of_a_file_takes_a_seek_beyond_its_end_like_a_file(tmp_path):
    path = put(tmp_path / "a.wav", encoded(noise(1_000), 16_000, "WAV"))
    mapped = audio_io._MappedFile(audio_io._content(path))
    with open(path, "rb") as file:
        for offset, whence in ((20, os.SEEK_SET), (10, os.SEEK_CUR), (-5, os.SEEK_END), (10**9, os.SEEK_SET)):
            assert mapped.seek(offset, whence) == file.seek(offset, whence) == mapped.tell()
            assert mapped.read(8) == file.read(8)


def test_chunks_padding_and_a_tag_after_the_sound_are_no_sound(tmp_path, capfd):
    content = encoded(noise(16_000), 16_000, "WAV")
    for number, tail in enumerate((b"LIST\4\0\0\0abcd", bytes(5000), b"TAG".ljust(128), b"LIST\xff\0\0\0abc", b"a")):
        assert audio.probe(put(tmp_path / f"{number}.wav", content + tail)).frames == 16_000
    assert capfd.readouterr().err == ""
    with pytest.raises(UserError, match="second recording"):
        audio.probe(put(tmp_path / "two.wav", content + content))


@pytest.mark.parametrize("peak, refused", [(2.0**31, False), (1e37, True)])
def test_samples_that_only_damage_explains_are_refused(tmp_path, peak, refused):
    wav = noise(1_000)
    wav[500] = peak
    path = put(tmp_path / "a.wav", encoded(wav, 16_000, "WAV", "FLOAT"))
    for read in (audio.read, audio.peak):
        with pytest.raises(UserError, match=r"found 1e\+37; it is damaged") if refused else contextlib.nullcontext():
            read(path)


@pytest.mark.parametrize("rate", [1, 0, 2_000_000_000])
def test_a_header_with_an_impossible_rate_is_refused(tmp_path, rate):
    content = bytearray(encoded(noise(1_000), 16_000, "WAV"))
    struct.pack_into("<I", content, 24, rate)
    with pytest.raises(UserError, match="a.wav: (expected a sample rate from 1000|not readable)"):
        audio.probe(put(tmp_path / "a.wav", content))


@pytest.mark.parametrize(
    "form, subtype",
    [("WAV", "GSM610"), ("WAV", "G721_32"), ("AU", "G723_24"), ("WAV", "NMS_ADPCM_16"), ("WAV", "NMS_ADPCM_32")],
)
def test_encodings_that_cannot_seek_are_read(tmp_path, form, subtype):
    wav = 0.3 * np.sin(np.arange(70_000) / 20)
    path = put(tmp_path / "a.wav", encoded(wav, 8_000, form, subtype))
    read = whole(path)
    assert len(read) >= 70_000 and np.abs(read[:70_000] - wav).mean() < 0.05
    assert len(splicing.read(path)[0]) == len(read)


# Phones and browsers


def record(path, codec, form=None, seconds=1.0):
    """A tone as a phone or a browser records it."""
    tone = (0.3 * np.sin(np.arange(round(48_000 * seconds)) / 20)).astype(np.float32)
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        for piece in [*av.AudioResampler(format=stream.format.name, layout="mono").resample(frame), None]:
            container.mux(stream.encode(piece))
    return tone


@pytest.mark.parametrize(
    "name, codec, form",
    [("a.m4a", "aac", None), ("a.mp4", "aac", None), ("a.aac", "aac", "adts"), ("a.webm", "libopus", None)],
)
def test_recordings_of_phones_and_browsers_are_read(tmp_path, name, codec, form):
    tone = record(tmp_path / name, codec, form)
    read = whole(tmp_path / name)
    assert abs(len(read) - len(tone)) < 2100  # AAC without a header keeps the encoder's delay
    assert np.abs(read[9_000:39_000]).max() == pytest.approx(0.3, abs=0.03)
    assert tmp_path / name in [path for path, reason in audio_io.walk(tmp_path) if reason == ""]


def test_without_a_decoder_a_line_says_what_to_install(tmp_path, monkeypatch):
    record(tmp_path / "a.m4a", "aac")
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    foreign._decoded.cache_clear()
    with pytest.raises(UserError, match=r"a.m4a: is M4A; install PyAV .*pip install 'sfjax\[av\]'.*ffmpeg"):
        audio.probe(tmp_path / "a.m4a")


def test_ffmpeg_decodes_if_pyav_is_not_installed(tmp_path, monkeypatch):
    record(tmp_path / "a.m4a", "aac")
    soundfile.write(tmp_path / "made.wav", noise(4_800), 48_000, subtype="FLOAT")
    program = tmp_path / "ffmpeg"  # the last argument is the file to write
    program.write_text(f'#!/bin/sh\nfor last; do :; done\ncp "{tmp_path}/made.wav" "$last"\n')
    program.chmod(0o755)
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    foreign._decoded.cache_clear()
    np.testing.assert_array_equal(audio.read(tmp_path / "a.m4a")[0], noise(4_800))
    program.write_text("#!/bin/sh\necho 'moov atom not found' >&2\nexit 1\n")
    foreign._decoded.cache_clear()
    with pytest.raises(UserError, match="not readable as M4A .moov atom not found"):
        audio.probe(tmp_path / "a.m4a")


def test_broken_recordings_of_phones_are_one_line_errors(tmp_path):
    record(tmp_path / "a.m4a", "aac")
    put(tmp_path / "b.m4a", (tmp_path / "a.m4a").read_bytes()[:300])
    with pytest.raises(UserError, match="b.m4a: not readable as M4A"):
        audio.probe(tmp_path / "b.m4a")
