"""What every method, regime and student must do, whoever wrote it; found by reading the source folders, not by name."""

import inspect
import shutil
import sys
import threading
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from ddlight.cli.tiny import tiny_teachers
from ddlight.core import artefact, discover, naming
from ddlight.core.artefact import Unit
from ddlight.core.errors import DataError
from ddlight.core.files import sha256
from ddlight.core.randomness import generator
from ddlight.data import Digits
from ddlight.methods.base import Selector, Synthesiser
from ddlight.methods.baselines.random import Random
from ddlight.networks.students import MLP, ConvNet, ResNet, ResNetAP, Student, Timm, Torchvision
from ddlight.networks.teachers import RunTeacher
from ddlight.recipes.budget import Budget
from ddlight.regimes.hard_label import HardLabel
from ddlight.sets import store
from ddlight.sets.store import Synthesis
from ddlight.train.trainer import Trainer

METHODS = [entry.name for entry in discover.methods()]
REGIMES = [entry.name for entry in discover.regimes()]
IPC = 2


@pytest.fixture(scope="module")
def tiny_teacher(tmp_path_factory):
    """Put a tiny teacher's run where `--tiny` expects it: tiny_teacher("runs/tiny/teacher0"). Each is trained once."""
    from ddlight.cli.command_line import run

    kept = tmp_path_factory.mktemp("tiny")

    def put(folder):
        made = kept / Path(folder).name
        if not made.exists():
            asked = {"data": {"init_args": {"teachers": [{"init_args": {"run": folder}}]}}}
            for words in tiny_teachers(asked):
                run(["fit", *words, f"--trainer.run={made}"])
        shutil.copytree(made, folder, dirs_exist_ok=True)

    return put


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Where scoring runs and experts lie that tests share, whose names tell them apart."""
    return tmp_path_factory.mktemp("scored")


@pytest.fixture
def method(command, home, tiny_teacher, scored):
    """Build a method as the command line does, at its own tiny size, with a cache of its own: method("Random", ...).

    In the cache that is not named, scoring runs and experts are shared with other tests.
    """
    from ddlight.cli.command_line import run

    built = {}
    (home / "cache" / "Digits").mkdir(parents=True)
    for name in ("scoring", "experts"):
        (scored / name).mkdir(exist_ok=True)
        (home / "cache" / "Digits" / name).symlink_to(scored / name)

    def build(name, cache="cache", seed=0, ipc=IPC):
        key = (name, seed, ipc)
        if key not in built:
            words = [f"--data={name}", "--data.dataset=Digits", f"--data.ipc={ipc}", f"--data.seed={seed}"]
            built[key] = run(["condense", "--tiny", "--dry-run", *words]).datamodule
            for teacher in built[key].all_teachers:
                tiny_teacher(teacher.run)
        kind = type(built[key])
        options = {name: getattr(built[key], name) for name in naming.parameters(kind)}
        return kind(**{**options, "cache": str(home / cache)})

    return build


def files_of(folder):
    """Hash of each file of a set but the manifest, which holds times."""
    return {str(p.relative_to(folder)): sha256(p) for p in folder.rglob("*") if p.is_file() and p.suffix != ".json"}


def same_set(first, second):
    """Whether two sealed sets hold the same bytes, and say the same of how they are to be read."""
    one, other = (artefact.verify(folder) for folder in (first, second))
    keys = ("content_sha256", "labels", "learned_lr")
    return files_of(first) == files_of(second) and all(one[key] == other[key] for key in keys)


class Stop(Exception):
    """What a killed process looks like from inside."""


def stop_after(data, units, monkeypatch):
    """Let `make` raise once it has made so many units."""
    make, made = data.make, []

    def stopping(unit):
        if len(made) == units:
            raise Stop
        made.append(unit.number)
        return make(unit)

    monkeypatch.setattr(data, "make", stopping)
    return made


# --- the contract of a method ---


def check_counts(method, name):
    """Right number of images of each class, and the labels that go with them."""
    data = method(name)
    stored = store.load(data.condense(), data.dataset)
    labels = stored.labels if stored.labels.ndim == 1 else stored.labels.argmax(1)
    assert len(stored.images) == len(stored.labels) == stored.manifest["images"]
    assert stored.images.shape[1:] == (1, 32, 32)
    if data.expected_images:
        assert len(stored.images) == data.expected_images
    if isinstance(data, Selector):
        assert np.bincount(labels, minlength=10).tolist() == [IPC] * 10
    assert set(labels) == set(range(10))


def check_same_bytes(method, name, monkeypatch):
    """One process, a second one, two and four workers (one seals), and a killed and resumed one: the same bytes."""
    seal, sealed = artefact.seal, []
    monkeypatch.setattr(artefact, "seal", lambda folder, *facts: sealed.append(folder) or seal(folder, *facts))
    alone = method(name, "alone").condense()
    assert same_set(alone, method(name, "again").condense())
    for ranks in (2, 4):
        workers = [method(name, f"ranks{ranks}") for _ in range(ranks)]
        errors = run_together([lambda w=w, r=r, n=ranks: w.condense(r, n) for r, w in enumerate(workers)])
        assert not errors
        assert same_set(alone, workers[0].folder)
        assert sealed.count(workers[0].folder) == 1
        assert not list(workers[0].folder.parent.glob("*.partial"))
    killed = method(name, "killed")
    before = len(killed.units()) // 2
    first = stop_after(killed, before, monkeypatch)
    with pytest.raises(Stop):
        killed.condense()
    assert not killed.folder.exists()
    resumed = method(name, "killed")
    rest = stop_after(resumed, len(resumed.units()), monkeypatch)
    assert same_set(alone, resumed.condense())
    assert sorted([*first, *rest]) == [unit.number for unit in resumed.units()]


def run_together(calls):
    """Run calls in threads; give back what they raised."""
    errors = []

    def guarded(call):
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return errors


def check_round_trip(method, name):
    """What `make` gives is what `load` gives; a selection's ids are those of its images."""
    data = method(name)
    folder = data.condense()
    made = store.join([data.make(unit) for unit in data.units()])
    stored = store.load(folder, data.dataset)
    if isinstance(made, Synthesis):
        np.testing.assert_array_equal(stored.images, made.images)
        np.testing.assert_array_equal(stored.labels, made.labels)
        return
    train = data.dataset.split("train")
    indices, ids = store.read_selection(folder)
    np.testing.assert_array_equal(indices, made.indices)
    np.testing.assert_array_equal(ids, train.ids[indices])
    np.testing.assert_array_equal(stored.images, train.images[indices])
    np.testing.assert_array_equal(stored.labels, train.labels[indices])
    assert len(set(ids)) == len(ids)


def check_names(method, name):
    """The set's name depends on what shapes it, and arguments can be read back by name."""
    data = method(name)
    assert data.fingerprint == method(name, "elsewhere").fingerprint
    assert data.fingerprint not in (method(name, seed=1).fingerprint, method(name, ipc=IPC + 1).fingerprint)
    for argument in naming.parameters(type(data)):
        assert hasattr(data, argument)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_the_right_images_of_each_class(method, name):
    check_counts(method, name)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_the_same_bytes_however_it_is_run(method, name, monkeypatch):
    check_same_bytes(method, name, monkeypatch)


@pytest.mark.parametrize("name", METHODS)
def test_a_set_comes_back_from_disk_as_it_was_made(method, name):
    check_round_trip(method, name)


@pytest.mark.parametrize("name", METHODS)
def test_a_set_is_named_by_what_shapes_it(method, name):
    check_names(method, name)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_is(name):
    entry = next(e for e in discover.methods() if e.name == name)
    assert entry.summary.endswith(".")
    assert entry.paper


def test_another_seed_is_another_random_set(method):
    sets = [frozenset(store.read_selection(method("Random", seed=seed).condense())[1]) for seed in range(5)]
    assert len(set(sets)) == 5


# --- a method that takes gradients, and whose units are not classes ---


class Matched(Synthesiser):
    """Images moved by gradient descent towards the mean of their class, two classes and one ipc index at a time."""

    space = "normalised"

    def __init__(self, dataset, ipc=2, seed=0, cache=None, steps=8):
        super().__init__(dataset, ipc, seed, cache)
        self.steps = steps

    def estimate_seconds(self):
        return 1.0

    def units(self):
        places = [(pair, k) for pair in range(5) for k in range(self.ipc)]
        return [Unit(n, (2 * pair, 2 * pair + 1), (k,)) for n, (pair, k) in enumerate(places)]

    def means(self, classes):
        """Mean image of each class, normalised: (2, 1, 32, 32)."""
        split, info = self.dataset.split("train"), self.dataset.info
        means = [split.images[split.labels == c].mean(0) / 255 for c in classes]
        return torch.tensor((np.stack(means) - info.mean[0]) / info.std[0], dtype=torch.float32)

    def make(self, unit):
        goal = self.means(unit.classes)
        noise = generator(self.seed, "matched", unit.number).standard_normal(goal.shape)
        images = torch.tensor(noise, dtype=torch.float32, requires_grad=True)
        optimizer = torch.optim.SGD([images], lr=0.25 * goal.numel())
        for _ in range(self.steps):
            optimizer.zero_grad()
            (images - goal).square().mean().backward()
            optimizer.step()
        return self.finish(images.detach().numpy(), np.array(unit.classes))

    def finish(self, images, classes):
        return Synthesis(images, classes.astype(np.int64), source_images=144)


class MatchedBytes(Matched):
    """The same, as pictures of 8 bits."""

    space = "pixel"

    def finish(self, images, classes):
        info = self.dataset.info
        pixels = (images * info.std[0] + info.mean[0]).clip(0, 1) * 255
        return Synthesis(pixels.round().astype(np.uint8), classes.astype(np.int64), source_images=144)


class MatchedSoft(Matched):
    """The same, with probabilities for labels, and a learning rate."""

    label_kind = "probabilities"
    learns_lr = True

    def finish(self, images, classes):
        labels = np.eye(10, dtype=np.float32)[classes] * 0.9 + 0.01
        return Synthesis(images, labels, source_images=144, learned_lr=0.1)


VARIANTS = (Matched, MatchedBytes, MatchedSoft)


@pytest.fixture
def own_method(home):
    """Build one of the variants as `method` does."""

    def build(name, cache="cache", seed=0, ipc=IPC):
        return globals()[name](Digits(), ipc=ipc, seed=seed, cache=str(home / cache))

    return build


@pytest.mark.parametrize("kind", VARIANTS, ids=lambda kind: kind.__name__)
def test_gradients_and_units_of_any_shape_meet_the_contract(own_method, monkeypatch, kind):
    check_counts(own_method, kind.__name__)
    check_same_bytes(own_method, kind.__name__, monkeypatch)
    check_round_trip(own_method, kind.__name__)
    check_names(own_method, kind.__name__)


def test_gradients_moved_the_images(own_method):
    data = own_method("Matched")
    stored = store.load(data.condense(), data.dataset)
    goal = data.means(range(10)).numpy()
    far = np.square(generator(0, "matched", 0).standard_normal((1, 1, 32, 32)) - goal).mean()
    near = np.square(stored.images - goal[stored.labels]).mean()
    assert near < 1e-3 * far  # 8 steps that each halve the distance leave (1/2)**16 of its square
    assert stored.images.dtype == np.float32
    assert stored.images.min() < 0
    assert (stored.manifest["space"], stored.manifest["source_images"]) == ("normalised", 144 * 10)


def test_a_learning_rate_is_sealed_by_a_process_that_made_no_unit(own_method, monkeypatch):
    maker, sealer = own_method("MatchedSoft"), own_method("MatchedSoft")
    for unit in maker.units():
        maker.artefact.make_unit(maker.artefact.workspace(), unit)
    made = stop_after(sealer, 0, monkeypatch)
    assert artefact.verify(sealer.condense())["learned_lr"] == 0.1
    assert not made


def test_bytes_are_pictures_in_class_folders(own_method):
    data = own_method("MatchedBytes")
    folder = data.condense()
    assert len(list(folder.glob("images/00003_3/*.png"))) == IPC
    assert store.load(folder).images.dtype == np.uint8


# --- every regime and every student ---


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Folders of two tiny runs."""
    from ddlight.train.trainer import Trainer

    torch.set_num_threads(1)
    folders = []
    for depth in (1, 2):
        home = tmp_path_factory.mktemp(f"teacher{depth}")
        model = HardLabel(ConvNet(depth, 8), budget=Budget(steps=3), seed=depth)
        data = Random(Digits(), ipc=2, cache=str(home))
        Trainer(run=str(home), accelerator="cpu", devices=1, progress=False).fit(model, datamodule=data)
        folders.append(str(home))
    return folders


def build_regime(name, teachers, student=None, **options):
    """A regime with as many teachers as it takes."""
    entry = next(e for e in discover.regimes() if e.name == name)
    cls = getattr(import_module(entry.module), name)
    takes = inspect.signature(cls.__init__).parameters
    given = {"teacher": RunTeacher(teachers[0]), "teachers": [RunTeacher(folder) for folder in teachers]}
    options |= {key: value for key, value in given.items() if key in takes}
    return cls(student or ConvNet(2, 8), budget=Budget(steps=2), **options)


def losses(folder):
    """The training curve's losses."""
    return [float(line.split(",")[2]) for line in Path(folder, "metrics.csv").read_text().splitlines()[1:]]


@pytest.mark.parametrize("kind", (Random, *VARIANTS), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", REGIMES)
def test_every_regime_trains_on_every_kind_of_set(fit, home, teachers, name, kind):
    model = build_regime(name, teachers)
    trainer = fit(model, kind(Digits(), ipc=IPC))
    assert trainer.global_step == 2
    assert len(losses(home / "run")) == 2
    assert np.isfinite(losses(home / "run")).all()
    assert np.isfinite(model.scores["test"].nll)
    assert model.scores["test"].images == len(Digits().split("test").labels)


@pytest.mark.parametrize("name", REGIMES)
def test_a_regime_keeps_teachers_out_of_the_checkpoint(fit, home, teachers, name):
    student = ConvNet(2, 8)
    trainer = fit(build_regime(name, teachers, student), Random(Digits(), ipc=IPC), test=False)
    trainer.save_checkpoint(home / "x.ckpt")
    state = torch.load(home / "x.ckpt", weights_only=True)["state_dict"]
    own = {f"network.{key}" for key in student.build(10, 1, 32).state_dict()}
    assert {key for key in state if key.startswith("network.")} == own
    assert not [key for key in state if "teacher" in key]


class ColourDigits(Digits):
    """Digits with three equal channels."""

    @property
    def info(self):
        info = super().info
        return replace(info, channels=3, mean=info.mean * 3, std=info.std * 3)

    def _read(self, name):
        return {k: replace(v, images=v.images.repeat(3, 1)) for k, v in super()._read(name).items()}


STUDENTS = {
    "ConvNet": ConvNet(3, 8),
    "MLP": MLP(16),
    "ResNet": ResNet(18),
    "ResNetAP": ResNetAP(10),
    "Timm": Timm("test_resnet"),
    "Torchvision": Torchvision("shufflenet_v2_x0_5"),
}


def test_every_student_is_tried():
    ours = {kind.__name__ for kind in Student.__subclasses__() if kind.__module__ == Student.__module__}
    assert set(STUDENTS) == ours


@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_trains(fit, home, name):
    dataset = {"Torchvision": ColourDigits(), "ResNet": Digits(size=16)}.get(name, Digits())
    data = Random(dataset, ipc=1)
    trainer = fit(HardLabel(STUDENTS[name], budget=Budget(steps=2)), data, test=False)
    assert trainer.global_step == 2
    assert np.isfinite(losses(home / "run")).all()
    assert (home / "run" / "student.safetensors").exists()


# --- a method in a folder of the user's ---

MINE = '''
"""Mine: the first images of each class."""

from ddlight.data.base import RealDataset
from ddlight.methods.base import Selector


class FirstOfEach(Selector):
    """The first ipc images of each class.

    Paper: none.

    Args:
        dataset: the real dataset.
        ipc: images per class.
        seed: without effect.
        cache: folder of condensed sets.
        skip: images of each class to leave out first.
    """

    tiny = {"skip": 1}

    def __init__(
        self, dataset: RealDataset, ipc: int = 10, seed: int = 0, cache: str | None = None, skip: int = 0
    ) -> None:
        super().__init__(dataset, ipc, seed, cache)
        self.skip = skip

    def select(self, unit, candidates):
        return candidates[self.skip : self.skip + self.ipc]
'''


@pytest.fixture
def mine(home, monkeypatch):
    """A folder of the user's with one method, named by DDLIGHT_METHODS."""
    folder = home / "my_methods"
    folder.mkdir()
    (folder / "first_of_each.py").write_text(MINE)
    monkeypatch.setenv("DDLIGHT_METHODS", str(folder))
    return folder


def test_a_method_of_the_users_is_listed(command, mine):
    answer = command("methods", "FirstOfEach")
    assert answer.code == 0
    assert "FirstOfEach: The first ipc images of each class." in answer.out
    assert "select" in answer.out


def test_a_method_of_the_users_is_an_option_of_every_command(command, mine, home):
    words = ("--data=FirstOfEach", "--data.dataset=Digits", "--data.ipc=3", "--data.skip=2")
    cpu = ("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.progress=false")
    fitted = command("fit", *words, "--model=HardLabel", "--model.student=MLP", "--model.budget.steps=2", *cpu)
    assert fitted.code == 0, fitted.err
    indices, _ = store.read_selection(next((home / "cache").rglob("selection.csv")).parent)
    labels = Digits().split("train").labels
    assert indices.tolist() == [i for c in range(10) for i in np.flatnonzero(labels == c)[2:5]]
    shown = command("show", next((home / "cache").rglob("manifest.json")).parent)
    assert (shown.code, "FirstOfEach" in shown.out) == (0, True)
    wrong = command("fit", "--data=FirstOfEch", "--data.dataset=Digits", "--model=HardLabel", "--model.student=MLP")
    assert wrong.code == 2
    assert "Did you mean FirstOfEach" in wrong.err


def test_a_method_that_does_not_say_what_its_dataset_is_gets_told(command, mine):
    (mine / "first_of_each.py").unlink()
    (mine / "untyped.py").write_text(MINE.replace("dataset: RealDataset", "dataset").replace("FirstOfEach", "Untyped"))
    answer = command("condense", "--data=Untyped", "--data.dataset=Digits")
    assert answer.code == 2
    assert "Untyped takes a dataset" in answer.err
    assert "dataset: RealDataset" in answer.err


def test_a_method_of_the_users_meets_the_contract(method, mine, monkeypatch):
    check_counts(method, "FirstOfEach")
    check_same_bytes(method, "FirstOfEach", monkeypatch)
    check_round_trip(method, "FirstOfEach")
    check_names(method, "FirstOfEach")


def test_a_synthesiser_that_does_not_say_how_long_it_takes_is_made_by_fit(tmp_path):
    class Flat(Synthesiser):
        def make(self, unit):
            shape = (self.ipc, self.dataset.info.channels, 8, 8)
            return Synthesis(np.full(shape, 20 * unit.classes[0], np.uint8), np.full(self.ipc, unit.classes[0]))

    trainer = Trainer(run=str(tmp_path / "run"), accelerator="cpu", devices=1, progress=False)
    data = Flat(Digits(size=8), ipc=1, cache=str(tmp_path))
    trainer.fit_run(HardLabel(MLP(width=4, depth=1), budget=Budget(steps=2)), data)
    assert data.stored is not None and len(data.stored.images) == 10


@pytest.mark.parametrize("chosen", [lambda c: c[:1], lambda c: c[[0, 0, 1]], lambda c: c[:3] + 1438])
def test_a_selector_of_ones_own_gives_ipc_different_images_of_the_class(tmp_path, chosen):
    class Own(Selector):
        def select(self, unit, candidates):
            return chosen(candidates)

    with pytest.raises(DataError, match=r"Own\.select gave \d positions, \d different ones of class 0 among them"):
        Own(Digits(size=8), ipc=3, cache=str(tmp_path)).condense()


@pytest.mark.parametrize("chosen", [lambda c: c[:3] / 2, lambda c: c[None, :3], lambda c: c < 7, lambda c: list("abc")])
def test_a_selector_of_ones_own_gives_positions(tmp_path, chosen):
    class Own(Selector):
        def select(self, unit, candidates):
            return chosen(candidates)

    with pytest.raises(DataError, match=r"Own\.select gave \S+ of shape .* for class 0; it gives positions"):
        Own(Digits(size=8), ipc=3, cache=str(tmp_path)).condense()


def digits_of(unit, count=3, side=8, dtype=np.uint8):
    return np.full((count, 1, side, side), unit.classes[0], dtype), np.full(count, unit.classes[0])


def changed(**options):
    return lambda unit: digits_of(unit, **options)


def with_images(change):
    return lambda unit: (change(digits_of(unit)[0]), digits_of(unit)[1])


def with_labels(change):
    return lambda unit: (digits_of(unit)[0], change(digits_of(unit)[1]))


MADE = {
    "too many": (changed(count=30), r"gave 30 images; ipc=3 of each of its 1 class are expected"),
    "too few": (changed(count=2), "gave 2 images; ipc=3"),
    "one image lost": (with_images(lambda x: x[:2]), r"labels int64 of shape \(3,\) for 2 images"),
    "labels out of range": (with_labels(lambda y: y + 10), r"images of class 10; of class 0 \(0\) alone is expected"),
    "labels of another class": (with_labels(lambda y: y + 1), "images of class 1; of class 0"),
    "fractions": (with_labels(lambda y: y + 0.5), r"labels float64 of shape \(3,\)"),
    "soft labels of other classes": (with_labels(lambda y: np.eye(4)[y * 0]), r"labels float64 of shape \(3, 4\)"),
    "soft labels that are NaN": (with_labels(lambda y: np.full((3, 10), np.nan)), "some not finite"),
    "NaN": (with_images(lambda x: x * np.float32("nan")), "gave 192 numbers that are not finite"),
    "floats up to 255": (with_images(lambda x: x + np.float32(200)), "floats from 200 to 200 in 'pixel' space"),
    "channels last": (with_images(lambda x: x.transpose(0, 2, 3, 1)), r"images uint8 of shape \(3, 8, 8, 1\)"),
    "another side": (
        changed(side=16),
        r"images uint8 of shape \(3, 1, 16, 16\); uint8 or float32 of shape \(n, 1, 8, 8\)",
    ),
    "whole numbers": (changed(dtype=np.int64), "images int64 of shape"),
    "nothing": (lambda unit: None, "returned NoneType; a Synthesis, or"),
    "a selection": (lambda unit: store.Selection(np.arange(3)), "returned Selection; a Synthesis"),
    "objects": (with_images(lambda x: x.astype(object)), "images object of shape"),
}


@pytest.mark.parametrize("case", MADE)
def test_a_synthesiser_of_ones_own_gives_what_a_set_is_made_of(tmp_path, case):
    give, message = MADE[case]

    class Own(Synthesiser):
        def make(self, unit):
            return give(unit)

    with pytest.raises(DataError, match=rf"Own\.make of class 0 \(0\) .*{message}"):
        Own(Digits(size=8), ipc=3, cache=str(tmp_path)).condense()
    assert not list(tmp_path.rglob("manifest.json"))


GOOD = {
    "a tuple": lambda unit: digits_of(unit),
    "tensors": lambda unit: tuple(torch.tensor(x) for x in digits_of(unit)),
    "doubles": lambda unit: (digits_of(unit)[0] / 10, np.eye(10)[digits_of(unit)[1]]),
    "small labels": lambda unit: (digits_of(unit)[0], digits_of(unit)[1].astype(np.uint8)),
}


@pytest.mark.parametrize("case", GOOD)
def test_images_and_labels_of_ones_own_are_taken_as_they_come(tmp_path, case):
    class Own(Synthesiser):
        def make(self, unit):
            return GOOD[case](unit)

    data = Own(Digits(size=8), ipc=3, cache=str(tmp_path))
    data.condense()
    stored = data.read()
    assert len(stored.images) == 30 and stored.labels.dtype in (np.int64, np.float32)
    assert stored.images.dtype == (np.float32 if case == "doubles" else np.uint8)


def test_units_of_ones_own_add_up_to_ipc(tmp_path):
    """Each unit may make what it likes of its images, and a class that ends with too many is not sealed."""

    class Pieces(Synthesiser):
        def units(self):
            return [Unit(2 * c + k, (c,), (k,)) for c in range(10) for k in range(2)]

        def make(self, unit):
            return digits_of(unit, count=2 if unit.number == 7 else 1)

    with pytest.raises(DataError, match=r"Pieces made 3 images of class 3 \(3\) and ipc=2 is expected. Nothing was"):
        Pieces(Digits(size=8), ipc=2, cache=str(tmp_path)).condense()
    assert not list(tmp_path.rglob("manifest.json"))


def test_code_of_ones_own_that_is_edited_makes_another_set(home, mine):
    """The file of a plug-in and those that it imports name its sets; the package's own keep their version."""

    def made():
        for name in [name for name in sys.modules if name.startswith(discover.EXTRA_PACKAGE)]:
            del sys.modules[name]
        discover.import_extra()
        kind = sys.modules["ddlight_extra.first_of_each"].FirstOfEach
        return kind(Digits(size=8), ipc=2).fingerprint

    file = mine / "first_of_each.py"
    first = made()
    assert made() == first
    file.write_text(MINE.replace("self.skip + self.ipc]", "self.skip + self.ipc][::-1]"))
    edited = made()
    (mine / "helper.py").write_text("def order(x):\n    return x\n")
    file.write_text("from ddlight_extra.helper import order\n" + MINE)
    with_helper = made()
    (mine / "helper.py").write_text("def order(x):\n    return x[::-1]\n")
    assert len({first, edited, with_helper, made()}) == 4
    assert discover.source_digest(Random) is None
