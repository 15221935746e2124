"""Many tasks in one model, and diffusion in the place of flow matching."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import diffusion, inference, objective, tasks, train
from sfjax.config import read
from sfjax.errors import UserError
from sfjax.export import release

SECTIONS = {
    "enhance": {"name": "enhance", "drop": 0.3},
    "separate": {
        "name": "separate",
        "speakers": 2,
        "drop": 0.6,
        "order": "best",
        "copies": "aligned",
        "mask": 6.0,
        "cluster": 3.0,
    },
    "pretrain": {"name": "pretrain", "drop": 0.1, "fraction": (0.7, 1.0), "shortest": 10},
}


def several():
    return tasks.make(name="several", **SECTIONS)


def test_each_example_is_that_of_its_own_task():
    task = several()
    shapes = {name: 40 if share == 1 else 20 for name, share in task.columns.items()}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    features = {name: jax.random.normal(key, (n, 4)) for (name, n), key in zip(shapes.items(), keys, strict=True)}
    for number, part in enumerate(task.parts.values()):
        key, length = jax.random.key(number), jnp.int32(17)
        mine = part.example(features, length, key)
        made = jax.jit(task.example)(features | {"task": jnp.int32(number)}, length, key)
        for x, there in zip(*map(jax.tree.leaves, (mine, {name: made[name] for name in mine})), strict=True):
            np.testing.assert_array_equal(there[: len(x)] if x.ndim else there, x)
            assert not x.ndim or (len(there) == 40 and not np.asarray(there[len(x) :]).any())


def test_each_task_drops_its_condition_as_often_as_it_says():
    task = several()
    shapes = {name: 40 if share == 1 else 20 for name, share in task.columns.items()}
    features = {name: jnp.ones((n, 4)) for name, n in shapes.items()}
    number = jnp.arange(3000) % 3
    make = jax.vmap(lambda n, key: task.example(features | {"task": n}, jnp.int32(17), key))
    made = make(number, jax.random.split(jax.random.key(1), 3000))
    dropped = np.asarray(jnp.abs(made["condition"]).sum(axis=(1, 2)) == 0)
    for i, drop in enumerate((0.3, 0.6)):
        assert dropped[np.asarray(number) == i].mean() == pytest.approx(drop, abs=5 * (drop * (1 - drop) / 1000) ** 0.5)


def config(toy_config, corpus, **changes):
    speech = f"{corpus}/speech.parquet"
    weights = {"data.train": f"enhance={speech}:10,separate={speech}:4", "data.buckets": (2.0,)}
    return toy_config("several", **weights | changes)


def test_tasks_come_as_often_as_their_weights_say_over_ten_thousand_examples(toy_config, corpus, monkeypatch):
    made = config(toy_config, corpus)
    made.data.train = made.data.train + f",enhance={corpus}/speech.parquet:1"
    found, valid = train.readers(read(made))
    assert set(valid) == {"enhance", "separate"}
    count = np.zeros(2)
    for step in range(10_000 // found.plan.size(0)):
        for row in found.plan[step][1]:
            count[found.locate_row(int(row))[0].task] += 1
    assert count[0] / count.sum() == pytest.approx(11 / 15, rel=0.02)
    assert count[1] / count.sum() == pytest.approx(4 / 15, rel=0.02)


@pytest.fixture(scope="module")
def learned(toy_config, corpus, tmp_path_factory):
    """The folder of a run of both tasks, and of the model that was exported from it."""
    folder = tmp_path_factory.mktemp("several")
    # by the second update, the condition matters: at the start, the network ignores it, and guidance has no effect
    fast = {"optim.updates": 2, "optim.warmup": 0, "optim.peak": 0.05, "run.valid_batches": 1, "run.pictures": 1}
    train.run(config(toy_config, corpus, **fast), folder / "run")
    release.export(folder / "run", folder / "exported", ema=True, step=None, dtype="float32")
    return folder


@pytest.mark.parametrize("name", ["run", "exported"])
def test_each_task_takes_its_own_guidance_unless_you_give_one(learned, voice, name):
    model, wav = inference.load(learned / name), voice(0.9, 0)
    assert model.options["guidance"] == 0.7
    assert release.info(learned / name)["sample"]["enhance guidance"] == 0.5
    assert model.sampling({}, model.enhancing())["guidance"] == 0.5
    assert model.sampling({}, model.separating(2))["guidance"] == 0.7
    assert model.sampling({"guidance": 0.1}, model.enhancing())["guidance"] == 0.1
    usual, half, other = (model.enhance(wav, 16_000, **given) for given in ({}, {"guidance": 0.5}, {"guidance": 0.7}))
    np.testing.assert_array_equal(usual, half)
    assert np.abs(usual - other).max() > 1e-4
    usual, given = (model.separate(wav, 16_000, **given) for given in ({}, {"guidance": 0.7}))
    np.testing.assert_array_equal(usual, given)


def test_a_picture_of_a_task_is_drawn_with_its_own_guidance(toy_config, corpus):
    typed = read(config(toy_config, corpus))
    made = objective.ESTIMATOR.objective(typed)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objective, "_draw", lambda *given: seen.append(given[-1]["guidance"]))
        for part in typed.task.parts.values():
            made.draw(part, dict(typed.sample))
    assert seen == [0.5, 0.7]


def test_separation_takes_chunks_as_long_as_the_mixtures_of_training(learned, voice, monkeypatch):
    model, wav = inference.load(learned / "exported"), voice(3.2, 0)  # infer.seconds is 2.0
    assert (model.chunk_seconds(model.enhancing()), model.chunk_seconds(model.separating(2))) == (2.0, 1.0)
    longest = []
    sample = inference.Model._sample

    def keep_lengths(self, task, chunks, *arguments):
        longest.append(max(len(chunk.wave) for chunk in chunks))
        return sample(self, task, chunks, *arguments)

    monkeypatch.setattr(inference.Model, "_sample", keep_lengths)
    assert model.separate(wav, 16_000).shape == (2, len(wav))
    assert max(longest) == 16_000
    long_overlap = dataclasses.replace(model, chunking=model.chunking | {"overlap": 1.5})  # longer than a chunk
    assert long_overlap.separate(wav, 16_000).shape == (2, len(wav))


def test_a_guidance_that_is_no_number_is_refused_before_training(toy_config, corpus, tmp_path):
    with pytest.raises(UserError, match="guidance must be a finite number, got inf"):
        train.run(config(toy_config, corpus, **{"task.enhance.guidance": float("inf")}), tmp_path)


@pytest.mark.slow
def test_one_model_learns_both_is_judged_on_both_and_does_both(toy_config, corpus, tmp_path, voice):
    train.run(config(toy_config, corpus, **{"optim.updates": 4, "run.pictures": 1}), tmp_path)
    text = (tmp_path / "metrics.jsonl").read_text()
    assert '"valid_loss_enhance"' in text and '"valid_loss_ema_separate"' in text
    assert {path.name[8:] for path in (tmp_path / "samples").glob("*.png")} == {"enhance_0.png", "separate_0.png"}
    model = inference.load(tmp_path)
    wav = voice(1.0, 0)
    assert model.enhance(wav, 16_000).shape == wav.shape
    assert model.separate(wav, 16_000, speakers=2).shape == (2, len(wav))
    with pytest.raises(UserError, match="trained to enhance and separate 2 speakers, not to separate 3"):
        model.separate(wav, 16_000, speakers=3)


def test_a_manifest_without_its_task_is_refused(toy_config, corpus, tmp_path):
    made = config(toy_config, corpus)
    made.data.train = f"{corpus}/speech.parquet:3"
    with pytest.raises(UserError, match="speech.parquet:3 must have a task.*enhance, separate"):
        train.run(made, tmp_path)


# Diffusion


def test_the_variance_is_preserved_and_runs_from_noise_to_data():
    alpha, sigma = diffusion.schedule(jnp.linspace(0.0, 1.0, 101))
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, atol=1e-6)
    assert float(alpha[0]) < 0.01 and float(sigma[-1]) == 0.0 and (np.diff(alpha) > 0).all()


def test_ddim_finds_a_gaussian_from_its_exact_field():
    mean, deviation = 2.0, 0.5

    def network(x, t, inputs, lengths):
        alpha, sigma = (each[:, None, None] for each in diffusion.schedule(t))
        known = (x - alpha * mean) / (alpha**2 * deviation**2 + sigma**2)
        noise, data = sigma * known, mean + alpha * deviation**2 * known  # their means given x
        return alpha * noise - sigma * data

    x0 = jax.random.normal(jax.random.key(0), (4, 500, 80))
    options = dict(solver="ddim", sway=0.0, tolerance=1e-3, guidance=0.0)
    errors = []
    for steps in (25, 100):
        found = diffusion.sample(network, x0, {}, jnp.full(4, 500), steps=steps, **options)
        errors.append(abs(float(found.std()) - deviation) + abs(float(found.mean()) - mean))
    assert errors[1] < 0.03 and errors[1] < errors[0] / 2


def test_its_loss_is_that_of_noise_and_data_turned_over_frames_that_count():
    x0, x1 = jax.random.normal(jax.random.key(0), (2, 3, 10, 4))
    weight = (jnp.arange(10) < jnp.array([[10], [4], [7]])).astype(jnp.float32)
    t = jnp.array([0.1, 0.5, 0.9])
    found = diffusion.loss(lambda x, t: 0.0 * x, x1, weight, x0, t)
    alpha, sigma = (np.asarray(each)[:, None, None] for each in diffusion.schedule(t))
    target = (alpha * x0 - sigma * x1)[np.asarray(weight) > 0]
    assert float(found.total / found.count) == pytest.approx(float((target**2).mean()), rel=1e-5)


@pytest.mark.slow
def test_a_diffusion_model_trains_and_enhances_through_the_same_loop(toy_config, tmp_path, voice):
    changes = {"process": "diffusion", "sample.solver": "ddim", "optim.updates": 3}
    train.run(toy_config("enhance", **changes), tmp_path)
    model, wav = inference.load(tmp_path), voice(1.0, 0)
    assert np.isfinite(model.enhance(wav, 16_000, steps=2)).all()
    with pytest.raises(UserError, match="unknown solver 'midpoint' for a diffusion model"):
        model.enhance(wav, 16_000, solver="midpoint")
    with pytest.raises(UserError, match="unknown process 'heat'"):
        train.run(toy_config("enhance", process="heat"), tmp_path / "other")
