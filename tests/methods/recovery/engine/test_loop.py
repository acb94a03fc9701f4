"""The loop against one written out with torchvision and Adam's formula; networks in turn; bounds; bytes; NaN."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torchvision.transforms import functional

from ddlight.core.errors import DataError, UsageError
from ddlight.core.override import replaced
from ddlight.methods.images import NormalisedSpace
from ddlight.methods.recovery.engine.loop import cosine, look, recover, terms
from ddlight.methods.recovery.engine.observer import Observer
from ddlight.methods.recovery.engine.options import Recovery, RecoveryOverride
from ddlight.networks.students import ConvNet
from ddlight.networks.teachers import Input

CPU = torch.device("cpu")


def written_out(block, images, teachers):
    """The published loop: torchvision's transforms, a walk through the network, Adam as in its paper, clamping."""
    numbers, views = block.recovery, block.views
    x, m, v = images.clone(), torch.zeros_like(images), torch.zeros_like(images)
    for t in range(numbers.iterations):
        x.requires_grad_(True)
        seen = functional.resized_crop(x, *views.box(t, 16).tolist(), [16, 16], antialias=False)
        seen = functional.hflip(seen) if views.flipped[t] else seen
        seen = torch.roll(seen, tuple(views.shifts[t].tolist()), (2, 3))
        network, regular, maps = teachers[t % len(teachers)].network, 0, seen
        norms = [layer for layer in network.features if isinstance(layer, torch.nn.BatchNorm2d)]
        for layer in network.features:
            if layer in norms:
                mean, var = maps.mean((0, 2, 3)), maps.var((0, 2, 3), correction=0)
                weight = numbers.first_weight if layer is norms[0] else 1
                regular = regular + weight * (mean - layer.running_mean).pow(2).sum().sqrt()
                regular = regular + weight * numbers.var_weight * (var - layer.running_var).pow(2).sum().sqrt()
            maps = layer(maps)
        logits = network.classifier(maps.flatten(1))
        loss = cross_entropy(logits, block.labels) + numbers.stat_weight * regular
        (g,) = torch.autograd.grad(loss, x)
        m, v = 0.5 * m + 0.5 * g, 0.9 * v + 0.1 * g * g
        lr = numbers.lr * (1 + np.cos(np.pi * t / numbers.iterations)) / 2
        step = m / (1 - 0.5 ** (t + 1)) / ((v / (1 - 0.9 ** (t + 1))).sqrt() + 1e-8)
        x = (x.detach() - lr * step).clamp(-0.5 / 0.25, 0.5 / 0.25)
    return x


@pytest.mark.parametrize("more", [{}, {"var_weight": 2.0, "first_weight": 1.0}, {"symmetric_roll": True}], ids=str)
def test_the_loop_is_the_published_one(block, untrained, more):
    teachers = [untrained(), untrained(ConvNet(3, 5, "batch"), seed=1)]
    setting, images = block(teachers, iterations=6, lr=0.1, stat_weight=0.3, **more)
    torch.testing.assert_close(recover(setting, images), written_out(setting, images, teachers), rtol=0, atol=2e-3)


def test_the_last_iterate_is_kept_and_the_first_images_are_left_alone(block):
    seen = []
    setting, images = block(watch=lambda t, found, x: seen.append((t, x.detach().clone())), iterations=3)
    before = images.clone()
    final = recover(setting, images)
    assert [t for t, _ in seen] == [0, 1, 2]
    assert torch.equal(final, seen[-1][1]) and not final.requires_grad
    assert torch.equal(images, before)


def test_pixels_stay_between_black_and_white_of_each_channel(untrained, block):
    setting, images = block(iterations=3, lr=5.0)
    space = NormalisedSpace((0.2, 0.5, 0.9), (0.1, 0.25, 0.5))
    setting = setting.__class__(**{**vars(setting), "space": space})
    final = recover(setting, 10 * images)
    low, high = [-2.0, -2.0, -1.8], [8.0, 2.0, 0.2]
    for channel in range(3):
        assert final[:, channel].min() == pytest.approx(low[channel], abs=1e-5)
        assert final[:, channel].max() == pytest.approx(high[channel], abs=1e-5)


def test_rates_fall_in_a_cosine_without_warmup():
    assert cosine(0.25, 0, 4000) == 0.25
    assert cosine(0.25, 2000, 4000) == pytest.approx(0.125)
    assert 0 < cosine(0.25, 3999, 4000) < 1e-6


def test_bytes_are_truncated_not_rounded():
    space, pixels = NormalisedSpace((0.5,), (0.25,)), [-0.1, 0.0, 0.25, 0.5, 100.9 / 255, 254.99 / 255, 1.0, 3.0]
    images = (torch.tensor(pixels).reshape(1, 1, 1, -1) - 0.5) / 0.25
    assert space.leave(images).ravel().tolist() == [0, 0, 63, 127, 100, 254, 255, 255]
    assert space.leave(images).dtype == np.uint8


def test_bytes_go_in_as_they_came_out():
    space, rng = NormalisedSpace((0.2, 0.5, 0.9), (0.1, 0.25, 0.5)), np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 3, 4, 4), np.uint8)
    back = space.leave(space.enter(pixels, CPU)).astype(int)
    assert ((back == pixels) | (back == pixels.astype(int) - 1)).all()  # truncation of a rounded product


def test_networks_answer_in_turn_and_further_losses_see_the_same_view(block, untrained):
    asked = []

    def own(step):
        asked.append(setting.observers.index(step.observer))
        torch.testing.assert_close(step.view(step.images), step.views)
        return 0.5 * step.images.square().mean()

    setting, images = block([untrained(), untrained(seed=1), untrained(seed=2)], iterations=7, losses={"own": own})
    final = recover(setting, images)
    assert asked == [0, 1, 2, 0, 1, 2, 0]
    found = terms(setting, look(setting, images, 0))
    assert list(found) == ["ce", "statistics", "own"]
    assert float(found["own"]) == pytest.approx(0.5 * float(images.square().mean()))
    without = recover(block([untrained(), untrained(seed=1), untrained(seed=2)], iterations=7)[0], images)
    assert not torch.equal(final, without)


def test_stages_continue_schedule_turn_and_views(block):
    setting, images = block(iterations=6)
    half = recover(setting, images, last=3)
    seen = []
    staged = setting.__class__(**{**vars(setting), "watch": lambda t, found, x: seen.append(t)})
    again = recover(staged, half, first=3)
    assert seen == [3, 4, 5]
    assert not torch.equal(again, recover(setting, images))  # Adam began anew


def test_a_teachers_own_space_channels_and_size(untrained):
    """Views of grey images of 8 pixels reach a network of colour images of 16 in its own normalisation."""
    teacher = untrained(taken=Input((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), 16))
    observer = Observer(teacher, NormalisedSpace((0.4,), (0.3,)), CPU)
    assert observer.size_of(8, 8) == 16
    assert observer.size_of(7, 8) == 14
    pixels = torch.rand(4, 1, 16, 16)
    logits, _ = observer((pixels - 0.4) / 0.3)
    torch.testing.assert_close(logits, teacher.logits(pixels), rtol=0, atol=1e-4)


def test_an_observer_leaves_its_teacher_alone(untrained):
    teacher = untrained()
    first, second = (Observer(teacher, NormalisedSpace((0.5,) * 3, (0.25,) * 3), CPU) for _ in range(2))
    first.network.classifier.weight.data.zero_()
    assert second.network.classifier.weight.abs().sum() > 0 and teacher.network.classifier.weight.abs().sum() > 0
    assert not any(m._forward_pre_hooks for m in teacher.network.modules())
    first(torch.rand(2, 3, 16, 16))
    assert second._measured == {}


def test_an_observer_measures_where_it_is_to(untrained):
    observer, views = Observer(untrained(), NormalisedSpace((0.5,) * 3, (0.25,) * 3), CPU), torch.rand(2, 3, 16, 16)
    (logits, found), (again, nothing) = observer(views), observer(views, measure=False)
    assert (len(found), nothing, torch.equal(logits, again)) == (2, {}, True)
    assert len(observer(views)[1]) == 2


def test_pixels_that_are_not_finite_are_an_error_that_says_what_to_do(block, untrained):
    teacher = untrained()
    teacher.network.classifier.weight.data[0, 0] = torch.nan
    setting, images = block([teacher], iterations=2)
    with pytest.raises(DataError, match=r"not finite after iteration 0 .*--data\.recovery\.lr"):
        recover(setting, images)


@pytest.mark.parametrize(("broken", "noticed"), [(1, 2), (3, 200)])
def test_what_goes_wrong_later_is_noticed_later(block, broken, noticed):
    def own(step):
        return step.images.sum() * (torch.nan if step.iteration == broken else 0.0)

    setting, images = block(iterations=300 if noticed == 200 else 3, losses={"own": own})
    with pytest.raises(DataError, match=f"not finite after iteration {noticed} "):
        recover(setting, images)


def test_bf16_moves_images_much_as_fp32_does(block):
    setting, images = block(iterations=8, lr=0.05)
    mixed = recover(block(iterations=8, lr=0.05, precision="bf16")[0], images)
    full = recover(setting, images)
    moved = (full - images).norm()
    assert 0 < (mixed - full).norm() < 0.5 * moved


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"iterations": 0}, "recovery.iterations is 0"),
        ({"lr": 0.0}, "recovery.lr is 0.0"),
        ({"min_crop": 1.5}, "recovery.min_crop is 1.5"),
        ({"roll": -1}, "recovery.roll is -1"),
        ({"stat_weight": -0.1}, "recovery.stat_weight is -0.1"),
        ({"precision": "fp8"}, "recovery.precision is 'fp8'"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(given, told):
    with pytest.raises(UsageError, match=told):
        replaced(Recovery(10, lr=0.1), RecoveryOverride(**given).given())


def test_given_numbers_replace_published_ones():
    found = replaced(Recovery(4000, lr=0.25, roll=32), RecoveryOverride(lr=0.05, symmetric_roll=True).given())
    assert (found.lr, found.symmetric_roll, found.roll, found.iterations) == (0.05, True, 32, 4000)


def test_crops_and_rolls_that_do_not_fit_the_images_are_refused():
    Recovery(1, lr=0.1).check_size(224)
    with pytest.raises(UsageError, match=r"roll is 32 pixels, and the images have 28.*--data.recovery.roll=4"):
        Recovery(1, lr=0.1).check_size(28)
    with pytest.raises(UsageError, match="have no pixel"):
        Recovery(1, lr=0.1, roll=1, min_crop=0.01).check_size(8)
