"""An edit changes one span of words and one span of samples; all other samples stay the same, bit for bit."""

import difflib
import resource

import numpy as np
import pytest
import soundfile

from sfjax.errors import UserError
from sfjax.inference import splicing
from sfjax.inference.splicing import Piece

SEEDS = range(20)


def apply(change, old, new):
    return old[: change.old[0]] + new[slice(*change.new)] + old[change.old[1] :]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_change_is_the_smallest_span_that_turns_one_text_into_the_other(seed):
    rng = np.random.default_rng(seed)
    old, new = ([str(word) for word in rng.choice(list("ab"), rng.integers(0, 8))] for _ in range(2))
    if old == new:
        new = [*new, "c"]
    change = splicing.changed(old, new)
    assert apply(change, old, new) == new
    kept = [  # of all prefixes and suffixes that both texts share, the most words
        first + last
        for first in range(min(len(old), len(new)) + 1)
        for last in range(min(len(old), len(new)) - first + 1)
        if old[:first] == new[:first] and old[len(old) - last :] == new[len(new) - last :]
    ]
    assert len(old) - (change.old[1] - change.old[0]) == max(kept)
    blocks = [op for op in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if op[0] != "equal"]
    if len(blocks) == 1:  # the library finds one span as well: it is as long
        _, start, end, first, last = blocks[0]
        assert (end - start, last - first) == (change.old[1] - change.old[0], change.new[1] - change.new[0])


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ("The cat sat", "the DOG, sat.", ((1, 2), (1, 2))),
        ("the cat sat", "the sat", ((1, 2), (1, 1))),
        ("the cat", "so the cat", ((0, 0), (0, 1))),
        ("the the cat", "the the the cat", ((2, 2), (2, 3))),
        ("we were here", "we we're here", ((1, 2), (1, 2))),
        ("cafe\u0301 noir", "caf\u00e9 blanc", ((1, 2), (1, 2))),
        ("a", "", ((0, 1), (0, 0))),
    ],
)
def test_case_and_punctuation_are_no_change_and_apostrophes_are(old, new, expected):
    assert splicing.changed(old.split(), new.split()) == expected


@pytest.mark.parametrize("old, new", [("", ""), ("Hey, you", "hey you!"), ("it's", "It\u2019s")])
def test_the_same_words_are_refused(old, new):
    with pytest.raises(UserError, match="got the same words; change"):
        splicing.changed(old.split(), new.split())


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("channels", [(), (2,)])
@pytest.mark.parametrize("seed", SEEDS)
def test_gaps_are_the_long_runs_of_zeros(seed, channels, dtype):
    rng = np.random.default_rng(seed)
    wav = (rng.integers(-2, 3, (200, *channels)) * (rng.random((200, *channels)) < 0.3)).astype(dtype)
    shortest = int(rng.integers(1, 5))
    silent = [not np.any(sample) for sample in wav]
    expected, start = [], None
    for place, zero in enumerate([*silent, False]):
        if zero and start is None:
            start = place
        if not zero and start is not None:
            if place - start >= shortest:
                expected.append((start, place))
            start = None
    assert splicing.gaps(wav, shortest=shortest) == expected


def test_gaps_reach_the_borders():
    assert splicing.gaps(np.zeros(5, np.int16), shortest=5) == [(0, 5)]
    assert splicing.gaps(np.array([0, 0, 1, 0.0]), shortest=1) == [(0, 2), (3, 4)]
    assert splicing.gaps(np.zeros((0, 2)), shortest=1) == []
    with pytest.raises(UserError, match="at least 1 sample"):
        splicing.gaps(np.zeros(5), shortest=0)


def test_gaps_are_read_in_seconds():
    found = splicing.read_gaps("3.0-3.5, 1.20-1.45,.5-1", 16_000, 56_000)
    assert found == [(8000, 16_000), (19_200, 23_200), (48_000, 56_000)]
    assert splicing.read_gaps("0-1,1-2", 8_000, 16_000) == [(0, 8000), (8000, 16_000)]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "like 1.20-1.45,3.0-3.5, got ''"),
        ("1.2", "got '1.2'; write START-END"),
        ("1-2,", "got ''"),
        ("1-2-3", "got '1-2-3'"),
        ("-1-2", "got '-1-2'"),
        ("a-b", "got 'a-b'"),
        ("nan-inf", "got 'nan-inf'"),
        ("1e0-2", "got '1e0-2'"),
        ("1:00-2:00", "got '1:00-2:00'"),
        ("9" * 400 + "-1", "write START-END"),
        (".-1", "got '.-1'"),
        ("1-1", "ends after its start, got 1-1"),
        ("2-1", "ends after its start"),
        ("1.00001-1.00002", "ends after its start"),  # not a sample
        ("2.5-2.569", "end by 2.568 s, got 2.5-2.569; give an earlier end"),
        ("1-2,1.5-2.5", "one at 1-2 s and one from 1.5 s; join them"),
        ("1-2,1.2-1.3", "join them"),
    ],
)
def test_bad_gaps_are_one_line_errors(text, expected):
    with pytest.raises(UserError) as error:
        splicing.read_gaps(text, 16_000, 41_097)  # 2.5686 s
    assert expected in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("seed", SEEDS)
def test_merged_spans_cover_the_same_and_lie_apart(seed):
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 300, 8)
    spans = [(int(start), int(start + rng.integers(1, 20))) for start in starts]
    found = splicing.merged(spans, apart=10)
    assert all(later - end >= 10 for (_, end), (later, _) in zip(found, found[1:], strict=False))
    covered, held = np.zeros(400, bool), np.zeros(400, bool)
    for start, end in spans:
        covered[start:end] = True
    for start, end in found:
        held[start:end] = True
        assert covered[start] and covered[end - 1]
    assert held[covered].all()
    assert all(end - start < 10 for start, end in splicing.gaps(~(held & ~covered) * 1, shortest=1))


def random_pieces(rng, samples, fade):
    """Some pieces that fit, at the borders too, with waves longer or shorter than what they replace."""
    places = np.sort(rng.choice(np.arange(0, samples + 1), 6, replace=False))
    spans = splicing.merged([(int(a), int(b)) for a, b in places.reshape(-1, 2)], apart=2 * fade)
    for start, end in spans:
        before, after = splicing.context(start, end, samples, fade=fade)
        yield Piece(start, end, rng.uniform(-1.2, 1.2, before + after + rng.integers(0, 40)).astype(np.float32))


def recording(rng, dtype, shape):
    if np.dtype(dtype).kind == "i":
        return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    return rng.uniform(-1.5, 1.5, shape).astype(dtype)


@pytest.mark.parametrize("fade", [0, 1, 7])
@pytest.mark.parametrize("dtype, channels", [(np.int16, ()), (np.int16, (2,)), (np.int32, (2,)), (np.float32, (1,))])
@pytest.mark.parametrize("seed", range(5))
def test_outside_the_pieces_and_their_fades_every_bit_is_kept(seed, dtype, channels, fade):
    rng = np.random.default_rng(seed)
    wav = recording(rng, dtype, (200, *channels))
    pieces = list(random_pieces(rng, 200, fade))
    made = splicing.splice(wav, pieces[::-1], fade=fade)  # in any order
    assert made.dtype == wav.dtype and made.shape[1:] == wav.shape[1:]
    place = done = 0  # in the new and in the old recording
    for start, end, wave in pieces:
        before, after = splicing.context(start, end, 200, fade=fade)
        kept = start - before - done
        assert made[place : place + kept].tobytes() == wav[done : start - before].tobytes()
        place, done = place + kept + len(wave), end + after
        inner = made[place - len(wave) + before : place - after]
        scale = -int(np.iinfo(dtype).min) if np.dtype(dtype).kind == "i" else 1
        expected = wave[before : len(wave) - after].astype(np.float64) * scale
        if scale > 1:
            expected = np.clip(expected, -scale, scale - 1)
        for channel in np.atleast_2d(inner.T):
            np.testing.assert_allclose(channel, expected, rtol=1e-6, atol=0.5 if scale > 1 else 0)  # rounded
    assert made[place:].tobytes() == wav[done:].tobytes()
    contexts = [sum(splicing.context(piece.start, piece.end, 200, fade=fade)) for piece in pieces]
    grown = [len(p.wave) - c - (p.end - p.start) for p, c in zip(pieces, contexts, strict=True)]
    assert len(made) == 200 + sum(grown)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("span", [(50, 80), (0, 30), (3, 20), (170, 200), (100, 100), (0, 200)])
def test_a_piece_that_is_the_recording_leaves_it_as_it_is(span, dtype):
    wav = recording(np.random.default_rng(0), dtype, 200)
    scale = -float(np.iinfo(dtype).min) if np.dtype(dtype).kind == "i" else 1.0
    before, after = splicing.context(*span, 200, fade=10)
    piece = Piece(*span, wav[span[0] - before : span[1] + after] / scale)
    np.testing.assert_array_equal(splicing.splice(wav, [piece], fade=10), wav)


def test_a_fade_is_linear_and_its_gains_add_up_to_one():
    made = splicing.splice(np.zeros(100), [Piece(40, 60, np.ones(28))], fade=4)
    np.testing.assert_allclose(made[36:40], [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(made[60:64], [0.8, 0.6, 0.4, 0.2])
    rest = splicing.splice(np.ones(100), [Piece(40, 60, np.zeros(28))], fade=4)
    np.testing.assert_allclose(made + rest, 1.0)


@pytest.mark.parametrize(
    "pieces, expected",
    [
        ([Piece(-1, 5, np.zeros(20))], "must lie in the recording of 100 samples, got \\[-1, 5\\)"),
        ([Piece(90, 101, np.zeros(20))], "must lie in the recording"),
        ([Piece(9, 5, np.zeros(20))], "must lie in the recording"),
        ([Piece(10, 20, np.zeros(7))], "at least 8 samples"),
        ([Piece(10, 20, np.zeros((20, 2)))], "must be mono"),
        ([Piece(10, 20, np.full(20, np.nan))], "finite"),
        ([Piece(10, 20, np.zeros(20)), Piece(27, 30, np.zeros(20))], "8 samples apart, got one at 27 .* to 20"),
    ],
)
def test_pieces_that_do_not_fit_are_refused(pieces, expected):
    with pytest.raises(ValueError, match=expected):
        splicing.splice(np.zeros(100), pieces, fade=4)


ENCODINGS = [
    ("WAV", "PCM_U8", ".wav"),
    ("WAV", "PCM_16", ".wav"),
    ("WAV", "PCM_24", ".wav"),
    ("WAV", "PCM_32", ".wav"),
    ("WAV", "FLOAT", ".wav"),
    ("WAV", "DOUBLE", ".wav"),
    ("WAV", "ULAW", ".wav"),
    ("WAV", "ALAW", ".wav"),
    ("WAV", "MS_ADPCM", ".wav"),
    ("RF64", "PCM_16", ".wav"),
    ("FLAC", "PCM_S8", ".flac"),
    ("FLAC", "PCM_16", ".flac"),
    ("FLAC", "PCM_24", ".flac"),
    ("OGG", "VORBIS", ".ogg"),
    ("OGG", "OPUS", ".opus"),
    ("MP3", "MPEG_LAYER_III", ".mp3"),
]


@pytest.mark.parametrize("container, subtype, suffix", ENCODINGS)
def test_a_file_keeps_its_samples_where_its_encoding_can(tmp_path, container, subtype, suffix):
    rng = np.random.default_rng(0)
    channels = 1 if subtype == "MS_ADPCM" else 2
    clean = rng.uniform(-0.9, 0.9, (3000, channels))
    like, path = tmp_path / f"like{suffix}", tmp_path / f"new/made{suffix}"
    soundfile.write(like, clean, 16_000, format=container, subtype=subtype)
    wav, rate, info = splicing.read(like)
    assert wav.shape == (info.frames, channels) and info.frames >= 3000 and rate == info.rate == 16_000
    piece = Piece(1000, 1500, rng.uniform(-0.9, 0.9, 720).astype(np.float32))
    made = splicing.splice(wav, [piece], fade=10)
    warning = splicing.write(path, made, like)
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    back, _, written = splicing.read(path)
    assert len(back) == len(wav) + 200 and written.rate == 16_000 and written.format == container
    if suffix in (".ogg", ".opus", ".mp3"):
        assert warning and warning.startswith(f"{path}: {subtype} does not hold") and "\n" not in warning
        assert splicing.write(tmp_path / "a.wav", made, like) is None  # what was decoded is kept in a WAV
        np.testing.assert_array_equal(splicing.read(tmp_path / "a.wav")[0], made)
        return
    assert warning is None
    assert written.subtype == {"ULAW": "PCM_16", "ALAW": "PCM_16", "MS_ADPCM": "FLOAT"}.get(subtype, subtype)
    assert back[:990].tobytes() == wav[:990].tobytes() and back[1710:].tobytes() == wav[1510:].tobytes()
    scale = 2.0**15 if back.dtype == np.int16 else 2.0**31 if back.dtype == np.int32 else 1.0
    step = {"PCM_U8": 2.0**-7, "PCM_S8": 2.0**-7, "PCM_16": 2.0**-15, "PCM_24": 2.0**-23}.get(subtype, 2.0**-15)
    inner = back[1000:1700] / scale - piece.wave[10:-10, None]
    assert np.abs(inner).max() <= 0.51 * step  # rounded to the nearest value, not down


@pytest.mark.parametrize(
    "subtype, suffix, expected",
    [
        ("PCM_U8", ".flac", "PCM_16"),
        ("PCM_24", ".flac", "PCM_24"),
        ("FLOAT", ".flac", None),
        ("PCM_32", ".flac", None),
        ("PCM_16", ".mp3", None),
        ("PCM_16", ".OPUS", None),
    ],
)
def test_another_container_keeps_the_samples_or_says_that_it_does_not(tmp_path, subtype, suffix, expected):
    like, path = tmp_path / "like.wav", tmp_path / f"made{suffix}"
    soundfile.write(like, np.random.default_rng(0).uniform(-0.9, 0.9, 2000), 16_000, subtype=subtype)
    wav, _, _ = splicing.read(like)
    warning = splicing.write(path, wav, like)
    back = soundfile.read(path, dtype=wav.dtype.name, always_2d=True)[0]
    assert np.array_equal(back, wav) == (warning is None) == (expected is not None)
    assert expected in (None, soundfile.info(path).subtype)


def test_loud_edges_do_not_wrap_around_when_rounded(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 16_000, subtype="PCM_24")
    wav, _, _ = splicing.read(tmp_path / "a.wav")
    made = splicing.splice(wav, [Piece(0, 100, np.linspace(-1, 1, 100))], fade=0)
    assert splicing.write(tmp_path / "b.wav", made, tmp_path / "a.wav") is None
    assert np.abs(soundfile.read(tmp_path / "b.wav")[0] - np.linspace(-1, 1, 100)).max() <= 2.0**-23


def test_a_long_recording_is_compressed(tmp_path):
    wav = np.random.default_rng(0).integers(-3000, 3000, (16_000 * 40, 1)).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", wav, 16_000)
    assert "VORBIS" in (splicing.write(tmp_path / "a.ogg", wav, tmp_path / "a.wav") or "")
    assert soundfile.info(tmp_path / "a.ogg").frames == len(wav)


def test_the_recording_itself_can_be_replaced(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.arange(100, dtype=np.int16), 16_000)
    wav, _, _ = splicing.read(path)
    assert splicing.write(path, wav[:50], path) is None
    np.testing.assert_array_equal(soundfile.read(path, dtype="int16")[0], np.arange(50))


@pytest.mark.parametrize("lacking", [20_000, 5])  # bytes; the last ones are held back until the file is closed
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_full_disk_is_a_one_line_error_and_leaves_what_was_there(tmp_path, suffix, lacking):
    like = tmp_path / f"a{suffix}"
    soundfile.write(like, np.random.default_rng(0).uniform(-1, 1, 20_000), 16_000)
    before = like.read_bytes()
    wav, _, _ = splicing.read(like)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) - lacking, limits[1]))
    try:
        with pytest.raises(UserError) as error:
            splicing.write(like, wav, like)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "could not be written" in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == [like] and like.read_bytes() == before


@pytest.mark.parametrize(
    "name, rate, expected",
    [
        ("b.txt", 16_000, "ends in .wav, .flac, .ogg, .opus, .mp3, got .txt"),
        ("b", 16_000, "got no suffix"),
        ("folder.wav", 16_000, "could not be written"),
        ("a.wav/b.wav", 16_000, "could not be written"),
        ("b.opus", 44_100, "could not be written"),  # Opus knows five rates
    ],
)
def test_places_that_cannot_be_written_are_one_line_errors(tmp_path, name, rate, expected):
    (tmp_path / "folder.wav").mkdir()
    soundfile.write(tmp_path / "a.wav", np.zeros(100), rate)
    wav, _, _ = splicing.read(tmp_path / "a.wav")
    with pytest.raises(UserError) as error:
        splicing.write(tmp_path / name, wav, tmp_path / "a.wav")
    assert expected in str(error.value) and "\n" not in str(error.value)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.wav", "folder.wav"]


def test_samples_of_another_type_than_the_recordings_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 16_000)
    with pytest.raises(ValueError, match="are int16, got float32"):
        splicing.write(tmp_path / "b.wav", np.zeros((100, 1), np.float32), tmp_path / "a.wav")


def test_unreadable_recordings_are_one_line_errors(tmp_path):
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    (tmp_path / "text.wav").write_text("not sound")
    for name, expected in {"nan": "NaN", "empty": "found 0", "text": "not readable", "none": "found nothing"}.items():
        with pytest.raises(UserError, match=expected) as error:
            splicing.read(tmp_path / f"{name}.wav")
        assert "\n" not in str(error.value)
