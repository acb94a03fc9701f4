"""Budgets and schedules against counting loops, closed forms, and the steps that real runs take."""

import doctest
from itertools import count
from math import cos, pi

import pytest
from lightning import Callback

from ddlight.core.errors import UsageError
from ddlight.data import Digits
from ddlight.methods.baselines.random import Random
from ddlight.networks.students import MLP
from ddlight.recipes import budget, schedules, table
from ddlight.recipes.budget import UNITS, Budget, images_seen, steps_to_see
from ddlight.recipes.plan import Override
from ddlight.recipes.schedules import SHAPES, Schedule
from ddlight.regimes.hard_label import HardLabel

SIZES = [(100, 100), (100, 50), (100, 64), (100, 7), (101, 100), (1, 1), (5, 2), (30, 8)]


@pytest.mark.parametrize("module", [budget, schedules, table])
def test_the_examples_hold(module):
    failed, tried = doctest.testmod(module)
    assert tried and not failed


def sizes_of_batches(images, batch):
    """Batch after batch of endless passes, the last one of a pass short."""
    for _ in count():
        left = images
        while left:
            yield min(batch, left)
            left -= min(batch, left)


def counted_steps(wanted, images, batch):
    """Steps until at least `wanted` images passed, counted one by one."""
    seen = 0
    for step, size in enumerate(sizes_of_batches(images, batch), start=1):
        seen += size
        if seen >= wanted - 1e-6:
            return step
    raise AssertionError


@pytest.mark.parametrize(("images", "batch"), SIZES)
def test_images_seen_equals_counting(images, batch):
    seen, sizes = 0, sizes_of_batches(images, batch)
    for step in range(60):
        assert images_seen(step, images, batch) == seen
        seen += next(sizes)


@pytest.mark.parametrize(("images", "batch"), SIZES)
@pytest.mark.parametrize("wanted", [1, 2, 63, 64, 65, 99, 100, 101, 164, 165, 250, 1000, 33.3])
def test_every_unit_takes_the_fewest_steps_that_see_enough(images, batch, wanted):
    expected = counted_steps(wanted, images, batch)
    assert steps_to_see(wanted, images, batch) == expected
    assert Budget(epochs=wanted / images).total_steps(images, batch, 7) == expected
    assert Budget(full_epochs=wanted / 1437).total_steps(images, batch, 1437) == expected
    if wanted == int(wanted):
        assert Budget(images=int(wanted)).total_steps(images, batch, 7) == expected
        assert Budget(steps=int(wanted)).total_steps(images, batch, 7) == wanted


def test_published_lengths():
    assert Budget(epochs=2000).total_steps(100, 64, 9469) == 4000  # MGD3's ImageNette, ipc 10
    assert Budget(epochs=1500).total_steps(500, 64, 9469) == 12000
    assert Budget(epochs=1300).total_steps(1000, 64, 126689) == 20800
    assert Budget(epochs=301).total_steps(100, 256, 50000) == 301
    assert Budget(full_epochs=6).total_steps(1000, 250, 50000) == 1200  # HT's CIFAR-100 ipc 10: 300 epochs
    assert Budget(full_epochs=2).total_steps(10_000, 100, 1_281_167) == 25_624


def test_whole_epochs_in_floating_point_take_no_extra_step():
    for epochs in range(1, 1200):
        assert Budget(full_epochs=epochs * 490 / 50000).total_steps(490, 64, 50000) == 8 * epochs


@pytest.mark.parametrize(
    "wrong",
    [{}, {"steps": 3, "epochs": 2.0}, dict.fromkeys(UNITS, 1), {"steps": 0}, {"epochs": -1.0}, {"full_epochs": 0.0}],
)
def test_a_budget_has_one_positive_unit(wrong):
    with pytest.raises(UsageError):
        Budget(**wrong)


def test_a_budget_says_what_was_asked():
    assert [Budget(**{unit: 7}).unit for unit in UNITS] == list(UNITS)
    assert Budget(full_epochs=7.8).asked == 7.8


# --- closed forms ---


def test_slow_cosine_ends_at_half():
    slow = Schedule("cosine", zeta=2.0, stepped="epoch")
    assert slow.at(299, 300, 1) == pytest.approx(0.5026, abs=5e-5)
    assert slow.at(299 * 4 + 3, 300 * 4, 4) == slow.at(299, 300, 1)  # held over the last pass
    for e in range(300):
        assert slow.at(e, 300, 1) == pytest.approx(0.5 * (1 + cos(pi * e / 600)))
        assert Schedule("cosine").at(e, 300, 1) == pytest.approx(0.5 * (1 + cos(pi * e / 300)))
    assert Schedule("cosine").factor(1.0) == pytest.approx(0, abs=1e-12)


def test_ssrs_falls_at_five_sixths():
    ssrs = Schedule("ssrs", zeta=2.0)
    for e in range(1000):
        expected = 0.5 * (1 + cos(pi * e / 2000))
        if e > 1000 * 5 / 6:
            expected = 0.5 * (1 + cos(5 * pi / 12)) * (1 - e / 1000)
        assert ssrs.at(e, 1000, 1) == pytest.approx(expected)
    assert ssrs.at(833, 1000, 1) == pytest.approx(0.63, abs=5e-3)
    assert ssrs.at(834, 1000, 1) == pytest.approx(0.10, abs=5e-3)


def test_rex_linear_constant():
    for e in range(100):
        x = e / 100
        assert Schedule("rex").at(e, 100, 1) == pytest.approx((1 - x) / (0.5 + 0.5 * (1 - x)))
        assert Schedule("linear").at(e, 100, 1) == pytest.approx(1 - x)
        assert Schedule("linear", zeta=2).at(e, 100, 1) == pytest.approx(1 - x / 2)
        assert Schedule("constant").at(e, 100, 1) == 1


def test_a_warm_up_rises_to_the_peak_and_the_shape_follows():
    cosine = Schedule("cosine", warmup=0.1, stepped="epoch")
    values = [cosine.at(step, 100, 20) for step in range(100)]
    assert values[:10] == pytest.approx([step / 10 for step in range(10)])
    assert cosine.factor(0.1) == 1 and cosine.factor(1.0) == pytest.approx(0)
    assert cosine.factor(0.55) == pytest.approx(0.5)
    assert values[20:40] == pytest.approx([0.5 * (1 + cos(pi * (0.2 - 0.1) / 0.9))] * 20)


def test_wsd_holds_and_then_falls():
    wsd = Schedule("wsd", warmup=0.1, cooldown=0.25)
    values = [wsd.at(e, 200, 1) for e in range(200)]
    assert values[:20] == pytest.approx([e / 20 for e in range(20)])
    assert values[20:156] == [1.0] * 136  # three quarters of the 180 steps after the warm-up, and the first of the fall
    assert values[155:] == pytest.approx([(200 - e) / 45 for e in range(155, 200)])


def test_a_pass_in_which_the_warmup_ends_stays_at_the_peak_until_its_end():
    linear = Schedule("linear", warmup=0.3, stepped="epoch")  # 20 steps, passes of 4: the rise ends in the second pass
    factors = [linear.at(step, 20, 4) for step in range(20)]
    assert factors[:6] == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    assert factors[6:8] == [1.0, 1.0]
    for begin in (8, 12, 16):  # of 14 steps after the rise, those that are over when the pass begins
        assert factors[begin : begin + 4] == pytest.approx([1 - (begin - 6) / 14] * 4)


def test_after_the_warm_up_comes_the_whole_shape():
    cosine = Schedule("cosine", zeta=2.0, warmup=0.25, stepped="epoch")
    values = [cosine.at(step, 80, 8) for step in range(80)]  # passes of 8 steps; 20 steps of warm-up, by step
    assert values[:20] == pytest.approx([step / 20 for step in range(20)])
    held = [max(0, step // 8 * 8 - 20) / 60 for step in range(24, 80)]
    assert values[24:] == pytest.approx([0.5 * (1 + cos(pi * x / 2)) for x in held])
    step = Schedule("step", warmup=0.5, milestones=(0.5,), gamma=0.1)
    assert [step.at(s, 8, 1) for s in range(8)] == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 0.1, 0.1])


@pytest.mark.parametrize("total", [1, 3, 6, 300, 1500, 2000, 4000, 586_500])
def test_step_drops_exactly_at_its_milestones(total):
    first, second = total * 2 // 3, total * 5 // 6
    step = Schedule("step", milestones=(first / total, second / total), gamma=0.2)
    for at in {0, first - 1, first, first + 1, second - 1, second, second + 1, total - 1} & set(range(total)):
        assert step.at(at, total, 1) == pytest.approx(0.2 ** ((at >= first) + (at >= second)))


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_starts_at_the_peak_and_warms_up(name):
    assert Schedule(name, milestones=(0.5,)).factor(0.0) == 1
    warm = Schedule(name, warmup=0.2, milestones=(0.5,))
    assert [warm.at(e, 20, 1) for e in range(4)] == pytest.approx([0, 0.25, 0.5, 0.75])


def test_stepped_by_epoch_holds_and_by_step_moves():
    held, moving = Schedule("cosine", stepped="epoch"), Schedule("cosine", stepped="step")
    for step in range(40):
        assert moving.at(step, 40, 4) == pytest.approx(0.5 * (1 + cos(pi * step / 40)))
        assert held.at(step, 40, 4) == pytest.approx(0.5 * (1 + cos(pi * (step // 4) / 10)))


# --- real runs ---


class Rates(Callback):
    """The learning rate of every optimiser step, as the optimiser is about to use it."""

    def __init__(self):
        self.rates = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        rates = {group["lr"] for group in optimizer.param_groups}
        assert len(rates) == 1
        self.rates.append(rates.pop())


RUNS = [
    (Budget(steps=7), Override(schedule="cosine", zeta=1.0, stepped="step")),
    (Budget(epochs=3), Override(schedule="cosine", zeta=2.0, stepped="epoch")),
    (Budget(images=70), Override(schedule="rex", stepped="step")),
    (Budget(full_epochs=0.06), Override(schedule="wsd", warmup=0.25, cooldown=0.5, stepped="step")),
    (Budget(epochs=2.5), Override(schedule="step", milestones=(1 / 3, 0.5), gamma=0.2, stepped="epoch")),
]
STEPS = [7, 12, 10, 12, 10]
"""Of 30 images in batches of 8, 8, 8, 6, and 1438 training images."""


@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize(("setting", "steps"), zip(RUNS, STEPS, strict=True))
def test_a_run_takes_its_budget_and_its_rates(fit, setting, steps, accumulate):
    budget, recipe = setting
    recipe = Override(**{**vars(recipe), "batch": 8, "lr": 0.02})
    model = HardLabel(MLP(width=4, depth=1), recipe=recipe, budget=budget)
    seen = Rates()
    trainer = fit(model, Random(Digits(size=8), ipc=3), callbacks=[seen], accumulate_grad_batches=accumulate)
    schedule = model.run.plan.recipe.schedule
    pass_steps = 4
    progress = [(s // pass_steps * pass_steps if schedule.stepped == "epoch" else s) / steps for s in range(steps)]
    assert trainer.global_step == steps == len(seen.rates)
    assert seen.rates == pytest.approx([0.02 * schedule.factor(x) for x in progress], rel=1e-9)
    assert schedule.name == recipe.schedule and seen.rates[0] == pytest.approx(0.02 * (not schedule.warmup))


@pytest.mark.parametrize("unit", ["epochs", "full_epochs"])
def test_a_whole_number_of_passes_is_the_same_budget_however_it_is_written(unit):
    from dataclasses import asdict
    from json import dumps

    assert dumps(asdict(Budget(**{unit: 60}))) == dumps(asdict(Budget(**{unit: 60.0})))
