"""Training on a folder of published labels, against a plain loop over the views that torchvision made for them."""

import json

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import SequentialSampler

from ddlight.core.errors import DataError, UsageError
from ddlight.data import Digits
from ddlight.methods.baselines.random import Random
from ddlight.networks.students import ConvNet
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.stored_label import StoredLabel
from ddlight.sets.readers.fkd import PublishedLabels, replay

DIGITS = Digits(size=16)
INFO = DIGITS.info
STUDENT = ConvNet(depth=2, width=4)
IMAGES, BATCH, EPOCHS, SEED = 50, 12, 3, 1
SGD = Override(batch=BATCH, optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=0.0, schedule="constant")
RECIPE = Override(**{**vars(SGD), "temperature": 4.0, "ce_weight": 0.3, "ema": 0.0, "bn_momentum": 0.1})


def centroids():
    train = DIGITS.split("train")
    images = (torch.tensor(train.images).float() / 255 - INFO.mean[0]) / INFO.std[0]
    return torch.stack([images[train.labels == kind].mean(0).flatten() for kind in range(10)])


def nearest(views, means=None):
    """Logits of a classifier by the nearest class mean of the full training split."""
    return -torch.cdist(views.flatten(1), centroids() if means is None else means) / 8


@pytest.fixture
def data(home):
    found = Random(DIGITS, ipc=5, seed=2)
    found.setup("fit")
    return found


@pytest.fixture
def published(home, data, relabel):
    """A folder of labels for the set, and the views that they belong to."""

    def write(**options):
        means = centroids()
        options = {"epochs": EPOCHS, "batch": BATCH, "scale": (0.6, 1.0), **options}
        images = data.require().images
        return relabel(home / "labels", images, lambda views: nearest(views, means), INFO, **options)

    return write


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def stored_label(home, **options):
    options = {"recipe": RECIPE, "seed": SEED, "published": str(home / "labels"), **options}
    return StoredLabel(STUDENT, protocol="rded", **options)


def plain_loop(seen, labels, steps, match):
    """SGD over the stored batches, over and over, with the losses as SRe2L and EDC write them."""
    torch.manual_seed(SEED)
    network = STUDENT.build(10, 1, 16)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    means, batches = centroids(), list(seen.values())
    for step in range(steps):
        ids, views = batches[step % len(batches)]
        target, logits = nearest(views, means).half().float(), network(views)
        if match == "kl":
            loss = F.kl_div(F.log_softmax(logits / 4, 1), F.softmax(target / 4, 1), reduction="batchmean")
        else:
            loss = F.mse_loss(logits, target) + 0.3 * F.cross_entropy(logits, labels[ids])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


@pytest.mark.parametrize(
    ("items", "match", "accumulate", "near"),
    [(8, "kl", 1, 2e-6), (8, "mse", 1, 2e-6), (6, "kl", 1, 2e-3), (8, "kl", 3, 2e-6)],
)
def test_training_ends_with_the_weights_of_a_plain_loop(home, fit, data, published, items, match, accumulate, near):
    seen = published(items=items)
    steps = 2 * len(seen) + 4
    model = stored_label(home, match=match, budget=Budget(steps=steps))
    start = weights(STUDENT.build(10, 1, 16))
    fit(model, data, test=False, accumulate_grad_batches=accumulate)
    expected = weights(plain_loop(seen, torch.from_numpy(data.require().labels), steps, match))
    assert (expected - start).abs().max() > 20 * near
    torch.testing.assert_close(weights(model.network), expected, rtol=0, atol=near)
    assert model.images_seen(steps) == 2 * EPOCHS * IMAGES + 4 * BATCH


@pytest.mark.parametrize("layout", ["pruned", "top", "softened"])
def test_training_on_labels_of_lpld_lpqld_and_hald_is_that_of_a_plain_loop(home, fit, data, published, layout):
    """KL against softmax at T = 4 of all logits, of the three largest alone, or against what was softened at T = 6."""
    options = {"pruned": {"pruned": 6}, "top": {"pruned": 6, "top": 3}, "softened": {"softened": 6}}[layout]
    seen, means = published(**options), centroids()

    def target(views):
        logits = nearest(views, means).half().float()
        if layout == "softened":
            return (nearest(views, means) / 6).softmax(1).half().float()
        largest = logits.topk(3 if layout == "top" else 10, 1)
        return torch.zeros_like(logits).scatter(1, largest.indices, (largest.values / 4).softmax(1))

    labels, stored = PublishedLabels(home / "labels", IMAGES, classes=10), data.require()
    images = [  # rounded to bytes, which the views that the teacher saw are not
        replay(torch.from_numpy(stored.images), torch.from_numpy(stored.labels), labels.batch(*place), INFO).images
        for place in seen
    ]
    torch.manual_seed(SEED)
    network, steps, batches = STUDENT.build(10, 1, 16), len(seen) + 3, list(seen.values())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for step in range(steps):
        own, views = images[step % len(batches)], batches[step % len(batches)][1]
        assert (own - views).abs().max() < 0.02
        optimizer.zero_grad()
        F.kl_div(F.log_softmax(network(own) / 4, 1), target(views), reduction="batchmean").backward()
        optimizer.step()
    model, start = stored_label(home, budget=Budget(steps=steps)), weights(STUDENT.build(10, 1, 16))
    fit(model, data, test=False)
    assert (weights(network) - start).abs().max() > 0.01
    torch.testing.assert_close(weights(model.network), weights(network), rtol=0, atol=1e-5)
    assert model.images_seen(steps) == sum(len(batches[step % len(batches)][0]) for step in range(steps))


@pytest.mark.parametrize("options", [{"pruned": 4, "top": 3}, {"softened": 6}])
def test_mse_needs_all_logits(home, fit, data, published, options):
    published(**options)
    with pytest.raises(UsageError, match=r"MSE matches all logits: --model.match=kl"):
        fit(stored_label(home, match="mse", budget=Budget(epochs=1)), data, test=False)


def test_batches_are_those_of_the_labels_whatever_the_recipe_says(home, fit, data, published):
    published(items=7)
    model = stored_label(home, recipe=Override(batch=20), budget=Budget(epochs=2))
    fit(model, data, test=False)
    assert (model.run.batch, model.run.steps) == (BATCH, 10)
    assert model.run.plan.recipe.batch == BATCH


def test_fewer_passes_and_batches(home, fit, data, published):
    published()
    model = stored_label(home, budget=Budget(epochs=2), labels_per_image=2, keep=0.5)
    fit(model, data, test=False)
    kept = [tuple(row) for row in model.run.replay.tolist()]
    assert len(kept) == 5 and kept == sorted(set(kept)) and max(kept)[0] <= 1
    files = [home / "labels" / f"epoch_{epoch}" / f"batch_{index}.tar" for epoch, index in kept]
    assert model.label_bytes(model.run, 10) == sum(file.stat().st_size for file in files)


def test_labels_in_another_order_are_refused_before_the_first_step(home, fit, data, published):
    published(sampler=lambda images, generator: SequentialSampler(images))
    with pytest.raises(DataError, match="do not fit the images"):
        fit(stored_label(home, budget=Budget(epochs=1)), data, test=False)


def test_labels_of_another_set_are_refused(home, fit, published):
    published()
    with pytest.raises(DataError, match="for 50 images; the condensed set has 20"):
        fit(stored_label(home, budget=Budget(epochs=1)), Random(DIGITS, ipc=2), test=False)


def test_labels_of_other_classes_are_refused(home, fit, data, relabel):
    images = data.require().images
    relabel(home / "labels", images, lambda views: nearest(views)[:, :4], INFO, epochs=1, batch=BATCH)
    with pytest.raises(UsageError, match="of 4 classes; Digits has 10"):
        fit(stored_label(home, budget=Budget(epochs=1)), data, test=False)


WORDS = ["fit", "--data=Random", "--data.dataset=Digits", "--data.dataset.size=16", "--data.ipc=5", "--data.seed=2"]
WORDS += ["--model=StoredLabel", "--model.student=ConvNet", "--model.student.depth=1", "--model.student.width=4"]
WORDS += ["--model.budget.steps=6", "--trainer.accelerator=cpu", "--trainer.progress=false", "--trainer.run=run"]


def test_the_command_trains_and_says_how_large_the_labels_are(home, command, published):
    published()
    done = command(*WORDS, "--model.published=labels")
    assert done.code == 0, done.err
    result = json.loads((home / "run" / "result.json").read_text())
    folder = sum(path.stat().st_size for path in (home / "labels").rglob("*.tar"))
    assert result["set"]["bytes_labels"] >= folder
    assert result["flops"]["teachers"] == 0


def test_the_command_names_what_is_missing(home, command, published):
    published()
    (home / "labels" / "epoch_1" / "batch_2.tar").unlink()
    done = command(*WORDS, "--model.published=labels")
    assert done.code == 3
    assert "labels/epoch_1/batch_2.tar is missing" in done.err and "Traceback" not in done.err
