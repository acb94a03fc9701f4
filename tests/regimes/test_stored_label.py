"""Stored labels: the same weights as the teacher online, M views in turn, pruning, damage, two writers."""

import threading

import numpy as np
import pytest
import torch

from ddlight.core.errors import DataError, UsageError
from ddlight.data import Digits
from ddlight.methods.baselines.random import Random
from ddlight.networks.students import ConvNet
from ddlight.networks.teachers import RunTeacher
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.regimes.hard_label import HardLabel
from ddlight.regimes.multi_teacher_label import MultiTeacherLabel
from ddlight.regimes.stored_label import StoredLabel
from ddlight.regimes.teacher_label import TeacherLabel
from ddlight.sets.labels import LabelPlan, LabelStore
from ddlight.train.trainer import Trainer
from ddlight.views.loader import RunLoader

MIXED = Override(batch=8, mix="cutmix", crop_scale=(0.3, 1.0), temperature=4.0, stepped="epoch")


def test_labels_of_which_a_bit_changed_before_they_were_sealed_are_made_again(tmp_path):
    plan, made = LabelPlan(12, 5, 3, 4, 1.0, "fp16", 0, {}), []

    def label(batches):
        made.append(int(batches[0, 0]))
        if made == [0, 1, 2]:
            raise KeyboardInterrupt
        return np.full((12, 3), batches[0, 0], np.float32)

    labels = LabelStore(tmp_path, plan)
    with pytest.raises(KeyboardInterrupt):
        labels.write(label)
    file = next(tmp_path.glob("*.partial/000001.npy"))
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataError, match=r"Unit 1.*again"):
        labels.write(label)
    assert not labels.exists
    labels.write(label)
    labels.verify()
    assert made == [0, 1, 2, 2, 3, 1]
    assert [float(labels.read(m, 0)[0, 0]) for m in range(4)] == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    torch.set_num_threads(1)
    folders = []
    for depth in (1, 2):
        home = tmp_path_factory.mktemp(f"teacher{depth}")
        model = HardLabel(ConvNet(depth, 8), budget=Budget(steps=40), seed=depth)
        fit(model, home, ipc=5)
        folders.append(str(home))
    return folders


def fit(model, home, ipc=2, run=".", **options):
    data = Random(Digits(), ipc=ipc, cache=str(home / "sets"))
    trainer = Trainer(run=str(home / run), accelerator="cpu", devices=1, progress=False, **options)
    trainer.fit(model, datamodule=data)
    return {k: v.clone() for k, v in model.network.state_dict().items()}


FOUR = Budget(epochs=4)


def stored(teachers, home, budget=FOUR, **options):
    options = {"recipe": MIXED, **options}
    given = [RunTeacher(t) for t in teachers]
    return StoredLabel(ConvNet(2, 8), teachers=given, budget=budget, cache=str(home), **options)


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def distance(a, b):
    """Largest difference of weights, but for the convolutions' biases.

    Instance norm takes those out again, so that their gradient is rounding and nothing else; AdamW divides it by its
    own size, and whatever the labels, these biases move by up to the learning rate at each step, on every machine
    elsewhere.
    """
    biases = [f"features.{place}.bias" for place in (0, 4)]
    assert set(biases) < a.keys()
    return max(float((a[k] - b[k]).abs().max()) for k in a.keys() - set(biases))


def test_all_passes_in_fp32_end_with_the_weights_of_the_teacher_online(teachers, tmp_path):
    online = TeacherLabel(ConvNet(2, 8), teacher=RunTeacher(teachers[0]), recipe=MIXED, budget=Budget(epochs=4))
    expected = fit(online, tmp_path, run="online")
    single = stored(teachers[:1], tmp_path, storage="fp32")
    assert same(expected, fit(single, tmp_path, run="stored"))
    model = stored(teachers[:1], tmp_path)
    half = fit(model, tmp_path, run="half")
    assert not same(expected, half)
    assert distance(expected, half) < 2e-4
    for place in np.ndindex(4, 3):  # labels equal up to the storage type: half a unit in the last place of fp16
        np.testing.assert_array_equal(model.labels.read(*place), single.labels.read(*place).astype(np.float16))


def test_mean_logits_of_several_teachers_are_stored_as_they_answer_online(teachers, tmp_path):
    given = [RunTeacher(t) for t in teachers]
    online = MultiTeacherLabel(ConvNet(2, 8), teachers=given, recipe=MIXED, budget=Budget(epochs=3))
    expected = fit(online, tmp_path, run="online")
    model = stored(teachers, tmp_path, Budget(epochs=3), storage="fp32", match="mse")
    model.protocol = "edc"
    assert same(expected, fit(model, tmp_path, run="stored"))


def test_labels_that_depend_on_the_batch_are_stored_for_the_parts_that_are_trained_on(tmp_path):
    normed = HardLabel(ConvNet(2, 8, "batch"), budget=Budget(steps=40))
    fit(normed, tmp_path, ipc=5, run="normed")
    names, recipe = [str(tmp_path / "normed")], Override(**{**vars(MIXED), "batch_statistics": True})
    whole = stored(names, tmp_path, storage="fp32", recipe=recipe)
    halves = stored(names, tmp_path, storage="fp32", recipe=recipe)
    online = TeacherLabel(ConvNet(2, 8), teacher=RunTeacher(names[0]), recipe=recipe, budget=FOUR)
    first = fit(whole, tmp_path, run="whole")
    second = fit(halves, tmp_path, run="halves", accumulate_grad_batches=2)
    expected = fit(online, tmp_path, run="online", accumulate_grad_batches=2)
    assert same(second, expected)
    assert not same(second, first)
    assert whole.labels.folder != halves.labels.folder


def test_fewer_labels_replay_the_first_views_in_turn(teachers, tmp_path):
    model = stored(teachers[:1], tmp_path, Budget(epochs=5), labels_per_image=2, storage="fp32")
    seen, build = [], model.view

    def watch(batch, step):
        view = build(batch, step)
        seen.append((view.images.clone(), view.stored.clone(), view.ids.clone()))
        return view

    model.view = watch
    fit(model, tmp_path)
    assert len(seen) == 15
    for step in range(6, 15):
        assert all(torch.equal(a, b) for a, b in zip(seen[step], seen[step % 6], strict=True))
    assert not torch.equal(seen[0][0], seen[3][0])
    teacher = model.teachers[0]
    info = Digits().info
    for images, label, _ in seen[:6]:
        pixels = images * torch.tensor(info.std) + torch.tensor(info.mean)
        assert torch.allclose(teacher.logits(pixels), label, atol=1e-4)
    assert model.labelled_images() == 40
    assert model.label_bytes(model.run, 10) == 40 * 10 * 4


def test_pruned_labels_go_round_what_was_kept(teachers, tmp_path):
    model = stored(teachers[:1], tmp_path, Budget(epochs=6), keep=0.5)
    fit(model, tmp_path)
    kept = model.run.replay
    assert kept.shape == (9, 2)
    assert len({tuple(row) for row in kept.tolist()}) == 9
    sizes = [8 if index < 2 else 4 for index in kept[:, 1]]
    assert model.images_seen(18) == 2 * sum(sizes)
    assert model.images_seen(11) == sum(sizes) + sum(sizes[:2])
    assert model.labels.verify() == sum(sizes) * 10 * 2 + 128 * len(set(kept[:, 0]))


def test_labels_are_shared_by_students_and_not_by_other_views(teachers, tmp_path):
    first = stored(teachers[:1], tmp_path)
    fit(first, tmp_path, run="first")
    other = stored(teachers[:1], tmp_path)
    other.student = ConvNet(1, 8)
    other.teachers[0].logits = None  # nobody asks it again
    fit(other, tmp_path, run="other")
    assert other.labels.folder == first.labels.folder
    names = {stored(teachers[:1], tmp_path, **o).storage: o for o in ({"storage": "fp16"}, {"storage": "fp32"})}
    folders = set()
    for options in ({}, {"seed": 1}, {"storage": "fp32"}, {"labels_per_image": 2}, {"keep": 0.5}):
        model = stored(teachers[:1], tmp_path, **options)
        fit(model, tmp_path, run=f"run{len(folders)}")
        folders.add(model.labels.folder)
    assert len(folders) == 5
    assert len(names) == 2
    half = stored(teachers[:1], tmp_path)
    half.teachers = [RunTeacher(teachers[0], precision="bf16")]
    fit(half, tmp_path, run="half")
    assert half.labels.folder not in folders
    labels = [model.labels.read(0, 0) for model in (first, half)]
    assert 0 < abs(labels[0] - labels[1]).max() < 0.1


def test_labels_that_were_changed_are_refused(teachers, tmp_path):
    model = stored(teachers[:1], tmp_path)
    fit(model, tmp_path, run="first")
    shard = sorted(model.labels.folder.glob("*.npy"))[1]
    content = bytearray(shard.read_bytes())
    content[-3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"stored labels .* is not what was sealed: 000001.npy"):
        fit(stored(teachers[:1], tmp_path), tmp_path, run="second")


def test_neither_and_both_sources_of_labels_are_refused(teachers):
    for options in ({}, {"teachers": [RunTeacher(teachers[0])], "published": "folder"}):
        with pytest.raises(UsageError, match="takes teachers, whose labels it stores, or a folder"):
            StoredLabel(ConvNet(1, 8), **options)


@pytest.mark.parametrize("options", [{"labels_per_image": 0}, {"keep": 0.0}, {"keep": 1.5}])
def test_numbers_that_make_no_sense_are_refused(teachers, tmp_path, options):
    with pytest.raises(UsageError, match="labels_per_image is at least 1 and keep lies above 0"):
        fit(stored(teachers[:1], tmp_path, **options), tmp_path)


def plan(**options):
    return LabelPlan(**{"images": 10, "batch": 4, "classes": 3, "passes": 6, "keep": 1.0, "storage": "fp32",
                        "seed": 0, "names": {}, **options})  # fmt: skip


def answer(batches):
    """Labels that say where they belong: pass, batch, row."""
    rows = [(m, b, r) for m, b in batches.tolist() for r in range(4 if b < 2 else 2)]
    return np.array(rows, np.float32)


@pytest.mark.parametrize("keep", [1.0, 0.4])
def test_a_batch_reads_its_own_rows(tmp_path, keep):
    labels = LabelStore(tmp_path, plan(keep=keep))
    labels.write(answer)
    for epoch, index in reversed(labels.pool.tolist()):
        np.testing.assert_array_equal(labels.read(epoch, index), answer(np.array([[epoch, index]])))
    assert labels.verify() - 128 * len(set(labels.pool[:, 0])) == labels.plan.size == labels.plan.views * 3 * 4


def test_two_writers_write_one_store_and_a_killed_one_is_continued(tmp_path):
    made = []

    def label(batches):
        made.append(int(batches[0, 0]))
        if len(made) == 3:
            raise KeyboardInterrupt
        return answer(batches)

    with pytest.raises(KeyboardInterrupt):
        LabelStore(tmp_path, plan()).write(label)
    assert not LabelStore(tmp_path, plan()).exists
    stores = [LabelStore(tmp_path, plan()) for _ in range(2)]
    threads = [threading.Thread(target=s.write, args=(label, i / 2)) for i, s in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert stores[0].exists
    assert sorted(made) == [0, 1, 2, 2, 3, 4, 5]
    alone = LabelStore(tmp_path / "alone", plan())
    alone.write(answer)
    for shard in alone.folder.glob("*.npy"):
        assert shard.read_bytes() == (stores[0].folder / shard.name).read_bytes()


def test_the_loader_visits_what_it_is_told_and_resumes_there():
    replay = np.array([[0, 1], [2, 0], [2, 2]])
    loader = RunLoader(10, 4, 7, seed=3, replay=replay)
    whole = RunLoader(10, 4, 9, seed=3)
    wanted = {(b.epoch, b.index): b.ids for b in whole}
    got = [(b.epoch, b.index, b.ids) for b in loader]
    assert [(e, i) for e, i, _ in got] == [tuple(replay[s % 3]) for s in range(7)]
    assert all(torch.equal(ids, wanted[e, i]) for e, i, ids in got)
    again = RunLoader(10, 4, 7, seed=3, replay=replay)
    again.load_state_dict({"handed_out": 4})
    assert [(b.epoch, b.index) for b in again] == [(e, i) for e, i, _ in got[4:]]
