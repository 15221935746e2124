"""HiFi-GAN has the original's sizes, waves and losses, and reads published weights or says why they do not fit."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_torch_checkpoint import save

from sfjax import audio
from sfjax.errors import UserError
from sfjax.vocoder import discriminators, hifigan

TOY = dict(
    channels=16,
    upsample=(5, 32),
    kernels=(11, 40),
    residual_kernels=(3, 5),
    dilations=(1, 3),
    mels=80,
    dtype=jnp.float32,
)
FRAMES = 7


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def drawn(network, *inputs):
    """Parameters of any network, biases too."""
    rng, shapes = np.random.default_rng(3), jax.eval_shape(network.init, jax.random.key(0), *inputs)["params"]
    scale = lambda leaf: 0.1 if leaf.ndim == 1 else 0.7 / np.sqrt(np.prod(leaf.shape[:2]))
    return jax.tree.map(lambda leaf: jnp.asarray(scale(leaf) * rng.standard_normal(leaf.shape), leaf.dtype), shapes)


@pytest.fixture(scope="module")
def generator():
    return hifigan.Generator(**TOY)


@pytest.fixture(scope="module")
def params(generator):
    return drawn(generator, jnp.zeros((1, 2, 80)), jnp.ones(1, int))


@pytest.fixture(scope="module")
def mel():
    return jax.random.normal(jax.random.key(2), (2, FRAMES, 80))


@pytest.fixture(scope="module")
def judges():
    """Small discriminators and their parameters."""
    made = discriminators.Discriminators(channels=1 / 256, periods=(2, 3), scales=2, dtype=jnp.float32)
    return made, drawn(made, jnp.zeros((1, 1600)))


def test_it_has_as_many_parameters_as_the_originals():
    sizes = TOY | dict(channels=512, upsample=(5, 4, 4, 2), kernels=(11, 8, 8, 4))
    sizes |= dict(residual_kernels=(3, 7, 11), dilations=(1, 3, 5))
    shapes = jax.eval_shape(hifigan.Generator(**sizes).init, jax.random.key(0), jnp.zeros((1, 2, 80)), jnp.ones(1, int))
    assert count(shapes["params"]) == 13_041_281
    whole = discriminators.Discriminators(channels=1.0, periods=(2, 3, 5, 7, 11), scales=3, dtype=jnp.float32)
    shapes = jax.eval_shape(whole.init, jax.random.key(0), jnp.zeros((1, 8000)))["params"]
    periods, scales = ({n: v for n, v in shapes.items() if n.startswith(kind)} for kind in ("period", "scale"))
    assert count(periods) == 41_092_165 and count(scales) == 29_610_627


def test_a_padded_utterance_is_the_one_it_is_alone(generator, params, mel):
    run = jax.jit(lambda mel, lengths: generator.apply({"params": params}, mel, lengths))
    both = run(mel, jnp.array([FRAMES, 4]))
    assert both.shape == (2, 160 * FRAMES)
    np.testing.assert_allclose(both[1, : 160 * 4], run(mel[1:, :4], jnp.array([4]))[0], atol=1e-5)
    assert float(jnp.abs(both[1, 160 * 4 :]).max()) == 0.0 and float(jnp.abs(both[1, : 160 * 4]).max()) > 0.01


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"kernels": (10, 40)}, "even number of taps, got steps"),
        ({"kernels": (3, 40)}, r"got steps .* kernels \(3, 40\)"),
        ({"kernels": (11,)}, r"got steps .* kernels \(11,\)"),
        ({"kernels": (), "upsample": ()}, r"got steps \(\) and kernels"),
        ({"residual_kernels": (3, 4)}, r"residual kernels .*got \(3, 4\)"),
        ({"residual_kernels": ()}, r"residual kernels .*got \(\)"),
        ({"channels": 6}, "channels 2 times, got 6; take a multiple of 4"),
    ],
)
def test_sizes_with_which_lengths_would_drift_are_refused(changes, reason):
    with pytest.raises(UserError, match=reason):
        hifigan.Generator(**TOY | changes)


# The original, from its state_dict, by the definitions of convolution


def convolved(x, weight, bias, dilation=1):
    """Channels by time; weight [out, in, taps]; sum over taps of what each contributes."""
    taps, edge = weight.shape[2], (weight.shape[2] - 1) * dilation // 2
    padded = np.pad(x, ((0, 0), (edge, edge)))
    return bias[:, None] + sum(weight[:, :, i] @ padded[:, i * dilation :][:, : x.shape[1]] for i in range(taps))


def spread(x, weight, bias, factor):
    """PyTorch's transposed convolution; weight [in, out, taps]: every sample adds its taps, then the edges are cut."""
    taps = weight.shape[2]
    made = np.zeros((weight.shape[1], (x.shape[1] - 1) * factor + taps))
    for place in range(x.shape[1]):
        made[:, place * factor : place * factor + taps] += np.einsum("i,iok->ok", x[:, place], weight)
    cut = (taps - factor) // 2
    return bias[:, None] + made[:, cut : made.shape[1] - cut]


def original(state, mel, toy):
    """The wave of [mels, frames] by the original's graph."""
    leaky = lambda x, slope: np.where(x > 0, x, slope * x)
    conv = lambda x, name, d=1: convolved(x, state[f"{name}.weight"], state[f"{name}.bias"], d)
    x, blocks = conv(mel, "conv_pre"), len(toy["residual_kernels"])
    for stage, factor in enumerate(toy["upsample"]):
        x = spread(leaky(x, 0.1), state[f"ups.{stage}.weight"], state[f"ups.{stage}.bias"], factor)
        total = 0.0
        for block in range(blocks):
            h = x
            for step, dilation in enumerate(toy["dilations"]):
                name = f"resblocks.{stage * blocks + block}"
                inner = conv(leaky(h, 0.1), f"{name}.convs1.{step}", dilation)
                h = h + conv(leaky(inner, 0.1), f"{name}.convs2.{step}")
            total = total + h
        x = total / blocks
    return np.tanh(conv(leaky(x, 0.01), "conv_post"))[0]


def weights(toy):
    """Random weights of the original by name, none of them normalised."""
    rng = np.random.default_rng(0)
    width, state = toy["channels"], {}

    def layer(name, out, into, taps):
        state[f"{name}.bias"] = 0.1 * rng.standard_normal(into if name.startswith("ups") else out)
        state[f"{name}.weight"] = rng.standard_normal((out, into, taps)) / np.sqrt(into * taps)

    layer("conv_pre", width, 80, 7)
    for stage, kernel in enumerate(toy["kernels"]):
        layer(f"ups.{stage}", width >> stage, width >> stage + 1, kernel)
        for block, size in enumerate(toy["residual_kernels"]):
            for half in ("convs1", "convs2"):
                for step in range(len(toy["dilations"])):
                    name = f"resblocks.{stage * len(toy['residual_kernels']) + block}.{half}.{step}"
                    layer(name, width >> stage + 1, width >> stage + 1, size)
    layer("conv_post", 1, width >> len(toy["kernels"]), 7)
    return state


def normalised(state, names):
    """The same weights as lengths and directions under the two `names`."""
    found = {}
    for name, value in state.items():
        if not name.endswith(".weight"):
            found[name] = value
            continue
        length = np.sqrt((value**2).sum(axis=(1, 2), keepdims=True))
        stem = name.removesuffix("weight")
        found |= {stem + names[0]: length, stem + names[1]: value / length * 3.0}
    return found


@pytest.fixture
def config(spec):
    """The config.json that fits the toy weights."""
    return {
        "resblock": "1",
        "upsample_rates": list(TOY["upsample"]),
        "upsample_kernel_sizes": list(TOY["kernels"]),
        "upsample_initial_channel": TOY["channels"],
        "resblock_kernel_sizes": list(TOY["residual_kernels"]),
        "resblock_dilation_sizes": [list(TOY["dilations"])] * 2,
        "num_mels": 80,
        "n_fft": 1024,
        "hop_size": 160,
        "win_size": 640,
        "sampling_rate": 16000,
        "fmin": 0,
        "fmax": 8000,
        "batch_size": 16,
    }


@pytest.fixture
def published(tmp_path, config):
    """A function that writes weights and a config.json and reads them again."""

    def read(spec, state, changes=None, around=lambda state: {"generator": state}):
        settings = {name: value for name, value in (config | (changes or {})).items() if value != "gone"}
        (tmp_path / "config.json").write_text(json.dumps(settings))
        return hifigan.read_torch(save(tmp_path / "g.pt", state, around=around), spec, dtype=jnp.float32)

    return read


@pytest.mark.parametrize(
    "names",
    [
        None,
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ],
)
def test_published_weights_give_the_waves_of_the_original(published, spec, mel, names):
    state = weights(TOY)
    given = normalised(state, names) if names else state
    found = published(spec, given, around=(lambda state: {"generator": state}) if names else (lambda state: state))
    made = jax.jit(found.network.apply)({"params": found.params}, mel, jnp.full(2, FRAMES))
    wanted = np.stack([original(state, np.asarray(one, np.float64).T, TOY) for one in mel])
    np.testing.assert_allclose(made, wanted, atol=1e-5)
    assert wanted.std() > 0.01
    assert (found.mean, found.std) == (0.0, 1.0)


def test_published_weights_give_the_waves_of_pytorch(published, spec, mel, tmp_path, config):
    torch = pytest.importorskip("torch")
    from torch.nn import Conv1d, ConvTranspose1d, ModuleList
    from torch.nn.functional import leaky_relu

    class Block(torch.nn.Module):
        def __init__(self, width, taps):
            super().__init__()
            norm, edge = torch.nn.utils.parametrizations.weight_norm, lambda d: (taps * d - d) // 2
            make = lambda d: norm(Conv1d(width, width, taps, dilation=d, padding=edge(d)))
            self.convs1 = ModuleList(make(d) for d in TOY["dilations"])
            self.convs2 = ModuleList(make(1) for _ in TOY["dilations"])

        def forward(self, x):
            for one, two in zip(self.convs1, self.convs2, strict=True):
                x = x + two(leaky_relu(one(leaky_relu(x, 0.1)), 0.1))
            return x

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            norm, width = torch.nn.utils.parametrizations.weight_norm, TOY["channels"]
            self.conv_pre = norm(Conv1d(80, width, 7, padding=3))
            self.ups, self.resblocks = ModuleList(), ModuleList()
            for stage, (factor, taps) in enumerate(zip(TOY["upsample"], TOY["kernels"], strict=True)):
                pair = width >> stage, width >> stage + 1
                self.ups.append(norm(ConvTranspose1d(*pair, taps, factor, padding=(taps - factor) // 2)))
                self.resblocks.extend(Block(pair[1], size) for size in TOY["residual_kernels"])
            self.conv_post = norm(Conv1d(width >> stage + 1, 1, 7, padding=3))

        def forward(self, x):
            x, count = self.conv_pre(x), len(TOY["residual_kernels"])
            for stage, up in enumerate(self.ups):
                x = up(leaky_relu(x, 0.1))
                x = sum(block(x) for block in self.resblocks[stage * count : (stage + 1) * count]) / count
            return torch.tanh(self.conv_post(leaky_relu(x)))[:, 0]

    torch.manual_seed(0)
    net = Net()
    with torch.no_grad():
        for name, value in net.named_parameters():  # louder, and no length is that of its direction
            value.mul_(2.0 if name.endswith("original0") else 1.5)
    torch.save({"generator": net.state_dict()}, tmp_path / "g_0001")
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = hifigan.read_torch(tmp_path / "g_0001", spec, dtype=jnp.float32)
    made = jax.jit(found.network.apply)({"params": found.params}, mel, jnp.full(2, FRAMES))
    wanted = net(torch.tensor(np.asarray(mel)).mT).detach().numpy()
    np.testing.assert_allclose(made, wanted, atol=1e-4)
    assert wanted.std() > 0.01


def test_normalisation_alone_may_differ(published, spec):
    found = published(spec, weights(TOY), {"mean": -5, "std": 2.5, "fmax": None, "resblock": 1})
    assert (found.mean, found.std) == (-5.0, 2.5)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"hop_size": 256, "win_size": 1024}, "win_size 1024 where this model has 640, hop_size 256 where .* has 160;"),
        ({"sampling_rate": 22050}, "sampling_rate 22050 where this model has 16000"),
        ({"sampling_rate": 22050, "fmax": None}, r"sampling_rate 22050 .*, fmax 11025.0 where this model has 8000"),
        ({"fmin": 20.5}, "fmin 20.5 where"),
        ({"n_fft": 512}, "n_fft 512 where"),
        ({"num_mels": 100}, "num_mels 100 where"),
        ({"resblock": "2"}, "residual blocks of kind 1 .*, got kind 2"),
        ({"resblock_dilation_sizes": [[1, 3], [1, 5]]}, "all have the same dilations"),
        ({"upsample_rates": [5, 64], "upsample_kernel_sizes": [11, 64]}, "hop of 160, got 320"),
        ({"upsample_kernel_sizes": [11, 41]}, "config.json: the generator .* even number"),
        ({"upsample_kernel_sizes": 11}, "upsample_kernel_sizes is 11, .*correct it"),
        ({"upsample_rates": []}, "upsample_rates is"),
        ({"upsample_rates": [5, 0]}, "upsample_rates is"),
        ({"upsample_rates": [5, "32"]}, "upsample_rates is"),
        ({"resblock_dilation_sizes": [1, 3]}, "resblock_dilation_sizes is"),
        ({"upsample_initial_channel": True}, "upsample_initial_channel is True"),
        ({"mean": [1.0]}, "mean is"),
        ({"std": 0}, "std is 0"),
        ({"fmin": None}, "fmin is None"),
        ({"n_fft": "gone", "fmin": "gone"}, "lacks fmin, n_fft; take the config.json"),
        (
            {"upsample_initial_channel": 32},
            r"conv_post.weight of .*\(1, 8, 7\), got \(1, 4, 7\)",
        ),
        ({"resblock_kernel_sizes": [3, 5, 3]}, r"resblocks.2.* shape \(.*, got \("),
        (
            {"resblock_dilation_sizes": [[1]] * 2},
            "resblocks.0.convs1.1.bias is not needed",
        ),
        ({"resblock_dilation_sizes": [[1, 3, 5]] * 2}, r"resblocks.0.convs1.2.\w+ is missing"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_what_differs(published, spec, changes, reason):
    with pytest.raises(UserError, match=reason) as refusal:
        published(spec, weights(TOY), changes)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda state: state.pop("conv_post.weight"), "conv_post.weight is missing"),
        (lambda state: state.pop("ups.1.bias"), "ups.1.bias is missing"),
        (lambda state: state.update({"conv_pre.bias": np.full(16, np.nan)}), "conv_pre.bias holds NaN or infinite"),
        (lambda state: state.update({"conv_pre.weight": np.ones(3)}), r"conv_pre.weight .*, got \(3,\)"),
        (lambda state: state.update({"conv_pre.weight_g": np.ones(16)}), "conv_pre.weight_v is missing"),
        (lambda state: state.update({"mpd.weight": np.ones(3)}), "mpd.weight is not needed"),
    ],
)
def test_a_state_dict_of_another_network_is_refused(published, spec, change, reason):
    state = weights(TOY)
    change(state)
    with pytest.raises(UserError, match=reason):
        published(spec, state)


def test_a_checkpoint_without_a_config_or_a_generator_is_refused(published, spec, tmp_path):
    with pytest.raises(UserError, match="expected a dict of tensors as 'generator', got int"):
        published(spec, {}, around=lambda state: {"generator": 3})
    for content in ("{", "[]"):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(UserError, match="config.json: expected"):
            hifigan.read_torch(tmp_path / "g.pt", spec, dtype=jnp.float32)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match="config.json: expected .*found none"):
        hifigan.read_torch(tmp_path / "g.pt", spec, dtype=jnp.float32)


# Training


def test_a_segment_is_one_place_of_wave_and_mel_within_the_utterance(spec):
    lengths = jnp.array([3000, 1601, 700])
    wav = jnp.broadcast_to(jnp.arange(1.0, 3121), (3, 3120))  # the last frame is not whole
    mel = jnp.broadcast_to(jnp.arange(20.0)[:, None], (3, 20, 80))
    silence = (np.log(1e-5) - spec.mean) / spec.std
    cut = jax.jit(lambda wav, mel, keys: hifigan.segments(wav, mel, lengths, keys, frames=8, spec=spec))
    starts = set()
    for seed in range(80):
        waves, mels = cut(wav, mel, jax.random.split(jax.random.key(seed), 3))
        assert waves.shape == (3, 1280) and mels.shape == (3, 8, 80)
        for i, length in enumerate(np.asarray(lengths)):
            first, last = int(mels[i, 0, 0]), -(-int(length) // 160)
            assert first <= max(last - 8, 0)
            place = first * 160 + np.arange(1280)
            np.testing.assert_array_equal(waves[i], np.where(place < length, place + 1, 0))
            frames = first + np.arange(8)
            np.testing.assert_allclose(mels[i, :, 3], np.where(frames < last, frames, silence), rtol=1e-6)
        starts.add(int(mels[0, 0, 0]))
    assert starts == set(range(12))
    waves, mels = hifigan.segments(
        wav[:, :500], mel[:, :4], lengths[2:].repeat(3), jax.random.split(jax.random.key(0), 3), frames=8, spec=spec
    )
    assert waves.shape == (3, 1280) and mels.shape == (3, 8, 80)


@pytest.fixture(scope="module")
def errors(generator, judges, spec):
    """A function of both parameters, wave and Mels: of each error its total, parts and gradient by both."""
    weights = hifigan.Weights(adversarial=1.0, features=2.0, mel=45.0)
    networks = generator, judges[0]

    def both(*given):
        first = lambda *trees: hifigan.generator_error(*networks, *trees, *given[2:], spec=spec, weights=weights)
        second = lambda *trees: hifigan.discriminator_error(*networks, *trees, *given[2:])
        return [jax.value_and_grad(error, (0, 1), has_aux=True)(*given[:2]) for error in (first, second)]

    return jax.jit(both)


@pytest.fixture(scope="module")
def pair(voice, spec):
    """Two waves and their Mels."""
    wav = jnp.asarray(np.stack([voice(0.1, seed) for seed in (0, 1)]))
    return wav, audio.log_mel(wav, spec)


def test_the_errors_of_known_networks_are_known(errors, params, judges, pair, spec):
    wav, mel = pair
    silent, deaf = (jax.tree.map(jnp.zeros_like, tree) for tree in (params, judges[1]))
    ((total, parts), _), ((own_total, own_parts), _) = errors(silent, deaf, wav, mel)
    level = (np.asarray(mel) * spec.std + spec.mean - np.log(1e-5)).mean(axis=(1, 2)).sum()  # silence is at the floor
    np.testing.assert_allclose(parts["mel"], level, rtol=1e-4)
    assert parts["features"] == 0.0 and parts["adversarial"] == 2 * 4  # examples × discriminators that say 0
    np.testing.assert_allclose(total, 8 + 45 * level, rtol=1e-4)
    assert (own_total, own_parts["real"], own_parts["made"]) == (8.0, 8.0, 0.0)


def test_errors_are_sums_over_examples_and_each_trains_its_own_network(errors, params, judges, pair):
    found = errors(params, judges[1], *pair)
    size = lambda tree: sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(tree))
    for mine, (_, gradients) in enumerate(found):
        assert size(gradients[1 - mine]) == 0.0
        assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(gradients[mine]))
    twice = [errors(params, judges[1], *(x[jnp.array([i, i])] for x in pair)) for i in (0, 1)]
    for ((total, parts), _), ((one, _), _), ((other, _), _) in zip(found, *twice, strict=True):
        np.testing.assert_allclose(total, (one + other) / 2, rtol=1e-5)
        assert all(float(part) > 0 for part in parts.values())


def test_it_learns_the_mel_of_a_voice(errors, params, judges, pair):
    tx = optax.adamw(2e-3, b1=0.8, b2=0.99)
    trees, heard = [params, judges[1]], []
    state = tx.init(trees)

    @jax.jit
    def update(gradient, state, trees):
        changes, state = tx.update(gradient, state, trees)
        return optax.apply_updates(trees, changes), state

    for _ in range(40):
        ((_, parts), (of_generator, _)), (_, (_, of_judges)) = errors(*trees, *pair)
        trees, state = update([of_generator, of_judges], state, trees)
        heard.append(float(parts["mel"]))
    assert heard[-1] < 0.6 * heard[0]


@pytest.mark.parametrize("groups, stride, kernel, width", [(4, 2, 41, 8), (16, 4, 41, 12), (1, 3, 5, 6)])
def test_a_convolution_by_groups_is_the_one_in_groups(groups, stride, kernel, width):
    x = jax.random.normal(jax.random.key(0), (2, 50, 8))
    ours = discriminators.Conv(width, kernel, stride, groups, jnp.float32)
    fewer = {16: 4}.get(groups, groups)  # as many as 8 and 12 channels can be split into
    edge = [(kernel // 2, kernel // 2)]
    theirs = nn.Conv(width, (kernel,), stride, padding=edge, feature_group_count=fewer)
    params = theirs.init(jax.random.key(1), x)
    np.testing.assert_allclose(ours.apply(params, x), theirs.apply(params, x), atol=1e-5)


def test_discriminators_judge_each_wave_by_itself_at_every_period_and_scale(judges):
    network, params = judges
    wav = jax.random.normal(jax.random.key(0), (2, 1601))
    judge = jax.jit(lambda wav: network.apply({"params": params}, wav))
    both, alone = judge(wav), judge(wav[::-1].at[1].set(0.0))
    assert len(both) == 4
    for (score, features), (own, own_features) in zip(both, alone, strict=True):
        np.testing.assert_allclose(score[1], own[0], atol=1e-5)
        for layer, mine in zip(features, own_features, strict=True):
            np.testing.assert_allclose(layer[1], mine[0], atol=1e-5)
    assert [len(features) for _, features in both] == [6] * 2 + [8] * 2
    # by period the first layer sees sample 701 in one column alone; by scale a stretch of it
    moved = judge(wav.at[:, 701].add(1.0))
    for period, (_, before), (_, after) in zip(network.periods, both, moved, strict=False):
        columns = jnp.abs(after[0] - before[0]).max(axis=(0, 2, 3)) > 0
        assert list(np.flatnonzero(columns)) == [701 % period]
    assert [features[0].shape[1] for _, features in both[2:]] == [1601, 801]
