"""Every protocol's numbers against the published tables, written out by hand."""

from dataclasses import fields, replace

import pytest

from ddlight.core.errors import UsageError
from ddlight.data import Digits
from ddlight.methods.baselines.random import Random
from ddlight.networks.students import ConvNet, ResNet, Torchvision
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Augment, Override, Recipe, Setting
from ddlight.recipes.schedules import Schedule
from ddlight.recipes.table import PROTOCOLS, describe, find, resolve
from ddlight.regimes.base import student_name
from ddlight.regimes.hard_label import HardLabel

SETTINGS = [
    Setting(classes, ipc, channels, flip, student, tiles)
    for classes in (10, 100, 200, 1000)
    for ipc in (1, 10, 20, 50, 100, 300, 700)
    for channels, flip, student, tiles in ((3, True, "resnet18", 1), (1, False, "convnet", 1), (3, True, "vit_b_16", 2))
]
KD = {"optimizer": "adamw", "lr": 1e-3, "betas": (0.9, 0.999), "weight_decay": 0.01, "decay_1d": False}
SGD = {"optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4, "decay_1d": True}
RATIO = (3 / 4, 4 / 3)
CUTMIX = {"flip": True, "mix": "cutmix", "mix_alpha": 1.0, "mix_per": "batch", "crop_ratio": RATIO}
DSA = "color_crop_cutout_flip_scale_rotate"


def numbers(name, *setting, **named):
    return resolve(name, Setting(*setting, **named))


def check(thing, **expected):
    assert {key: getattr(thing, key) for key in expected} == expected


def rates(plan, epochs):
    """Multiple of the peak in each epoch, as an epoch-wise trainer sees it."""
    assert plan.recipe.schedule.stepped == "epoch"
    return [plan.recipe.schedule.at(e * 7 + 3, epochs * 7, 7) for e in range(epochs)]


def multistep(epochs, gamma, *drops):
    return pytest.approx([gamma ** sum(e >= d for d in drops) for e in range(epochs)])


# --- dvc_hard: MGD3 / ManifoldGD / Minimax ---

NETTE = {
    1: 3000,
    2: 2000,
    10: 2000,
    11: 1500,
    50: 1500,
    51: 1000,
    100: 1000,
    200: 1000,
    201: 500,
    500: 500,
    501: 300,
    700: 300,
}
IN100 = {1: 2000, 10: 1300, 20: 1000, 50: 1000, 100: 600, 200: 600, 500: 300, 700: 200}
DROPS = {3000: (2000, 2500), 2000: (1333, 1666), 1500: (1000, 1250), 1300: (866, 1083), 1000: (666, 833)}
DROPS |= {600: (400, 500), 500: (333, 416), 300: (200, 250), 200: (133, 166)}


@pytest.mark.parametrize(
    ("classes", "ipc", "epochs"),
    [(10, *row) for row in NETTE.items()] + [(100, *row) for row in IN100.items()] + [(1000, 10, 300), (1000, 50, 300)],
)
def test_dvc_hard(classes, ipc, epochs):
    plan = numbers("dvc_hard", classes, ipc)
    check(plan.recipe, optimizer="sgd", momentum=0.9, decay_1d=True, reset_momentum=False, ema=0.0, bn_momentum=0.1)
    if classes > 100:
        check(plan.recipe, lr=0.1, weight_decay=1e-4, batch=128)
    else:
        check(plan.recipe, lr=0.01, weight_decay=5e-4, batch=64)
    assert plan.budget == Budget(epochs=epochs)
    assert rates(plan, epochs) == multistep(epochs, 0.2, *DROPS[epochs])
    check(plan.augment, crop_scale=(0.5, 1.0), jitter=0.4, lighting=0.1, patches=1, dsa="", **CUTMIX)


def test_dvc_hard_on_grey_digits_neither_flips_nor_shifts_colours():
    plan = numbers("dvc_hard", 10, 10, channels=1, flip=False)
    check(plan.augment, flip=False, lighting=0.0, jitter=0.4)


# --- soft protocols ---


@pytest.mark.parametrize(
    ("classes", "batches"),
    [(10, {1: 10, 10: 50, 50: 100}), (100, {1: 20, 10: 100, 50: 200}), (1000, {1: 20, 10: 100, 50: 200})],
)
def test_rded_batches(classes, batches):
    for ipc, batch in batches.items():
        check(numbers("rded", classes, ipc).recipe, batch=batch, temperature=20.0, bn_momentum=0.1, ema=0.0, **KD)
    assert [numbers("rded", 200, ipc, size=64).recipe.batch for ipc in (1, 10, 50)] == [100] * 3  # Tiny-ImageNet
    assert numbers("rded", 10, 100).recipe.batch == 100


RDED_LR = {"resnet18": 1e-3, "resnetap10": 1e-3, "resnet50": 1e-3, "convnet3": 1e-3, "mobilenet_v2": 2.5e-3}
RDED_LR |= {"efficientnet_b0": 2e-3, "vgg11": 5e-4, "alexnet": 1e-4, "swin_t": 1e-4, "vit_b_16": 1e-4}


@pytest.mark.parametrize(("student", "lr"), RDED_LR.items())
def test_rded_rates_by_student(student, lr):
    assert numbers("rded", 10, 10, student=student).recipe.lr == lr


@pytest.mark.parametrize("name", ["rded", "ht_large_kd"])
def test_rded_is_a_half_cosine_over_300_epochs(name):
    plan = numbers(name, 1000, 10)
    assert plan.budget == Budget(epochs=300)
    values = rates(plan, 300)
    assert (values[0], values[150]) == (1, pytest.approx(0.853553, abs=1e-6))
    assert values[299] == pytest.approx(0.502618, abs=1e-6)
    check(plan.recipe, batch=100, **KD)
    check(plan.augment, crop_scale=(0.5, 1.0), patches=1, jitter=0.0, lighting=0.0, dsa="", **CUTMIX)


def test_rded_has_numbers_of_its_own_for_cifar_100_with_a_convnet():
    check(numbers("rded", 100, 10, size=32, student="convnet3").recipe, batch=25, lr=2e-3)
    check(numbers("rded", 100, 50, size=32, student="resnet18").recipe, batch=200, lr=1e-3)
    check(numbers("rded", 10, 10, size=32, student="convnet3").recipe, batch=50, lr=1e-3)


@pytest.mark.parametrize("size", [28, 32, 64])
def test_rded_leaves_small_images_whole_unless_they_are_mosaics(size):
    check(numbers("rded", 10, 10, size=size).augment, patches=1, crop_scale=None, **CUTMIX)
    check(numbers("rded", 10, 10, size=size, tile_factor=2).augment, patches=2, crop_scale=(0.5, 1.0), **CUTMIX)


@pytest.mark.parametrize(("factor", "floor"), [(1, 0.5), (2, 1 / 2), (3, 1 / 3), (4, 1 / 4)])
def test_rded_shuffles_and_crops_mosaics_by_their_factor(factor, floor):
    check(numbers("rded", 10, 10, tile_factor=factor).augment, patches=factor, crop_scale=(floor, 1.0), **CUTMIX)


@pytest.mark.parametrize(
    ("name", "classes", "batch"),
    [("edc", 10, 100), ("edc", 1000, 100), ("dvc_edc", 10, 50), ("dvc_edc", 100, 100), ("dvc_edc", 1000, 100)],
)
def test_edc(name, classes, batch):
    plan = numbers(name, classes, 10)
    check(plan.recipe, batch=batch, ce_weight=0.025, ema=0.99, **KD)
    assert plan.budget == Budget(epochs=300)
    assert rates(plan, 300)[150] == pytest.approx(0.853553, abs=1e-6)
    check(plan.augment, crop_scale=(0.5, 1.0), patches=1, jitter=0.0, **CUTMIX)


def test_edc_on_small_images():
    same, sgd = {"ce_weight": 0.025, "ema": 0.99}, {"optimizer": "sgd", "lr": 0.1, "momentum": 0.875}
    plan = numbers("edc", 10, 1, size=32)
    check(plan.recipe, batch=10, **same, **KD)
    assert plan.budget == Budget(epochs=1000)
    assert rates(plan, 1000) == multistep(1000, 0.5, 800, 900, 950)
    check(plan.augment, crop_scale=(0.08, 1.0), **CUTMIX)
    for classes, size, ipc, batch, name, epochs in (
        (100, 32, 10, 50, "ssrs", 1000),
        (200, 64, 10, 100, "cosine", 300),
        (200, 64, 1, 100, "cosine", 1000),
    ):
        plan = numbers("edc", classes, ipc, size=size)
        check(plan.recipe, batch=batch, weight_decay=5e-4, decay_1d=False, nesterov=False, **same, **sgd)
        assert (plan.recipe.schedule, plan.budget) == (Schedule(name, 2.0, stepped="epoch"), Budget(epochs=epochs))
        check(plan.augment, crop_scale=(0.5, 1.0), **CUTMIX)
    for name in ("dvc_edc", "edc_in10"):
        assert len({repr(numbers(name, 10, 10, size=size)) for size in (28, 32, 64, 224)}) == 1


def test_edc_decays_swin_less():
    assert numbers("edc", 1000, 10, student="swin_v2_t").recipe.weight_decay == 1e-4


def test_only_the_scripts_for_tiny_imagenet_multiply_the_loss_by_t_squared():
    assert not any(resolve(name, setting).recipe.t_squared for name in PROTOCOLS for setting in SETTINGS)
    small = [(n, size) for n in PROTOCOLS for size in (28, 32, 64) if numbers(n, 200, 10, size=size).recipe.t_squared]
    assert sorted(small) == [("cda", 64), ("dwa", 64), ("sre2l", 64)]


def test_edc_teachers():
    assert find("edc").teachers == ("resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "alexnet")
    assert set(find("dvc_edc").teachers) == {"resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5"}
    assert find("rded").teachers == find("sre2l").teachers == ("resnet18",)


@pytest.mark.parametrize(
    ("name", "batch"), [("sre2l", 1024), ("gvbsm", 1024), ("cda", 128), ("dwa", 128), ("rethinkdc", 128)]
)
def test_full_cosines(name, batch):
    plan = numbers(name, 1000, 10)
    check(plan.recipe, batch=batch, temperature=20.0, ema=0.0, **KD)
    assert plan.budget == Budget(epochs=300)
    values = rates(plan, 300)
    assert (values[0], values[150], values[299]) == pytest.approx((1, 0.5, 2.74e-5), rel=1e-2)
    check(plan.augment, crop_scale=(0.08, 1.0), patches=1, jitter=0.0, lighting=0.0, dsa="", **CUTMIX)


def test_gvbsm_balances_four_teachers():
    check(numbers("gvbsm", 1000, 10).recipe, ce_weight=0.1, balance=True, distance="mse", batch_statistics=False)
    assert numbers("gvbsm", 200, 10, size=64).recipe.ce_weight == 0.1
    assert numbers("gvbsm", 10, 10, size=32).recipe.ce_weight == 0.15
    assert find("gvbsm").teachers == ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5")
    balanced = {name for name in PROTOCOLS if numbers(name, 1000, 10).recipe.balance}
    assert balanced == {"gvbsm"}


@pytest.mark.parametrize(
    ("name", "batch", "epochs", "mix"),
    [("sre2l", 256, 100, "none"), ("cda", 256, 100, "none"), ("dwa", 64, 200, "cutmix")],
)
def test_tiny_imagenet(name, batch, epochs, mix):
    plan = numbers(name, 200, 50, size=64)
    sgd = {"optimizer": "sgd", "lr": 0.2, "momentum": 0.9, "nesterov": False, "weight_decay": 1e-4, "decay_1d": True}
    check(plan.recipe, batch=batch, temperature=20.0, t_squared=True, batch_statistics=False, ema=0.0, **sgd)
    assert plan.budget == Budget(epochs=epochs)
    values = [plan.recipe.schedule.at(e * 7, epochs * 7, 7) for e in range(epochs)]
    assert (values[1], values[4], values[5]) == pytest.approx((0.2, 0.8, 1.0))
    assert values[5 + (epochs - 5) // 2] == pytest.approx(0.5, abs=0.01)
    check(plan.augment, crop_scale=(0.08, 1.0), patches=1, dsa="", **{**CUTMIX, "mix": mix})


@pytest.mark.parametrize("name", ["sre2l", "cda", "dwa"])
def test_cifar(name):
    plan = numbers(name, 100, 10, size=32)
    check(plan.recipe, batch=128, temperature=30.0, t_squared=False, **{**KD, "decay_1d": True})
    assert plan.recipe.batch_statistics  # the script's teacher stays in training mode
    assert plan.budget == Budget(epochs=400)
    assert rates(plan, 400)[200] == pytest.approx(0.5)
    assert plan.augment == Augment(flip=True, dsa="crop", mix="mixup", mix_alpha=0.8)


def test_28_pixels_have_the_numbers_of_imagenet():
    for name in ("sre2l", "cda", "dwa", "edc"):
        assert numbers(name, 10, 10, size=28) == numbers(name, 10, 10, size=224)


def test_edc_on_imagenet_10():
    plan = numbers("edc_in10", 10, 10)
    check(plan.recipe, batch=50, ce_weight=0.025, ema=0.99, **KD)
    assert (plan.budget, plan.recipe.schedule) == (Budget(epochs=1000), Schedule("ssrs", zeta=2.0, stepped="epoch"))
    check(plan.augment, crop_scale=(0.5, 1.0), **CUTMIX)
    assert set(find("edc_in10").teachers) == set(find("dvc_edc").teachers)


# rate and zeta at 1, 10 and 50 images a class
FADRM = {
    (1000, "resnet18"): [(1e-3, 2), (1e-3, 2), (1e-3, 1)],
    (1000, "resnet50"): [(5e-4, 2), (1e-3, 2), (1e-3, 1)],
    (1000, "resnet101"): [(3.5e-3, 2), (1e-3, 2), (5e-4, 1)],
    (10, "resnet18"): [(5e-4, 2), (5e-4, 1), (5e-4, 2)],
    (10, "resnet50"): [(5e-4, 2), (5e-4, 1), (5e-4, 1)],
    (10, "resnet101"): [(5e-4, 2), None, (1e-3, 2)],  # its code cannot run the one in the middle
}
SRE2LPP = {
    (1000, "resnet18"): [(1e-3, 2), (1e-3, 2), (1e-3, 1)],
    (1000, "resnet50"): [(1e-3, 2), (1e-3, 2), (1e-3, 1)],
    (10, "resnet18"): [(5e-4, 2), (5e-4, 1), (5e-4, 2)],
    (10, "resnet50"): [(5e-4, 2), (1e-3, 1), (5e-4, 1)],
}


@pytest.mark.parametrize(("name", "table"), [("fadrm", FADRM), ("fadrm_plus", FADRM), ("sre2lpp", SRE2LPP)])
def test_fadrm_rates_by_student_and_ipc(name, table):
    for (classes, student), row in table.items():
        for ipc, numbers_there in zip((1, 10, 50), row, strict=True):
            plan = numbers(name, classes, ipc, student=student)
            recipe = plan.recipe
            if numbers_there is not None:
                assert (recipe.lr, recipe.schedule.zeta) == numbers_there, (classes, student, ipc)
            check(recipe, batch=10 if classes == 10 else 16, temperature=20.0, weight_decay=0.01, decay_1d=False)
            check(recipe, distance="kl", batch_statistics=True, balance=False, ema=0.0, t_squared=False)
            assert (plan.budget, recipe.schedule.name) == (Budget(epochs=300), "cosine")
            check(plan.augment, crop_scale=(0.08, 1.0), patches=1, **CUTMIX)


def test_fadrm_trains_longer_on_small_images():
    epochs = {
        (10, 32, 10): 1000,
        (10, 32, 50): 1000,
        (200, 64, 1): 1000,
        (200, 64, 10): 300,
        (200, 64, 50): 300,
    }
    for (classes, size, ipc), expected in epochs.items():
        plan = numbers("fadrm", classes, ipc, size=size)
        assert (plan.budget, plan.recipe.batch) == (Budget(epochs=expected), 16)


def test_fadrm_plus_has_four_teachers():
    assert find("fadrm").teachers == find("sre2lpp").teachers == ("resnet18",)
    assert set(find("fadrm_plus").teachers) == {"resnet18", "densenet121", "shufflenet_v2_x1_0", "mobilenet_v2"}


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pca_crops_tiles_of_rethinkdcs_hard_labels(factor):
    plan, plain = numbers("pca", 1000, 10, tile_factor=factor), numbers("rethinkdc_hard", 1000, 10)
    assert plan == replace(plain, augment=replace(plain.augment, tiles=factor))
    assert plain.augment.tiles == 1
    assert find("pca").regime == "HardLabel"


def test_rethinkdc_hard_is_without_mixing():
    soft, hard = numbers("rethinkdc", 1000, 10), numbers("rethinkdc_hard", 1000, 10)
    assert hard == replace(soft, augment=replace(soft.augment, mix="none"))
    assert find("rethinkdc_hard").regime == "HardLabel"


# --- small images ---


@pytest.mark.parametrize(("name", "length", "dsa"), [("dcbench", 300, ""), ("dcbench_dsa", 1000, DSA)])
def test_dcbench_is_evaluate_synset(name, length, dsa):
    plan = numbers(name, 10, 10)
    check(plan.recipe, batch=256, reset_momentum=True, ema=0.0, **SGD)
    assert plan.budget == Budget(epochs=length + 1)
    assert plan.augment == Augment(dsa=dsa)
    lr, expected = 1.0, []  # the published loop, epoch by epoch
    for epoch in range(length + 1):
        expected.append(lr)
        if epoch == length // 2 + 1:
            lr *= 0.1
    assert rates(plan, length + 1) == pytest.approx(expected)


def test_ht_small_hard():
    plan = numbers("ht_small_hard", 100, 10)
    check(plan.recipe, batch=256, reset_momentum=False, **SGD)
    assert plan.budget == Budget(epochs=300)
    assert rates(plan, 300) == multistep(300, 0.1, 151)
    assert plan.augment == Augment(dsa=DSA)


@pytest.mark.parametrize(("size", "decay", "nesterov", "epochs"), [(32, 5e-4, True, 200), (224, 1e-4, False, 60)])
def test_ccs_scores_small_and_large_images_as_its_code(size, decay, nesterov, epochs):
    plan = numbers("ccs", 100, 10, size=size)
    own = {"lr": 0.1, "momentum": 0.9, "batch": 256, "weight_decay": decay, "nesterov": nesterov}
    check(plan.recipe, optimizer="sgd", **own)
    assert plan.budget == Budget(epochs=epochs)
    assert plan.recipe.schedule == Schedule("cosine", stepped="step")
    small, large = Augment(flip=True, dsa="crop"), Augment(crop_scale=(0.08, 1.0), flip=True)
    assert plan.augment == (small if size < 96 else large)


def test_ht_small_soft():
    plan = numbers("ht_small_soft", 100, 10)
    check(plan.recipe, batch=256, temperature=20.0, **{**KD, "decay_1d": True})
    assert plan.budget == Budget(epochs=300)
    assert rates(plan, 300)[150] == pytest.approx(0.5)
    assert plan.augment == Augment(dsa=DSA)


@pytest.mark.parametrize("name", ["ht_small_hard", "ht_small_soft", "dcbench_dsa"])
def test_digits_are_not_flipped(name):
    assert numbers(name, 10, 10, 1, flip=False).augment.dsa == "color_crop_cutout_scale_rotate"


@pytest.mark.parametrize(("ipc", "batch"), [(10, 100), (50, 200), (100, 200)])
def test_ht_large_hard(ipc, batch):
    plan = numbers("ht_large_hard", 1000, ipc)
    check(plan.recipe, batch=batch, **KD)
    assert plan.budget == Budget(full_epochs=7.8)
    assert plan.augment == Augment(crop_scale=(0.08, 1.0), flip=True)


def test_regimes_of_the_table():
    regimes = {
        "rded": "TeacherLabel",
        "sre2l": "TeacherLabel",
        "rethinkdc": "TeacherLabel",
        "ht_large_kd": "TeacherLabel",
    }
    regimes |= dict.fromkeys(("cda", "dwa", "sre2lpp", "fadrm"), "TeacherLabel")
    regimes |= dict.fromkeys(("gvbsm", "edc_in10", "fadrm_plus"), "MultiTeacherLabel")
    regimes |= {"edc": "MultiTeacherLabel", "dvc_edc": "MultiTeacherLabel", "ht_small_soft": "SoftLabel"}
    assert {name: p.regime for name, p in PROTOCOLS.items()} == {n: regimes.get(n, "HardLabel") for n in PROTOCOLS}
    assert all(describe(name)[0].endswith(".") for name in PROTOCOLS)


def test_unknown_protocol_names_the_nearest():
    with pytest.raises(UsageError, match=r"'rdde'.*Did you mean rded"):
        find("rdde")


# --- overrides ---

CHANGES = {
    "optimizer": "adam",
    "lr": 0.123,
    "batch": 17,
    "schedule": "rex",
    "zeta": 3.0,
    "milestones": (0.1, 0.2),
    "gamma": 0.7,
    "warmup": 0.05,
    "cooldown": 0.3,
    "stepped": "step",
    "momentum": 0.8,
    "nesterov": True,
    "betas": (0.8, 0.95),
    "weight_decay": 0.2,
    "decay_1d": True,
    "reset_momentum": True,
    "temperature": 4.0,
    "t_squared": True,
    "ce_weight": 0.5,
    "distance": "kl",
    "balance": True,
    "batch_statistics": True,
    "ema": 0.9,
    "bn_momentum": 0.19,
    "patches": 3,
    "crop_scale": (0.2, 0.9),
    "crop_ratio": (0.9, 1.1),
    "tiles": 4,
    "flip": False,
    "jitter": 0.3,
    "lighting": 0.2,
    "dsa": "crop_flip",
    "mix": "mixup",
    "mix_alpha": 0.8,
    "mix_per": "sample",
}


def flat(plan):
    """A plan's numbers under one name each, without any of the code under test."""
    recipe = {**vars(plan.recipe), **vars(plan.recipe.schedule), **vars(plan.augment)}
    return {**{k: v for k, v in recipe.items() if k != "name"}, "schedule": plan.recipe.schedule.name}


def test_there_is_an_override_for_every_number():
    names = [f.name for kind in (Recipe, Schedule, Augment) for f in fields(kind) if f.name != "name"]
    assert len(names) == len(set(names))
    assert {f.name for f in fields(Override)} == set(names) == set(CHANGES)
    assert Override() == Override(**dict.fromkeys(names))


@pytest.mark.parametrize("name", CHANGES)
def test_an_override_changes_its_number_and_no_other(name):
    before = flat(numbers("rded", 10, 10))
    after = flat(resolve("rded", Setting(10, 10), Override(**{name: CHANGES[name]})))
    assert before[name] != CHANGES[name]
    assert after == {**before, name: CHANGES[name]}


WRONG = {"batch": 0, "patches": 0, "tiles": 0, "lr": 0.0, "weight_decay": -1e-4, "ce_weight": -1.0, "lighting": -0.1}
WRONG |= {"temperature": 0.0, "mix_alpha": 0.0, "momentum": 1.0, "ema": 1.0, "bn_momentum": 0.0, "jitter": 1.5}
WRONG_SHAPES = {"zeta": 0.0, "gamma": 0.0, "warmup": 1.0, "cooldown": 0.0}


@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(UsageError, match=rf"{name} is {value}; it must be"):
        Override(**{name: value})
    with pytest.raises(UsageError):
        Override(**{name: float("nan")})


@pytest.mark.parametrize(("name", "value"), WRONG_SHAPES.items())
def test_schedules_out_of_range_are_refused(name, value):
    with pytest.raises(UsageError, match=rf"{name} is {value}; allowed"):
        resolve("rded", Setting(10, 10), Override(**{name: value}))


@pytest.mark.parametrize("given", [{"seed": -1}, {"test_curve": -1}])
def test_negative_seeds_and_readings_are_refused(given):
    with pytest.raises(UsageError, match="at least 0"):
        HardLabel(ConvNet(), **given)


@pytest.mark.parametrize("name", ["ema", "ce_weight", "weight_decay", "momentum", "jitter"])
def test_zero_is_a_number_and_not_a_missing_one(name):
    assert flat(resolve("edc", Setting(10, 10), Override(**{name: 0.0})))[name] == 0


def test_a_budget_replaces_the_protocols():
    assert resolve("rded", Setting(10, 10), None, Budget(steps=5)).budget == Budget(steps=5)
    assert resolve("rded", Setting(10, 10)).budget == Budget(epochs=300)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_what_config_yaml_holds_gives_the_same_plan(name):
    for setting in SETTINGS:
        plan = resolve(name, setting)
        written = plan.as_override()
        assert set(written) == set(CHANGES) and not any(isinstance(v, tuple) for v in written.values())
        read = Override(**{k: tuple(v) if isinstance(v, list) else v for k, v in written.items()})
        assert resolve(name, setting, read, plan.budget) == plan
        changed = resolve(name, setting, Override(**CHANGES))
        read = Override(**{k: tuple(v) if isinstance(v, list) else v for k, v in changed.as_override().items()})
        assert flat(resolve(name, setting, read)) == flat(changed) == CHANGES


# --- what a regime makes of its data module ---


@pytest.mark.parametrize(
    ("student", "name"),
    [(ConvNet(), "convnet3"), (ResNet(50), "resnet50"), (Torchvision("mobilenet_v2"), "mobilenet_v2")],
)
def test_the_setting_of_a_run(student, name):
    assert student_name(student) == name
    data = Random(Digits(), ipc=50)
    data.tile_factor = 2
    model = HardLabel(student, protocol="rded", recipe=Override(ema=0.5), budget=Budget(steps=3))
    expected = Setting(classes=10, ipc=50, channels=1, flip=False, student=name, tile_factor=2)
    assert model.plan(data) == resolve("rded", expected, Override(ema=0.5), Budget(steps=3))


def test_a_batch_is_capped_at_the_set_but_not_one_that_was_asked_for():
    data = Random(Digits(), ipc=3)
    assert HardLabel(ConvNet()).resolve_run(data, 30, 1438).batch == 30
    with pytest.raises(UsageError, match=r"batch of 31.*recipe\.batch=30"):
        HardLabel(ConvNet(), recipe=Override(batch=31)).resolve_run(data, 30, 1438)


# --- short runs ---


@pytest.mark.parametrize(
    ("images", "budget", "held"),
    [  # batches of 256: passes of 20 steps over 5,000 images, of one over 100
        (5000, Budget(full_epochs=2), False),
        (5000, Budget(full_epochs=19.9), False),
        (5000, Budget(full_epochs=20), True),
        (100, Budget(full_epochs=2), True),
        (100, Budget(steps=19), False),
        (100, Budget(epochs=300), True),
    ],
)
def test_the_rate_of_a_run_of_few_passes_is_not_held(images, budget, held):
    plan = resolve("ht_small_soft", Setting(10, 10, size=28), budget=budget).over(images, 5000)
    assert plan.recipe.schedule.stepped == ("epoch" if held else "step")
    assert plan.recipe.batch == min(256, images)
    steps, pass_steps = budget.total_steps(images, plan.recipe.batch, 5000), -(-images // plan.recipe.batch)
    assert plan.recipe.schedule.at(steps - 1, steps, pass_steps) < 0.01


def test_a_given_step_or_epoch_is_kept_in_a_short_run():
    given = Override(stepped="epoch")
    plan = resolve("ht_small_soft", Setting(10, 10, size=28), given, Budget(full_epochs=2)).over(5000, 5000, given)
    assert plan.recipe.schedule.stepped == "epoch"
