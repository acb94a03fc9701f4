"""Trajectories in half the bytes: how far what is read back lies from what was written."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ddlight.core.errors import DataError
from ddlight.methods.matching.trajectory.storage import Trajectory, pack

SIZES = (700, 5, 95)
CPU = torch.device("cpu")


def walk(steps=12, seed=0):
    """Weights of very unlike size whose steps are a hundredth of them, and smaller towards the end."""
    rng = np.random.default_rng(seed)
    scale = np.repeat([1.0, 1e-4, 30.0], SIZES)
    weights, found = scale * rng.standard_normal(800), []
    for number in range(steps + 1):
        found.append(torch.tensor(weights, dtype=torch.float32))
        weights = weights + 0.01 / (number + 1) * scale * rng.standard_normal(800)
    return found


def test_weights_come_back_to_a_thousandth_of_one_passs_change(tmp_path):
    snapshots = walk()
    packed = pack(snapshots, SIZES)
    save_file(packed, tmp_path / "walk.safetensors")
    read = Trajectory(tmp_path / "walk.safetensors", SIZES).at(*range(13), device=CPU)
    errors = [0.0]
    for number in range(1, 13):
        moved = (snapshots[number] - snapshots[number - 1]).double().norm()
        errors.append(float((snapshots[number] - read[number]).double().norm() / moved))
    assert max(errors) == pytest.approx(packed["error"].item(), rel=1e-6)
    assert 1e-5 < max(errors) < 1e-3
    assert torch.equal(read[0], snapshots[0])
    plain = (snapshots[12].half().float() - snapshots[12]).norm() / (snapshots[12] - snapshots[11]).norm()
    assert plain > 50 * errors[12]  # weights rounded themselves


def test_a_part_is_read_as_the_whole(tmp_path):
    save_file(pack(walk(), SIZES), tmp_path / "walk.safetensors")
    trajectory = Trajectory(tmp_path / "walk.safetensors", SIZES)
    every = trajectory.at(*range(13), device=CPU)
    for one, other in zip(trajectory.at(4, 7, device=CPU), (every[4], every[7]), strict=True):
        assert torch.equal(one, other)


def test_a_pass_that_changes_nothing_and_living_weights(tmp_path):
    snapshots = walk(2)
    save_file(pack([snapshots[0], snapshots[1], snapshots[1]], SIZES), tmp_path / "walk.safetensors")
    _, one, two = Trajectory(tmp_path / "walk.safetensors", SIZES).at(0, 1, 2, device=CPU)
    assert (one - two).norm() < 1e-3 * (snapshots[1] - snapshots[0]).norm()
    with pytest.raises(DataError, match="living weights"):
        pack([snapshots[2]] * 3, SIZES)


def test_snapshots_are_copied_while_they_are_packed():
    living = torch.zeros(800)

    def train():
        for _ in range(4):
            yield living
            living.add_(0.1)

    packed = pack(train(), SIZES)
    assert packed["start"].abs().max() == 0
    assert packed["changes"].float().abs().sum(1).gt(0).all()
