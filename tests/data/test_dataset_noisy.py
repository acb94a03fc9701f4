"""Labels that are wrong on purpose: as many as asked for, never by accident right, and in the training split alone."""

import numpy as np
import pytest

from ddlight.core.errors import UsageError
from ddlight.data import Digits, NoisyLabels
from ddlight.methods.baselines.random import Random
from ddlight.sets import store


def test_the_share_of_each_class_is_flipped_to_every_other_class():
    true = Digits().index("train").labels
    noisy = NoisyLabels(Digits(), 0.2)
    labels = noisy.index("train").labels
    for c in range(10):
        rows = true == c
        assert (labels[rows] != c).sum() == round(0.2 * rows.sum())
    assert (noisy.flipped == (labels != true)).all()
    moves = {(int(a), int(b)) for a, b in zip(true, labels, strict=True) if a != b}
    assert len(moves) == len(set(moves)) > 70
    assert noisy.index("train").ids.tolist() == Digits().index("train").ids.tolist()


def test_other_splits_and_images_stay_as_they_are():
    noisy, plain = NoisyLabels(Digits(held_out=3), 0.5), Digits(held_out=3)
    for split in ("held_out", "test"):
        assert noisy.index(split).labels.tolist() == plain.index(split).labels.tolist()
    np.testing.assert_array_equal(noisy.split("train").images, plain.split("train").images)
    assert noisy.split("train").labels.tolist() == noisy.index("train").labels.tolist()
    assert noisy.info.train == plain.info.train and noisy.info.name == "Digits-noise50"


def test_share_and_seed_name_the_data_and_draw_the_labels():
    first, again, other = (NoisyLabels(Digits(), 0.2, seed) for seed in (0, 0, 1))
    assert first.identity() == again.identity() != other.identity() != NoisyLabels(Digits(), 0.3).identity()
    assert (first.labels == again.labels).all() and (first.labels != other.labels).any()
    assert not NoisyLabels(Digits(), 0.0).flipped.any()


def test_a_set_of_noisy_data_carries_the_wrong_labels(home):
    noisy = NoisyLabels(Digits(), 0.5)
    stored = store.load(Random(noisy, ipc=20, cache=str(home / "c")).condense(), noisy)
    true = Digits().index("train").labels
    indices, _ = store.read_selection(home / next((home / "c").rglob("selection.csv")).parent)
    assert stored.labels.tolist() == noisy.labels[indices].tolist() != true[indices].tolist()


def test_a_share_beyond_everything_is_refused():
    with pytest.raises(UsageError, match=r"0 to 1; given: 1\.2"):
        NoisyLabels(Digits(), 1.2)


def test_the_command_takes_it(command):
    answer = command("fit", "--data=Random", "--data.dataset=NoisyLabels", "--data.dataset.dataset=Digits",
                     "--data.dataset.share=0.3", "--model=HardLabel", "--model.student=MLP", "--dry-run")  # fmt: skip
    assert answer.code == 0, answer.err
    assert "Digits-noise30" in answer.out
