"""DSA: real and synthetic images of a class under one draw, each image of the inner loop under its own."""

import torch

from ddlight.methods.matching.dc import DC, gradient_distance, gradients
from ddlight.methods.matching.dsa import DSA


def test_each_class_and_image_step_has_one_draw_for_real_and_synthetic_images(make, monkeypatch):
    data = make(DSA, iterations=2, outer=2, inner=2, batch_real=4)
    augment, shared, each = data.matching.augment, [], []
    siamese, own = augment.siamese, augment.each

    def watched(*index):
        view = siamese(*index)
        return lambda images: shared.append((index, len(images))) or view(images)

    monkeypatch.setattr(augment, "siamese", watched)
    monkeypatch.setattr(augment, "each", lambda images, *index: each.append(index) or own(images, *index))
    learned = data.begin()
    for iteration in range(2):
        data.step(learned, iteration)
    assert shared == [
        ((t, o, c), n) for t in range(2) for o in range(2) for c in range(10) for n in (4, 2)
    ]  # a real batch of 4, then 2 synthetic images
    assert each == [(t, 0, epoch, 0) for t in range(2) for epoch in range(2)]
    strategy = augment.strategy
    draws = {(augment._draw("matching siamese", 1, 0, o, c)[0], o, c) for o in range(2) for c in range(10)}
    assert len({op for op, _, _ in draws}) > 2 and strategy.ops[0] == "color"


def test_the_gradient_flows_through_the_augmentation(make, slope):
    data = make(DSA, outer=1, batch_real=4)
    network = data.fresh(0).double()
    real = data.real_batch(4, 3, 0).double()
    for step in range(6):  # all operations are drawn
        view = data.matching.augment.siamese(0, step, 3)
        torch.manual_seed(step)  # at most images no ReLU switches within the step of the differences
        images = torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
        goal = gradients(network, view(real), 3)

        def distance(x, view=view, goal=goal):
            return gradient_distance(gradients(network, view(x), 3, graph=True), goal)

        (gradient,) = torch.autograd.grad(distance(images), images)
        direction = torch.randn_like(gradient)
        measured = slope(lambda x, f=distance: f(x.requires_grad_(True)).item(), images, direction)
        torch.testing.assert_close(measured, float((gradient * direction).sum()), rtol=1e-4, atol=1e-7)


def test_dsa_begins_with_real_images_and_dc_with_noise(make):
    dc, dsa = make(DC), make(DSA)
    assert (dc.numbers.init, dsa.numbers.init) == ("noise", "real")
    assert dc.matching.augment.strategy.ops == ("none",)
    assert (dc.matching.outer, dsa.matching.outer) == (1, 1)
