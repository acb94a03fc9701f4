"""FADRM and FADRM+ against a loop written out here: stages, residual, turns; published numbers; bytes; errors."""

import threading

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torchvision.transforms import functional

from ddlight import data as datasets
from ddlight.core import artefact
from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.data import Digits
from ddlight.methods.patches.real_patches import RealPatches
from ddlight.methods.recovery import fadrm
from ddlight.methods.recovery.engine.loop import recover
from ddlight.methods.recovery.engine.observer import Observer
from ddlight.methods.recovery.engine.options import RecoveryOverride
from ddlight.methods.recovery.engine.views import Views
from ddlight.methods.recovery.fadrm import FADRM, FADRMPlus, residual, resized
from ddlight.methods.recovery.sre2lpp import SRe2LPlusPlus
from ddlight.networks.students import ConvNet, ResNet
from ddlight.networks.teachers import Input, Teacher
from ddlight.sets import store

SIZE = 8


class Pooled(Teacher):
    """A network with BatchNorm that takes images of any size: two convolutions, their mean, a linear layer."""

    def __init__(self, seed=0):
        super().__init__()
        self.seed = seed

    @property
    def _title(self):
        return f"pooled{self.seed}"

    def _open(self, num_classes):
        torch.manual_seed(self.seed)
        layers = []
        for channels in (1, 6):
            norm = torch.nn.BatchNorm2d(6)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            layers += [torch.nn.Conv2d(channels, 6, 3, padding=1), norm, torch.nn.ReLU()]
        head = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(6, num_classes)]
        return torch.nn.Sequential(*layers, *head), Input((0.3,), (0.35,), SIZE)


@pytest.fixture
def plus(home):
    """Build FADRM+ on digits of 8 pixels with untrained networks: plus([Pooled(0), Pooled(1)], iterations=...)."""

    def build(teachers, ipc=2, seed=0, cache="cache", iterations=8, numbers=None, **options):
        recovery = RecoveryOverride(**{"iterations": iterations, "roll": 1, **(numbers or {})})
        options = {"patches": "whole", **options}
        return FADRMPlus(
            Digits(size=SIZE), ipc, seed, str(home / cache), teachers=teachers, recovery=recovery, **options
        )

    return build


def of_dataset(method, name, **options):
    """A method on a dataset of the table of which there are no files here."""
    return method(getattr(datasets, name)(), **options)


# --- numbers ---

NUMBERS = [
    (FADRM, "ImageNet1K", (2000, 0.25, 100, 32, "auto"), [(200, 0, 500), (224, 500, 1000)]),
    (FADRM, "ImageNette", (2000, 0.05, 100, 32, "auto"), [(200, 0, 500), (224, 500, 1000)]),
    (FADRM, "ImageWoof", (2000, 0.25, 100, 32, "auto"), [(200, 0, 500), (224, 500, 1000)]),
    (FADRM, "TinyImageNet", (1000, 0.01, 100, 4, "fp32"), [(64, 0, 500), (64, 500, 1000)]),
    (FADRM, "CIFAR100", (2000, 0.25, 100, 4, "fp32"), [(32, 0, 500), (32, 500, 1000)]),
    (FADRMPlus, "ImageNet1K", (2000, 0.25, 100, 32, "auto"), [(200, 0, 500), (224, 500, 1000)]),
    (FADRMPlus, "ImageNette", (2000, 0.25, 100, 32, "auto"), [(200, 0, 500), (224, 500, 1000)]),
    (FADRMPlus, "TinyImageNet", (2000, 0.25, 100, 4, "fp32"), [(64, 0, 500), (64, 500, 1000)]),
    (FADRMPlus, "CIFAR100", (2000, 0.25, 100, 4, "fp32"), [(32, 0, 500), (32, 500, 1000)]),
]


@pytest.mark.parametrize(("method", "dataset", "expected", "stages"), NUMBERS, ids=lambda v: str(v)[:40])
def test_published_numbers_are_the_defaults(method, dataset, expected, stages):
    data = of_dataset(method, dataset)
    n = data.numbers
    assert (n.iterations, n.lr, n.batch, n.roll, data.published().precision) == expected
    assert (n.stat_weight, n.first_weight, n.min_crop, n.betas, n.symmetric_roll) == (0.01, 10, 0.08, (0.5, 0.9), False)
    assert data.stages.all[:2] == stages
    assert len(data.stages.all) == (2 if expected[0] == 1000 else 4)
    assert data.stages.all[-1][2] == expected[0] and data.stages.all[-1][0] == data.dataset.info.size
    assert data.alpha == 0.5 and data.patches == "medium"


def test_sre2l_plus_plus_is_sre2l_from_patches():
    for name, roll in (("ImageNet1K", 32), ("ImageNette", 32), ("CIFAR10", 4)):
        n = of_dataset(SRe2LPlusPlus, name).numbers
        assert (n.iterations, n.lr, n.stat_weight, n.roll, n.min_crop) == (4000, 0.25, 0.01, roll, 0.08)


def test_stages_share_the_iterations_and_other_sizes_are_in_proportion(make):
    data = make(FADRM, iterations=10, sizes=[6, 8, 7, 8])
    assert data.stages.all == [(6, 0, 2), (8, 2, 5), (7, 5, 7), (8, 7, 10)]
    large = FADRM(Digits(size=128))
    assert [size for size, _, _ in large.stages.all] == [114, 128, 114, 128]
    assert make(FADRM).view_area == 1
    assert data.view_area == pytest.approx((2 * 36 + 3 * 64 + 2 * 49 + 3 * 64) / 640)


def test_networks_of_imagenet_are_the_published_ones_in_their_turn():
    found = [[t.model for t in of_dataset(FADRMPlus, "ImageNet1K", ipc=ipc).networks.ready_made] for ipc in (1, 10, 50)]
    assert found[0] == ["resnet18", "mobilenet_v2", "shufflenet_v2_x1_0", "alexnet"]
    assert found[1] == found[2] == ["resnet18", "densenet121", "shufflenet_v2_x1_0", "mobilenet_v2"]
    assert [t.model for t in of_dataset(FADRM, "ImageNet1K", ipc=1).networks.ready_made] == ["resnet18"]
    trained = [run.student for run in of_dataset(FADRMPlus, "ImageNette").scoring_runs]
    assert [getattr(s, "name", type(s).__name__) for s in trained] == ["ResNet", *found[1][1:]]
    small = [run.student for run in of_dataset(FADRMPlus, "CIFAR10").scoring_runs]
    assert small == [ResNet(), ConvNet(3, norm="batch")]


# --- the residual ---


def test_the_residual_is_the_mean_of_images_and_patches_at_a_half():
    x, p = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(residual(x, p, 8, 0.5), (x + p) / 2)
    torch.testing.assert_close(residual(x, p, 8, 0.9), 0.9 * x + 0.1 * p)
    assert torch.equal(residual(x, p, 8, 1.0), x) and torch.equal(residual(x, p, 8, 0.0), p)


@pytest.mark.parametrize(("side", "size"), [(8, 7), (7, 8), (8, 3), (5, 5)])
def test_images_are_resized_between_the_nearest_two_pixels(side, size):
    """Bilinear by hand: pixel centres mapped, clamped at the border, no antialiasing."""
    x = torch.rand(1, 2, side, side, dtype=torch.float64)
    place = ((np.arange(size) + 0.5) * side / size - 0.5).clip(0, side - 1)
    low = np.floor(place).astype(int)
    high, part = np.minimum(low + 1, side - 1), torch.from_numpy(place - low)
    rows = x[..., low, :] * (1 - part)[:, None] + x[..., high, :] * part[:, None]
    expected = rows[..., low] * (1 - part) + rows[..., high] * part
    torch.testing.assert_close(resized(x, size), expected)


# --- the whole thing ---


def written_out(data, block, patches, teachers, ends, sizes, alpha):
    """FADRM as its code has it: a fresh Adam a stage, one cosine, networks in turn, the patch blended in between."""
    numbers, total = data.numbers, data.numbers.iterations
    views = Views(
        generator(data.seed, "recovery views", block.number), data.crop_floors(), total, (0, 1), data.dataset.info.flip
    )
    mean, std = data.dataset.info.mean[0], data.dataset.info.std[0]
    labels, turn, t = torch.tensor(block.classes), 0, 0
    x = torch.nn.functional.interpolate(patches, (sizes[0],) * 2, mode="bilinear", align_corners=False)
    for j, (size, end) in enumerate(zip(sizes, ends, strict=True)):
        x = x.detach().requires_grad_(True)
        adam = torch.optim.Adam([x], lr=numbers.lr, betas=(0.5, 0.9), eps=1e-8)
        while t < end:
            adam.param_groups[0]["lr"] = 0.5 * (1 + np.cos(np.pi * t / total)) * numbers.lr
            network = teachers[turn].network
            turn = (turn + 1) % len(teachers)
            seen = functional.resized_crop(x, *views.box(t, size).tolist(), [size, size], antialias=False)
            seen = torch.roll(seen, tuple(views.shifts[t].tolist()), (2, 3))
            maps = (seen * std + mean - 0.3) / 0.35
            regular, first = 0, True
            for layer in network:
                if isinstance(layer, torch.nn.BatchNorm2d):
                    m, v = maps.mean((0, 2, 3)), maps.var((0, 2, 3), correction=0)
                    part = (m - layer.running_mean).norm() + (v - layer.running_var).norm()
                    regular, first = regular + (10 if first else 1) * part, False
                maps = layer(maps)
            adam.zero_grad()
            (cross_entropy(maps, labels) + numbers.stat_weight * regular).backward()
            adam.step()
            x.data.clamp_(-mean / std, (1 - mean) / std)
            t += 1
        if j + 1 < len(sizes):
            to = (sizes[j + 1],) * 2
            grown, patch = (
                torch.nn.functional.interpolate(i, to, mode="bilinear", align_corners=False)
                for i in (x.detach(), patches)
            )
            x = alpha * grown + (1 - alpha) * patch
    return ((x.detach() * std + mean).clamp(0, 1) * 255).numpy()


SCHEDULES = [
    ({}, [8, 8, 8, 8], [2, 4, 6, 8], 0.5),
    ({"sizes": [7, 8, 7, 8]}, [7, 8, 7, 8], [2, 4, 6, 8], 0.5),
    ({"sizes": [6, 7, 8], "alpha": 0.8}, [6, 7, 8], [2, 5, 8], 0.8),
    ({"sizes": [8], "alpha": 0.2}, [8], [8], 0.2),
]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("options", "sizes", "ends", "alpha"), SCHEDULES, ids=lambda v: str(v))
def test_the_stages_are_those_of_a_loop_written_out(plus, options, sizes, ends, alpha, count):
    teachers = [Pooled(k) for k in range(count)]
    data = plus(teachers, numbers={"lr": 0.1, "stat_weight": 0.1}, **options)
    data.prepare()
    block = data.units()[1]
    rows = data.start.rows(data.places(block))
    mean, std = data.dataset.info.mean[0], data.dataset.info.std[0]
    patches = (torch.from_numpy(data.dataset.split("train").images[rows]).float() / 255 - mean) / std
    expected = written_out(data, block, patches, teachers, ends, sizes, alpha)
    made = data.make(block)
    assert made.labels.tolist() == list(block.classes) and made.images.shape == (10, 1, 8, 8)
    difference = made.images - (expected - 0.5)  # truncated: within half a level of that
    assert np.abs(difference).max() < 1.0, np.abs(difference).max()


def test_stages_are_clamped_fresh_and_end_where_they_began(plus, monkeypatch):
    """Each stage hands over blended images of the next size; the last is left as it is."""
    given = []

    def noting(block, images, first, last):
        given.append((images.clone(), first, last, [o.network for o in block.observers]))
        return images + 1

    monkeypatch.setattr(fadrm, "recover", noting)
    data = plus([Pooled(0), Pooled(1)], sizes=[7, 8, 7, 8])
    data.prepare()
    block = data.units()[0]
    patches = data.initial(block)
    made = data.make(block)
    assert [(tuple(x.shape[2:]), first, last) for x, first, last, _ in given] == [
        ((7, 7), 0, 2),
        ((8, 8), 2, 4),
        ((7, 7), 4, 6),
        ((8, 8), 6, 8),
    ]
    blended = 0.5 * resized(given[2][0] + 1, 8) + 0.5 * patches
    torch.testing.assert_close(given[3][0], blended)
    np.testing.assert_array_equal(made.images, data.pixels.leave(blended + 1))
    assert len({id(n) for _, _, _, networks in given for n in networks}) == 2


def test_networks_take_turns_through_all_stages(plus, monkeypatch):
    data, asked, held = plus([Pooled(k) for k in range(3)], iterations=10, sizes=[7, 8]), [], []
    call, observers = Observer.__call__, data.observers

    def noting(own, views):
        asked.append((held[-1].index(own), views.shape[-1]))
        return call(own, views)

    monkeypatch.setattr(Observer, "__call__", noting)
    monkeypatch.setattr(data, "observers", lambda block: held.append(observers(block)) or held[-1])
    data.prepare()
    for block in data.units():
        asked.clear()
        data.make(block)
        assert [number for number, _ in asked] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
        assert [size for _, size in asked] == [7] * 5 + [8] * 5


def test_images_begin_as_the_set_of_patches(make, teacher, home):
    data = make(FADRM, ipc=3, iterations=4)
    folder = data.condense()
    patches = RealPatches(Digits(size=SIZE), 3, cache=str(home / "cache"), teacher=teacher)
    stored = store.load(patches.folder)
    manifest = artefact.read_manifest(folder)
    assert manifest["patch_set"] == patches.fingerprint and manifest["source_images"] == 30
    for k, block in enumerate(data.blocks()):
        expected = np.stack([stored.images[stored.labels == c][k] for c in range(10)]).astype(int)
        begun = data.pixels.leave(data.initial(block)).astype(int)
        assert np.abs(begun - expected).max() <= 1  # truncation of a rounded product
    before = make(SRe2LPlusPlus, ipc=3, iterations=1)
    assert artefact.read_manifest(before.condense())["patch_set"] == patches.fingerprint


def test_an_alpha_of_nothing_leaves_last_stages_to_the_patches(make):
    """With alpha 0 all that a stage did is forgotten: only the last one counts."""
    far = make(FADRM, ipc=1, alpha=0.0, iterations=8, patches="whole")
    far.prepare()
    block = far.units()[0]
    rate_of_last = 0.5 * 0.25 * (1 + np.cos(np.pi * 6 / 8))
    moved = np.abs(far.make(block).images.astype(int) - far.pixels.leave(far.initial(block)).astype(int)).max()
    most = 2 * 1.5 * rate_of_last * far.dataset.info.std[0] * 255  # two steps of Adam, each at most about its rate
    assert 0 < moved <= most + 1


def test_smaller_sets_are_prefixes_and_every_option_makes_another_set(make):
    large, small = (store.load(make(FADRM, ipc=ipc).condense()) for ipc in (2, 1))
    np.testing.assert_array_equal(large.images[:10], small.images)
    options = ({}, {"alpha": 0.6}, {"sizes": [8, 8]}, {"patches": "easy"}, {"patches": "whole"})
    sets = {artefact.verify(make(FADRM, ipc=1, **more).condense())["content_sha256"] for more in options}
    assert len(sets) == len(options)


def test_bf16_is_an_option(make):
    full, mixed = (make(FADRM, ipc=1, patches="whole", numbers={"precision": p}) for p in ("fp32", "bf16"))
    images = [store.load(data.condense()).images.astype(int) for data in (full, mixed)]
    assert 0 < np.abs(images[0] - images[1]).mean() < 40


# --- resuming and ranks ---


class Stop(Exception):
    """What a killed process looks like from inside."""


def stopping(real, calls):
    """A function that raises instead of its call number `calls`."""
    made = []

    def call(*arguments):
        made.append(arguments)
        if len(made) == calls:
            raise Stop
        return real(*arguments)

    return call


def test_a_set_that_was_stopped_among_its_patches_or_stages_comes_out_the_same(plus, monkeypatch):
    teachers, options = [Pooled(0), Pooled(1)], {"ipc": 2, "patches": "medium", "sizes": [7, 8, 7, 8]}
    alone = plus(teachers, cache="alone", **options).condense()
    for module, name, calls in ((RealPatches, "make", 4), (fadrm, "recover", 7)):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, stopping(getattr(module, name), calls))
            killed = plus(teachers, cache="killed", **options)
            with pytest.raises(Stop):
                killed.condense()
            assert not killed.folder.exists()
    assert len(list(killed.working.glob("*.safetensors"))) == 1  # the first block was done, the second in its stages
    resumed = plus(teachers, cache="killed", **options)
    made = []
    monkeypatch.setattr(fadrm, "recover", lambda block, *rest: made.append(rest[1:]) or recover(block, *rest))
    folder = resumed.condense()
    assert made == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert artefact.verify(folder)["content_sha256"] == artefact.verify(alone)["content_sha256"]


def test_two_ranks_make_what_one_makes(plus):
    teachers = [Pooled(0), Pooled(1)]
    options = {"ipc": 3, "patches": "medium", "sizes": [7, 8]}
    alone = artefact.verify(plus(teachers, cache="one", **options).condense())
    ranks = [plus(teachers, cache="two", **options) for _ in range(2)]
    threads = [threading.Thread(target=data.condense, args=(r, 2)) for r, data in enumerate(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert artefact.verify(ranks[0].folder)["content_sha256"] == alone["content_sha256"]


# --- errors ---


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sizes": [8, 7]}, r"sizes is \[8, 7\]; the last stage has the size of the images, 8"),
        ({"sizes": [1, 8]}, r"roll is 1 pixels, and the images have 1"),
        ({"sizes": [3, 8]}, r"min_crop is 0.08: such crops of images of 3 x 3 pixels have no pixel"),
        ({"iterations": 3}, r"recovery.iterations is 3; 4 stages .* --data.recovery.iterations=4"),
        ({"sizes": [0, 8]}, r"roll is 1 pixels, and the images have 0"),
    ],
    ids=str,
)
def test_stages_that_do_not_fit_are_refused(make, options, told):
    with pytest.raises(UsageError, match=told):
        make(FADRM, **options).condense()


def test_an_alpha_out_of_range_is_refused(make):
    for alpha in (-0.1, 1.1):
        with pytest.raises(UsageError, match=f"alpha is {alpha}; allowed: 0 .* to 1"):
            make(FADRM, alpha=alpha)


def test_a_teacher_of_one_size_is_refused_where_a_stage_has_another(make, teacher):
    with pytest.raises(UsageError, match=r"takes no views of 4 pixels.*--data.sizes=\[8, 8\]"):
        make(FADRM, sizes=[4, 8]).condense()


def test_teachers_without_batch_norm_are_refused_and_one_with_it_is_enough(plus):
    class Plain(Pooled):
        def _open(self, num_classes):
            network, taken = super()._open(num_classes)
            return torch.nn.Sequential(*(m for m in network if not isinstance(m, torch.nn.BatchNorm2d))), taken

    with pytest.raises(UsageError, match=r"FADRMPlus matches .* BatchNorm layers, and pooled0, pooled1 has none"):
        plus([Plain(0), Plain(1)]).condense()
    assert plus([Plain(0), Pooled(1)], ipc=1).condense().exists()


def test_the_estimate_counts_stages_and_scores(make):
    whole, low = (make(FADRM, iterations=4, patches="whole", **o).estimate_seconds() for o in ({}, {"sizes": [4, 8]}))
    assert low == pytest.approx(whole * (16 + 64) / 128)
    assert make(FADRM, iterations=4).estimate_seconds() > whole
    teachers = make(FADRM, iterations=4).facts()["teachers"]
    assert len(teachers) == 1
