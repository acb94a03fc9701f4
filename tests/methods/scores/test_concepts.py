"""Concepts: margins of the linear layer against a plain loop, CCS by them, and the method end to end."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ddlight.core import artefact
from ddlight.core.errors import DataError, UsageError
from ddlight.core.files import read_json
from ddlight.core.randomness import generator
from ddlight.data import Digits
from ddlight.methods.scores import concepts as module
from ddlight.methods.scores.concepts import Bottleneck, Concepts, mean_margins, moments
from ddlight.methods.scoring.clip import Clip
from ddlight.sets import store

TINY = Clip("tiny", "random")
N, D, K, C = 61, 7, 5, 3


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def unit(rng, *shape):
    found = rng.standard_normal(shape)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def toy():
    """Embeddings in half precision, texts and labels."""
    rng = np.random.default_rng(0)
    return unit(rng, N, D).astype(np.float16), unit(rng, K, D), rng.integers(0, C, N)


def view_of(images, texts, standardise=True):
    return Bottleneck.of(torch.from_numpy(images), None if texts is None else torch.from_numpy(texts), standardise)


def margins_of(images, labels, view, epochs=4, lr=0.05, batch=16, seed=2):
    return mean_margins(torch.from_numpy(images), torch.from_numpy(labels), C, view, epochs, lr, batch, seed).numpy()


def softmax(logits):
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def naive(seen, labels, epochs=4, lr=0.05, batch=16, seed=2):
    """All logits of a logistic regression by hand-written Adam in float64: (epochs, N, C)."""
    weights, first, second = np.zeros((C, K + 1)), np.zeros((C, K + 1)), np.zeros((C, K + 1))
    seen, kept, step = np.hstack([seen, np.ones((len(seen), 1))]), np.zeros((epochs, len(seen), C)), 0
    for epoch in range(epochs):
        order = generator(seed, "concepts", epoch).permutation(len(seen))
        for start in range(0, len(seen), batch):
            rows = order[start : start + batch]
            kept[epoch, rows] = seen[rows] @ weights.T
            slope = (softmax(kept[epoch, rows]) - np.eye(C)[labels[rows]]).T @ seen[rows] / len(rows)
            step += 1
            first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
            weights -= lr * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return kept


def naive_margins(values, labels):
    """Mean over epochs of the own class's value less the best other one's, image by image."""
    found = np.zeros((len(values), len(labels)))
    for epoch, row in np.ndindex(found.shape):
        others = [values[epoch, row, c] for c in range(C) if c != labels[row]]
        found[epoch, row] = values[epoch, row, labels[row]] - max(others)
    return found.mean(0)


@pytest.mark.parametrize("standardise", [True, False])
def test_margins_are_those_of_a_plain_loop_that_keeps_all_logits(toy, standardise):
    images, texts, labels = toy
    similarities = images.astype(np.float64) @ texts.T
    seen = (similarities - similarities.mean(0)) / similarities.std(0) if standardise else 100 * similarities
    logits = naive(seen, labels)
    found = margins_of(images, labels, view_of(images, texts, standardise))
    np.testing.assert_allclose(found[1], naive_margins(logits, labels), rtol=2e-3, atol=2e-4)
    probabilities = np.stack([softmax(epoch) for epoch in logits])
    np.testing.assert_allclose(found[0], naive_margins(probabilities, labels), rtol=2e-3, atol=2e-4)


def test_moments_do_not_depend_on_the_parts(toy, monkeypatch):
    images = torch.from_numpy(toy[0])
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 10)
    mean, covariance = moments(images)
    np.testing.assert_allclose(mean, toy[0].astype(np.float64).mean(0), atol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(toy[0].astype(np.float64).T, ddof=0), atol=1e-12)


def test_the_probe_is_a_bottleneck_of_one_concept_a_number(toy):
    images, _, labels = toy
    probe, identity = view_of(images, None), view_of(images, np.eye(D, dtype=np.float32))
    np.testing.assert_allclose(margins_of(images, labels, probe), margins_of(images, labels, identity), atol=1e-5)


def test_margins_draw_nothing_but_the_order(toy):
    images, texts, labels = toy
    state, view = torch.random.get_rng_state(), view_of(images, texts)
    np.testing.assert_array_equal(margins_of(images, labels, view), margins_of(images, labels, view))
    assert np.abs(margins_of(images, labels, view) - margins_of(images, labels, view, seed=3)).max() > 1e-4
    assert torch.equal(state, torch.random.get_rng_state())


def test_images_with_a_wrong_label_are_the_hardest():
    rng = np.random.default_rng(1)
    centres, labels = unit(rng, C, 16), np.repeat(np.arange(C), 40)
    images = (centres[labels] + 0.1 * rng.standard_normal((120, 16))).astype(np.float16)
    wrong = np.array([3, 17, 50, 66, 90, 101])
    given = labels.copy()
    given[wrong] = (given[wrong] + 1) % C
    found = margins_of(images, given, view_of(images, unit(rng, 30, 16)), epochs=20, lr=0.02)
    for margin in found:
        assert set(np.argsort(margin)[: len(wrong)]) == set(wrong)


# --- the method ---


def concepts(home, **options):
    options = {"ipc": 3, "epochs": 3, "clip": TINY, "cache": str(home / "cache"), **options}
    return Concepts(Digits(), **options)


def test_each_class_is_chosen_by_ccs_of_less_than_the_mean_margin(home, monkeypatch):
    calls, ccs = [], module.ccs

    def spy(*given):
        calls.append(given)
        return ccs(*given)

    monkeypatch.setattr(module, "ccs", spy)
    data = concepts(home, margin_space="logit", cutoff=0.25, bins=7, binning="quantile", even=True, seed=5)
    chosen, _ = store.read_selection(data.condense())
    labels, margin = Digits().split("train").labels, data.table["margin_logit"]
    assert len(calls) == 10
    for c, (difficulty, count, _, *options) in enumerate(calls):
        rows = np.flatnonzero(labels == c)
        np.testing.assert_array_equal(difficulty, -margin[rows])
        assert (count, options) == (3, [0.25, 7, "quantile", True])
        again = ccs(difficulty, count, generator(5, "Concepts", c), *options)
        np.testing.assert_array_equal(chosen[3 * c : 3 * c + 3], rows[again])


def test_the_margins_are_those_of_the_images_and_the_shipped_concepts(home):
    data = concepts(home)
    data.condense()
    train, network = Digits().split("train"), TINY.load()
    images = network.images(train.images).astype(np.float16)
    view = view_of(images, network.texts(list(data.phrases.read())))
    labels = torch.from_numpy(train.labels.copy())
    wanted = mean_margins(torch.from_numpy(images), labels, 10, view, 3, 1e-3, 256, 0).numpy()
    np.testing.assert_allclose(data.table["margin_prob"], wanted[0], atol=1e-4)
    np.testing.assert_allclose(data.table["margin_logit"], wanted[1], atol=1e-4)
    np.testing.assert_array_equal(data.difficulty, -data.table["margin_prob"])
    manifest = artefact.read_manifest(data.folder)
    assert read_json(data.margins.folder / "phrases.json") == list(data.phrases.read())
    assert (manifest["concepts"], manifest["scoring_images"]) == (108, len(train))
    layer = 3 * len(train) * 108 * (2 * 32 + 4 * 10)
    assert manifest["flops_scoring"] == pytest.approx(network.flops * len(train) + layer)


def test_one_training_serves_every_size_and_cutoff(home, monkeypatch):
    concepts(home).condense()
    monkeypatch.setattr(Clip, "load", None)
    monkeypatch.setattr(module, "mean_margins", None)
    for other in ({"ipc": 5}, {"cutoff": 0.2}, {"bins": 9}, {"margin_space": "logit"}):
        data = concepts(home, **other)
        data.condense()
        assert artefact.is_sealed(data.folder)
    assert len(list((home / "cache" / "Digits" / "concepts").iterdir())) == 1


def test_embeddings_serve_every_layer(home, monkeypatch):
    concepts(home, source="probe").condense()
    monkeypatch.setattr(Clip, "load", None)
    probe = concepts(home, source="probe", lr=0.01)
    probe.condense()
    assert len(list((home / "cache" / "Digits" / "embeddings").iterdir())) == 1
    assert len(list((home / "cache" / "Digits" / "concepts").iterdir())) == 2
    assert read_json(probe.margins.folder / "phrases.json") == []


def test_margins_are_named_by_all_that_shapes_them(home):
    path = home / "mine.json"
    path.write_text(json.dumps({str(k): [f"a {k}"] for k in range(10)}))
    others = [
        {"epochs": 4},
        {"lr": 0.01},
        {"batch": 100},
        {"standardise": False},
        {"seed": 1},
        {"template": "a photo of {concept}"},
        {"source": "probe"},
        {"clip": Clip("tiny", "random", 1)},
        {"concepts": str(path)},
    ]
    found = [concepts(home, **other) for other in ({}, *others)]
    assert len({data.margins.fingerprint for data in found}) == len(found)
    assert len({data.fingerprint for data in found}) == len(found)
    copy = path.rename(home / "moved.json")
    assert concepts(home, concepts=str(copy)).fingerprint == found[-1].fingerprint


def test_the_template_is_what_the_text_encoder_reads(home, monkeypatch):
    read = []
    monkeypatch.setattr(
        "ddlight.methods.scoring.clip.LoadedClip.texts",
        lambda self, given: read.extend(given) or unit(generator(0, "t"), 108, 32),
    )
    data = concepts(home, template="a photo of {concept}.")
    data.condense()
    assert read == [f"a photo of {phrase}." for phrase in data.phrases.read()]


def test_a_rate_that_diverges_is_said(home):
    with pytest.raises(DataError, match=r"Margins of the linear layer at lr=1e\+37"):
        concepts(home, lr=1e37).condense()
    assert not list((home / "cache" / "Digits").glob("concepts/*/manifest.json"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 0}, "epochs is 0; allowed: 1 or more"),
        ({"bins": 0}, "bins is 0; allowed: 1 or more"),
        ({"lr": 0.0}, "lr is 0.0; allowed: more than 0"),
        ({"template": "a photo"}, "template is 'a photo', and {concept} must stand in it"),
        ({"source": "probe", "concepts": "x.json"}, "source=probe reads no texts"),
        ({"source": "probe", "template": "a {concept}"}, "source=probe reads no texts"),
    ],
)
def test_options_that_make_no_sense(home, options, said):
    with pytest.raises(UsageError) as error:
        concepts(home, **options)
    assert said in str(error.value)


# --- from the command line ---

FLAGS = ("--trainer.devices=1", "--trainer.accelerator=cpu", "--trainer.progress=false")
RANDOM = ("--data.clip.model=tiny", "--data.clip.pretrained=random", "--data.epochs=5")


@pytest.fixture
def folder(home):
    """A folder of small pictures, three classes of twelve, and concepts for them."""
    rng = np.random.default_rng(0)
    for hue, name in enumerate(("apple", "bean", "sky")):
        (home / "pictures" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 120, (20, 26, 3), dtype=np.uint8)
            pixels[..., hue] += 100
            Image.fromarray(pixels).save(home / "pictures" / name / f"{number:02d}.png")
    texts = {"apple": ["a red fruit", "a round shape"], "bean": ["a green seed"], "sky": ["blue air", "white clouds"]}
    (home / "concepts.json").write_text(json.dumps(texts))
    return ("--data.dataset=ImageFolder", "--data.dataset.root=pictures", "--data.dataset.size=16")


def test_condense_chooses_pictures_of_a_folder(command, home, folder):
    words = ("condense", "--data=Concepts", *folder, "--data.ipc=2", "--data.cutoff=0.3", *RANDOM, *FLAGS)
    answer = command(*words, "--data.concepts=concepts.json")
    assert answer.code == 0, answer.err
    place = next((home / "cache").rglob("selection.csv")).parent
    _, ids = store.read_selection(place)
    assert [id.split("/")[0] for id in ids] == ["apple"] * 2 + ["bean"] * 2 + ["sky"] * 2
    manifest = artefact.verify(place)
    assert (manifest["method"], manifest["concepts"], manifest["images"]) == ("Concepts", 5, 6)
    assert manifest["args"]["clip"]["weights"] == "tiny/random0"
    again = command(*words, "--data.concepts=concepts.json")
    assert (again.code, len(list((home / "cache").rglob("selection.csv")))) == (0, 1)


def test_condense_asks_a_hook(command, home, folder):
    (home / "mine.py").write_text(
        "def describe(classes, images):\n    return {c: [f'{c} {len(images[c])}', 'a thing'] for c in classes}\n"
    )
    words = ("--data.concepts=mine:describe", "--data.examples=4", "--data.cutoff=0.3")
    answer = command("condense", "--data=Concepts", *folder, "--data.ipc=2", *words, *RANDOM, *FLAGS)
    assert answer.code == 0, answer.err
    said = read_json(next((home / "cache").rglob("phrases.json")))
    assert said == ["apple 4", "a thing", "bean 4", "sky 4"]


def test_missing_classes_are_named_before_anything_is_embedded(command, home, folder, monkeypatch):
    (home / "concepts.json").write_text('{"apple": ["a red fruit"]}')
    monkeypatch.setattr(Clip, "load", None)
    words = ("--data.concepts=concepts.json", "--data.ipc=2")
    answer = command("condense", "--data=Concepts", *folder, *words, *RANDOM, *FLAGS)
    assert answer.code == 3
    assert "concepts.json has no concepts for 2 of 3 classes: bean, sky. It names apple;" in answer.err


def test_without_the_extra_the_command_says_what_to_type(command, home, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    answer = command("condense", "--data=Concepts", *folder, "--data.ipc=2", *RANDOM, *FLAGS)
    assert answer.code == 2
    assert "pip install 'ddlight[clip]'" in answer.err
    assert "Traceback" not in answer.err
