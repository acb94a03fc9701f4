"""The generator that ddlight trains: network, training that is stopped and goes on, the command."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ddlight.core.errors import DataError, UsageError
from ddlight.data import Digits
from ddlight.methods.generative.dit import DiT
from ddlight.methods.generative.engine import training
from ddlight.methods.generative.engine.network import DiTNetwork, sine_places, waves
from ddlight.methods.generative.engine.trained import GeneratorRun, TrainedDiT

TINY = {"width": 16, "depth": 1, "heads": 2, "patch": 4, "batch": 8}


def test_the_network_begins_as_zero_and_hears_class_level_and_place():
    network = DiTNetwork(3, 1, 8, 2, 16, 2, 2, seed=0)
    x, t, y = torch.randn(2, 1, 8, 8), torch.tensor([5, 5]), torch.tensor([0, 1])
    assert network(x, t, y).shape == (2, 2, 8, 8)
    assert not network(x, t, y).any()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.normal_(std=0.2, generator=rng)
    same = network(x[:1].expand(2, -1, -1, -1), t, torch.tensor([1, 1]))
    torch.testing.assert_close(same[0], same[1])
    assert (network(x, t, y) - network(x, t, torch.tensor([2, 2]))).abs().max() > 1e-3
    assert (network(x, t, y) - network(x, t + 400, y)).abs().max() > 1e-3
    assert (network(x.roll(2, -1), t, y).roll(-2, -1) - network(x, t, y)).abs().max() > 1e-3


def test_patches_come_back_to_their_places():
    network = DiTNetwork(1, 2, 6, 3, 8, 0, 2, seed=0)  # no blocks: tokens do not see each other
    with torch.no_grad():
        for p in network.parameters():
            p.normal_(std=0.5, generator=torch.Generator().manual_seed(1))
    x, one = torch.randn(1, 2, 6, 6), (torch.tensor([3]), torch.tensor([0]))
    moved = x.clone()
    moved[..., :3, 3:] += 1
    changed = (network(moved, *one) - network(x, *one)).abs() > 1e-6
    assert changed[..., :3, 3:].any() and not changed[..., 3:, :].any() and not changed[..., :3, :3].any()


def test_places_and_levels_are_told_by_sines_and_cosines():
    assert sine_places(4, 16).shape == (16, 16)
    assert len(sine_places(4, 16).unique(dim=0)) == 16
    expected = torch.tensor([np.cos(7), np.sin(7)], dtype=torch.float32)
    torch.testing.assert_close(waves(torch.tensor([7]))[0, [0, 128]], expected)


def test_the_same_seed_gives_the_same_weights_whatever_torchs_generator_is_at():
    first, second = DiTNetwork(3, 1, 8, 2, 16, 1, 2, seed=4), None
    torch.rand(3)
    second = DiTNetwork(3, 1, 8, 2, 16, 1, 2, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


class Stop(Exception):
    pass


def test_training_that_was_stopped_goes_on_to_the_same_bytes(home, monkeypatch):
    how, digits = TrainedDiT(**TINY, steps=6), Digits(size=8)
    alone = GeneratorRun(how, digits, home / "alone").ensure()
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    run, saved = GeneratorRun(how, digits, home / "stopped"), []
    save = training.Training._save

    def stopping(self, step, *rest):
        save(self, step, *rest)
        saved.append(step)
        if step == 4:
            raise Stop

    monkeypatch.setattr(training.Training, "_save", stopping)
    with pytest.raises(Stop):
        run.ensure()
    assert (run.working / "preview.png").exists()
    again = GeneratorRun(how, digits, home / "stopped").ensure()
    assert saved == [1, 2, 3, 4, 5, 6]
    for name in ("network.safetensors", "samples.png"):
        assert (alone / name).read_bytes() == (again / name).read_bytes()


def test_damaged_progress_begins_anew(home, caplog):
    how, digits = TrainedDiT(**TINY, steps=1), Digits(size=8)
    run = GeneratorRun(how, digits, home)
    run.working.mkdir(parents=True)
    (run.working / "training.progress").write_bytes(b"nonsense")
    with caplog.at_level("WARNING", "ddlight"):
        run.ensure()
    assert "begins anew" in caplog.text
    assert run.manifest()["images_seen"] == 8


def test_the_average_is_that_of_a_plain_loop(tmp_path):
    weight, seen = torch.nn.Parameter(torch.tensor([2.0])), []
    averages, _ = training.Training(4, 0.1, 0.6, True, tmp_path / "p").run(
        {"w": weight}, lambda step: {"loss": weight.sum()}, lambda *_: seen.append(float(weight.detach())), {}
    )
    average = 2.0
    for t, value in enumerate(seen):
        keep = min(0.6, (1 + t) / (10 + t))
        average = keep * average + (1 - keep) * value
    assert float(averages["w"]) == pytest.approx(average, rel=1e-6)
    assert seen == pytest.approx([1.9, 1.8, 1.7, 1.6], abs=1e-5)  # AdamW's steps without weight decay


def test_a_loss_that_is_not_finite_is_one_line(tmp_path):
    weight = torch.nn.Parameter(torch.tensor([float("nan")]))
    with pytest.raises(DataError, match="not finite after 0 steps"):
        training.Training(2, 0.1, 0.6, True, tmp_path / "p").run(
            {"w": weight}, lambda step: {"loss": weight.sum()}, lambda *_: None, {}
        )


class TwoTone(Digits):
    """Flat images, dark ones in the first five classes and light ones in the others."""

    def _read(self, name):
        tones = {k: np.where(s.labels < 5, 30, 220)[:, None, None, None] for k, s in super()._read(name).items()}
        return {
            k: replace(s, images=np.broadcast_to(tones[k], s.images.shape).astype(np.uint8))
            for k, s in super()._read(name).items()
        }


def test_generators_learn_what_classes_look_like(home):
    how = TrainedDiT(width=32, depth=1, heads=2, patch=4, batch=16, steps=100, lr=3e-3, ema=0.9)
    data = DiT(TwoTone(size=8), ipc=4, cache=str(home), backbone=how, steps=8, guidance=1.0)
    data.prepare()
    dark, light = (np.mean([data.make(data.units()[c]).images.mean() for c in pair]) for pair in ((0, 4), (5, 9)))
    assert light - dark > 80


@pytest.mark.parametrize(("given", "said"), [({"steps": 0}, "backbone.steps is 0"), ({"width": 30}, "multiple of")])
def test_numbers_that_cannot_be_are_refused(given, said):
    with pytest.raises(UsageError, match=said):
        TrainedDiT(**given)


def test_a_patch_that_does_not_divide_the_image_is_refused(tmp_path):
    with pytest.raises(UsageError, match="patch 3 does not divide images of 8 pixels"):
        _ = GeneratorRun(TrainedDiT(patch=3), Digits(size=8), tmp_path).patch
    sides = [GeneratorRun(TrainedDiT(), Digits(size=s), tmp_path).patch for s in (8, 24, 32, 64)]
    assert sides == [1, 3, 4, 8]


def test_the_command_trains_it_and_condense_finds_it(command, home):
    words = ("--tiny", "--data=DiT", "--data.dataset=Digits", "--data.ipc=1", "--trainer.accelerator=cpu")
    planned = command("generator", *words, "--dry-run")
    assert planned.code == 0 and "generator TrainedDiT(" in planned.out and "to be made" in planned.out
    made = command("generator", *words)
    assert made.code == 0, made.err
    (folder,) = (home / "cache").glob("Digits/generators/*")
    assert {"samples.png", "network.safetensors", "manifest.json"} == {p.name for p in folder.iterdir()}
    again = command("condense", *words)
    assert again.code == 0, again.err
    assert len(list((home / "cache").glob("Digits/generators/*"))) == 1
    refused = command("generator", "--data=Random", "--data.dataset=Digits")
    assert refused.code == 2 and "Random samples from no generator" in refused.err
