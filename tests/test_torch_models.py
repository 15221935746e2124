"""HuBERT and WavLM from local folders, here small and random: results, wrong folders and missing packages."""

import json
import sys

import numpy as np
import pytest

from sfjax.errors import UserError
from sfjax.metrics import Unscorable, speaker, wer
from sfjax.metrics.torch_models import Hubert, WavLM

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
SMALL = dict(
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    conv_dim=(8,) * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=2,
    vocab_size=len(LETTERS),
    tdnn_dim=(8,) * 5,
    xvector_output_dim=12,
)
WAV = (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)


@pytest.fixture(scope="module")
def libraries():
    return pytest.importorskip("torch"), pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folders(libraries, tmp_path_factory):
    """Folders of a random HuBERT and a random WavLM, as a user would download them."""
    torch, transformers = libraries
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("local")
    (root / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate(LETTERS)}))
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(root / "vocab.json"))
    hubert = transformers.HubertForCTC(transformers.HubertConfig(**SMALL, pad_token_id=0))
    hubert.lm_head.weight.data *= 100  # else one letter wins everywhere
    hubert.save_pretrained(root / "hubert")
    transformers.Wav2Vec2Processor(extractor, tokenizer).save_pretrained(root / "hubert")
    transformers.WavLMForXVector(transformers.WavLMConfig(**SMALL)).save_pretrained(root / "wavlm")
    extractor.save_pretrained(root / "wavlm")
    return root


def test_hubert_says_the_letters_of_its_best_path(libraries, folders):
    torch, transformers = libraries
    hear = wer.transcriber(f"hubert:{folders / 'hubert'}")
    assert isinstance(hear, wer.Transcriber) and hear.name == "hubert hubert"
    heard = hear(WAV, 16_000)
    model = transformers.HubertForCTC.from_pretrained(folders / "hubert", local_files_only=True).eval()
    normal = (WAV - WAV.mean()) / np.sqrt(WAV.var() + 1e-7)
    best = model(torch.from_numpy(normal)[None]).logits[0].argmax(-1).tolist()
    best = [one for one in best if not 1 <= one <= 3]  # <s>, </s> and <unk> are no letters
    kept = [LETTERS[one] for one, before in zip(best, [None, *best], strict=False) if one != before and one > 0]
    assert heard == " ".join("".join(kept).replace("|", " ").lower().split()) != ""
    assert hear(WAV[::2], 8_000) != "" and len(hear(WAV[:10], 16_000)) <= 4  # 0.1 s, four frames
    assert Hubert(folders / "hubert")(WAV, 16_000) == heard


def test_wavlm_gives_a_unit_vector_whatever_the_level(folders):
    encode = speaker.encoder(f"wavlm:{folders / 'wavlm'}")
    assert isinstance(encode, speaker.SpeakerEncoder) and encode.name == "wavlm wavlm"
    vector = encode(WAV, 16_000)
    assert vector.shape == (12,) and np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(WavLM(folders / "wavlm")(WAV, 16_000), vector)
    np.testing.assert_allclose(encode(2 * WAV, 16_000), vector, atol=1e-4)  # the extractor normalises
    assert encode(WAV[:6_400], 16_000).shape == (12,)
    with pytest.raises(Unscorable, match="0.40|0.39"):
        encode(WAV[:6_300], 16_000)


def test_a_folder_of_another_model_is_one_line(folders, tmp_path):
    for make, folder, line in (
        (Hubert, "wavlm", "expected HubertForCTC, found WavLMForXVector"),
        (WavLM, "hubert", "expected WavLMForXVector, found HubertForCTC"),
        (Hubert, ".", "found no config.json"),
        (WavLM, "nowhere", "found no config.json"),
    ):
        with pytest.raises(UserError, match=line):
            make(folders / folder)


@pytest.mark.parametrize("config", ["", "[]", "{}", '{"architectures": ["HubertForCTC"]}', '{"architectures": 3}'])
def test_a_broken_folder_is_one_line(libraries, tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match="HubertForCTC") as caught:
        Hubert(tmp_path)
    assert "\n" not in str(caught.value)


def test_weights_without_the_head_are_refused_instead_of_drawn_at_random(libraries, folders, tmp_path):
    _, transformers = libraries
    model = transformers.WavLMForXVector.from_pretrained(folders / "wavlm", local_files_only=True)
    model.wavlm.save_pretrained(tmp_path)
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folders / "wavlm" / name).read_bytes())
    with pytest.raises(UserError, match=r"the weights lack .* and \d+ more"):
        WavLM(tmp_path)


def test_weights_of_half_precision_are_computed_with_in_full(libraries, folders, tmp_path):
    _, transformers = libraries
    model = transformers.WavLMForXVector.from_pretrained(folders / "wavlm", local_files_only=True)
    model.half().save_pretrained(tmp_path)
    config = folders / "wavlm" / "preprocessor_config.json"
    (tmp_path / config.name).write_bytes(config.read_bytes())
    theirs = WavLM(folders / "wavlm")(WAV, 16_000)
    np.testing.assert_allclose(WavLM(tmp_path)(WAV, 16_000), theirs, atol=0.02)


@pytest.mark.parametrize("make, wanted", [(Hubert, "HubertForCTC"), (WavLM, "WavLMForXVector")])
@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_missing_package_is_named_with_the_way_to_get_it(monkeypatch, tmp_path, make, wanted, package):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(UserError, match=rf"{wanted} needs torch and .*: pip install 'sfjax\[hubert\]'$"):
        make(tmp_path)
