"""Teachers: logits against the plain network, what they are not part of, class pruning, and complaints."""

import copy
import io
import pickle
import shutil
from urllib.error import URLError

import huggingface_hub.constants
import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from ddlight.core.errors import DataError, UsageError
from ddlight.data import Digits
from ddlight.networks.export import StudentCard, load_student, save_student
from ddlight.networks.students import ConvNet, ResNet
from ddlight.networks.teachers import (
    FileTeacher,
    RunTeacher,
    TimmTeacher,
    TorchvisionTeacher,
    check_teacher,
    mean_logits,
)
from ddlight.views.normalise import normalise

SMALL = "shufflenet_v2_x0_5"
IMAGENET = (torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))


def normalised(images, mean, std):
    return (images - mean[:, None, None]) / std[:, None, None]


@pytest.fixture
def shufflenet(tmp_path):
    """torchvision's smallest network with 1000 classes and a file of its weights."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(SMALL).eval()
    torch.save(network.state_dict(), tmp_path / "shuffle.pth")
    return network, str(tmp_path / "shuffle.pth")


@pytest.fixture
def convnet(tmp_path):
    """A grey ConvNet with 3 classes, 8 pixels, and a file of its weights."""
    torch.manual_seed(0)
    network = ConvNet(depth=2, width=4).build(3, 1, 8).eval()
    torch.save({"model": network.state_dict()}, tmp_path / "grey.pth")
    return network, FileTeacher(ConvNet(depth=2, width=4), str(tmp_path / "grey.pth"), [0.3], [0.2], 8)


def test_torchvision_teacher_from_a_file(shufflenet):
    network, file = shufflenet
    teacher = TorchvisionTeacher(SMALL, file=file)
    teacher.load(1000, 3, 224)
    images = torch.rand(2, 3, 224, 224)
    torch.testing.assert_close(teacher.logits(images), network(normalised(images, *IMAGENET)).detach())
    assert teacher.num_classes == 1000 and teacher.name == SMALL


def test_features_of_a_network_of_any_classes(shufflenet):
    network, file = shufflenet
    teacher = TorchvisionTeacher(SMALL, file=file, classes=[3, 5, 7])
    teacher.load(None, 1, 32)
    assert teacher.num_classes == 1000
    images, caught = torch.rand(2, 1, 224, 224), []
    network.fc.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    wanted = network(normalised(images.expand(-1, 3, -1, -1), *IMAGENET))
    features, logits = teacher.features(images)
    torch.testing.assert_close(features, caught[0].detach())
    torch.testing.assert_close(logits, wanted.detach())
    with pytest.raises(UsageError, match="has 1000 classes; the dataset has 3"):
        teacher.load(3, 3, 224)


def test_classes_prune_the_head(shufflenet):
    network, file = shufflenet
    classes = [701, 0, 217]
    teacher = TorchvisionTeacher(SMALL, file=file, classes=classes)
    teacher.load(3, 3, 224)
    images = torch.rand(2, 3, 224, 224)
    torch.testing.assert_close(teacher.logits(images), network(normalised(images, *IMAGENET))[:, classes].detach())
    assert teacher.num_classes == 3


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        (None, r"has 1000 classes; the dataset has 3.*classes: the wnids or ImageNet-1K indices of the 3 classes"),
        ([1, 2], r"classes: with 2 indices; the dataset has 3 classes"),
        ([1, 2, 1000], r"index 1000 in classes:.*from 0 to 999"),
        ([1, 2, 1], r"an index twice"),
    ],
)
def test_another_class_count_is_refused(shufflenet, classes, text):
    with pytest.raises(UsageError, match=text):
        TorchvisionTeacher(SMALL, file=shufflenet[1], classes=classes).load(3, 3, 224)


def test_a_file_may_have_the_classes_of_the_dataset(tmp_path):
    network = torchvision.models.get_model(SMALL, num_classes=10)
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "ten.pth")
    teacher = TorchvisionTeacher(SMALL, file=str(tmp_path / "ten.pth"))
    teacher.load(10, 3, 224)
    assert torch.equal(teacher.network.fc.weight, network.fc.weight)
    with pytest.raises(UsageError, match=r"has 10 classes; the dataset has 20"):
        teacher.load(20, 3, 224)


def test_googlenet_from_a_released_file_renormalises_and_drops_auxiliary_heads(tmp_path):
    torch.manual_seed(0)
    plain = torchvision.models.googlenet(transform_input=True, aux_logits=True, init_weights=False).eval()
    for module in plain.modules():
        if isinstance(module, nn.Conv2d):  # the default weights let the input fade away
            nn.init.kaiming_normal_(module.weight)
    torch.save(plain.state_dict(), tmp_path / "googlenet.pth")
    teacher = TorchvisionTeacher("googlenet", file=str(tmp_path / "googlenet.pth"))
    teacher.load(1000, 3, 224)
    images = torch.rand(1, 3, 224, 224)
    expected = plain(normalised(images, *IMAGENET)).detach()
    torch.testing.assert_close(teacher.logits(images), expected)
    plain.transform_input = False
    assert (plain(normalised(images, *IMAGENET)) - expected).norm() > 0.01 * expected.norm()


def test_torchvision_weights_come_from_torchs_cache(shufflenet, tmp_path, monkeypatch):
    network, _ = shufflenet
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    address = torchvision.models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1.url
    cached = tmp_path / "torch" / "hub" / "checkpoints" / address.rsplit("/", 1)[-1]
    cached.parent.mkdir(parents=True)
    torch.save(network.state_dict(), cached)
    teacher = TorchvisionTeacher(SMALL)
    teacher.load(1000, 3, 224)
    assert torch.equal(teacher.network.fc.weight, network.fc.weight)


def test_missing_torchvision_weights_say_where_they_go(tmp_path, monkeypatch):
    def no_network(*_args, **_kwargs):
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(DataError) as caught:
        TorchvisionTeacher("resnet18").load(1000, 3, 224)
    text = str(caught.value)
    path = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    address = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    assert f"tried {path}, then {address}" in text and "no network" in text
    assert f"curl -L --create-dirs -o {path} {address}" in text and "`file:`" in text


def test_missing_timm_weights_say_where_they_go(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError) as caught:
        TimmTeacher("resnet10t").load(1000, 3, 224)
    text = str(caught.value)
    assert "models--timm--resnet10t.c3_in1k" in text and "hf download timm/resnet10t.c3_in1k" in text


def test_unknown_weights_and_misfits(shufflenet, convnet):
    with pytest.raises(UsageError, match=r"no weights 'V1' for resnet18: it has IMAGENET1K_V1"):
        TorchvisionTeacher("resnet18", weights="V1").load(1000, 3, 224)
    with pytest.raises(DataError, match=r"shuffle.pth does not fit ResNet: .* missing \(.*unexpected \(conv1.0.weight"):
        TorchvisionTeacher("resnet18", file=shufflenet[1]).load(1000, 3, 224)
    with pytest.raises(UsageError, match="takes images of 1 channels; these have 3"):
        convnet[1].load(3, 3, 8)
    with pytest.raises(UsageError, match="one number a channel"):
        FileTeacher(ConvNet(), "x.pth", [0.5], [0.5, 0.5], 8)
    with pytest.raises(RuntimeError, match="before load"):
        TimmTeacher("resnet10t").logits(torch.rand(1, 3, 8, 8))


def test_file_teacher_resizes_and_normalises(convnet):
    network, teacher = convnet
    teacher.load(3, 1, 16)
    images = torch.rand(4, 1, 16, 16)
    small = F.interpolate(images, (8, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(teacher.logits(images), network((small - 0.3) / 0.2).detach())
    torch.testing.assert_close(teacher.logits(small), teacher.logits(images))


def test_grey_images_are_repeated_for_a_network_of_three_channels(tmp_path):
    spec = ConvNet(depth=1, width=4)
    network = spec.build(3, 3, 8).eval()
    torch.save(network.state_dict(), tmp_path / "rgb.pt")
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    teacher = FileTeacher(spec, str(tmp_path / "rgb.pt"), mean, std, 8)
    teacher.load(3, 1, 8)
    images = torch.rand(2, 1, 8, 8)
    expected = network(normalised(images.repeat(1, 3, 1, 1), torch.tensor(mean), torch.tensor(std)))
    torch.testing.assert_close(teacher.logits(images), expected.detach())


def test_networks_that_rded_released_fit_the_small_stem(tmp_path):
    plain = torchvision.models.resnet18(num_classes=10).eval()
    plain.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    plain.maxpool = nn.Identity()
    torch.save({"model": plain.state_dict(), "epoch": 1}, tmp_path / "cifar10_resnet18_modified.pth")
    teacher = FileTeacher(ResNet(18), str(tmp_path / "cifar10_resnet18_modified.pth"), [0.5] * 3, [0.25] * 3, 32)
    teacher.load(10, 3, 32)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(teacher.logits(images), plain((images - 0.5) / 0.25).detach())
    assert teacher.name == "cifar10_resnet18_modified"


def test_run_teacher_and_its_epochs(tmp_path):
    spec = ConvNet(depth=1, width=4)
    first, last = (spec.build(3, 1, 8).eval() for _ in range(2))
    save_student(tmp_path / "run7", first, StudentCard(spec, 3, 1, 8, (0.3,), (0.2,)), epoch=7)
    save_student(tmp_path / "run7", last, StudentCard(spec, 3, 1, 8, (0.3,), (0.2,)))
    images = torch.rand(2, 1, 8, 8)
    for network, teacher in ((last, RunTeacher(f"{tmp_path}/run7/")), (first, RunTeacher(f"{tmp_path}/run7", 7))):
        teacher.load(3, 1, 8)
        torch.testing.assert_close(teacher.logits(images), network((images - 0.3) / 0.2).detach())
    assert teacher.name == "run7@7"
    with pytest.raises(UsageError, match=r"run7 has 3 classes; the dataset has 10. Give a teacher that was trained on"):
        RunTeacher(str(tmp_path / "run7")).load(10, 1, 8)
    with pytest.raises(DataError, match=r"There is no run at(.|\n)*ddlight fit"):
        RunTeacher(str(tmp_path / "run8")).load(3, 1, 8)


def test_a_teacher_is_no_part_of_the_module_that_holds_it(convnet):
    _, teacher = convnet
    teacher.load(3, 1, 8)

    class Regime(nn.Module):
        def __init__(self):
            super().__init__()
            self.student = nn.Linear(2, 2)
            self.teacher = teacher
            self.teachers = [teacher]

    regime = Regime()
    assert sorted(regime.state_dict()) == ["student.bias", "student.weight"]
    assert len(list(regime.modules())) == 2
    twin = copy.deepcopy(regime)
    assert twin.teacher is teacher and twin.student.weight is not regime.student.weight


def test_a_pickled_teacher_travels_without_its_network(convnet):
    network, teacher = convnet
    empty = len(pickle.dumps(teacher))
    teacher.load(3, 1, 8)
    assert len(pickle.dumps(teacher)) == empty
    buffer = io.BytesIO(pickle.dumps(teacher))
    again = pickle.load(buffer)
    with pytest.raises(RuntimeError, match="before load"):
        again.logits(torch.rand(1, 1, 8, 8))
    again.load(3, 1, 8)
    assert torch.equal(again.network.classifier.weight, network.classifier.weight)


def test_logits_can_be_targets_and_the_network_is_frozen(convnet):
    _, teacher = convnet
    with torch.inference_mode():
        teacher.load(3, 1, 8)
    images = torch.rand(2, 1, 8, 8, requires_grad=True)
    logits = teacher.logits(images)
    assert not logits.requires_grad and not logits.is_inference()
    assert not teacher.network.training
    assert not any(p.requires_grad or p.is_inference() for p in teacher.network.parameters())
    weight = torch.zeros(3, requires_grad=True)
    student = weight.log_softmax(0).expand(2, 3)
    (F.mse_loss(weight * logits, logits) + F.kl_div(student, logits.softmax(1), reduction="batchmean")).backward()
    assert weight.grad.isfinite().all()
    teacher.network(teacher.preprocess(images)).sum().backward()
    assert images.grad.abs().sum() > 0


def test_logits_are_float32_whatever_comes_in(convnet):
    _, teacher = convnet
    teacher.load(3, 1, 8)
    images = torch.rand(2, 1, 8, 8)
    exact = teacher.logits(images)
    assert teacher.logits(images.half()).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = teacher.logits(images)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, exact, rtol=0.1, atol=0.05)


def test_loading_draws_nothing_from_torchs_generator(convnet):
    _, teacher = convnet
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    teacher.load(3, 1, 8)
    assert torch.equal(torch.rand(3), expected)


def test_fingerprint_is_of_the_weights(convnet, tmp_path):
    network, teacher = convnet
    teacher.load(3, 1, 8)
    save_student(tmp_path / "run", network, StudentCard(ConvNet(depth=2, width=4), 3, 1, 8, (0.3,), (0.2,)))
    run = RunTeacher(str(tmp_path / "run"))
    run.load(3, 1, 8)
    assert len(teacher.fingerprint()) == 64 and run.fingerprint() == teacher.fingerprint()
    with torch.no_grad():
        network.classifier.bias[0] += 1e-6
    torch.save(network.state_dict(), tmp_path / "grey.pth")
    other = FileTeacher(teacher.student, teacher.file, [0.3], [0.2], 8)
    other.load(3, 1, 8)
    assert other.fingerprint() != teacher.fingerprint()


def test_a_student_of_whitened_images_is_no_teacher(tmp_path):
    spec = ConvNet(depth=2, width=4)
    save_student(tmp_path / "run", spec.build(3, 1, 8), StudentCard(spec, 3, 1, 8, (0.3,), (0.2,), whitening="zca"))
    assert load_student(tmp_path / "run")[1].whitening == "zca"
    with pytest.raises(UsageError, match=r"trained on whitened images \(zca\).*such as a run of FullData"):
        RunTeacher(str(tmp_path / "run")).load(3, 1, 8)


def test_load_is_idempotent(convnet, tmp_path):
    _, teacher = convnet
    teacher.load(3, 1, 8)
    network = teacher.network
    (tmp_path / "grey.pth").unlink()
    teacher.load(3, 1, 8)
    assert teacher.network is network


def test_mean_logits(convnet, tmp_path):
    _, one = convnet
    other = FileTeacher(one.student, one.file, [0.0], [1.0], 4)
    torch.save(ConvNet(depth=2, width=4).build(3, 1, 4).state_dict(), tmp_path / "four.pth")
    other.file = str(tmp_path / "four.pth")
    for teacher in (one, other):
        teacher.load(3, 1, 8)
    images = torch.rand(2, 1, 8, 8)
    expected = (one.logits(images) + other.logits(images)) / 2
    torch.testing.assert_close(mean_logits([one, other], images), expected)
    assert not torch.allclose(one.logits(images), other.logits(images))
    with pytest.raises(UsageError, match="the list of teachers is empty"):
        mean_logits([], images)


@pytest.fixture
def batch_normed(tmp_path):
    """A grey ConvNet with BatchNorm and 3 classes, its layers and its teacher."""
    student = ConvNet(depth=1, width=4, norm="batch")
    torch.manual_seed(1)
    network = student.build(3, 1, 8)
    network(torch.randn(50, 1, 8, 8) * 3)  # running statistics far from those of the images below
    torch.save(network.state_dict(), tmp_path / "bn.pth")
    teacher = FileTeacher(student, str(tmp_path / "bn.pth"), [0.0], [1.0], 8)
    teacher.load(3, 1, 8)
    return network, teacher


def test_in_training_mode_a_teacher_normalises_by_the_batch_and_stays_as_it_was(batch_normed):
    network, teacher = batch_normed
    images, before = torch.rand(6, 1, 8, 8), copy.deepcopy(teacher.network.state_dict())
    kept = []
    norm = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    norm.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    expected = network.train()(images).detach()
    got = teacher.logits(images, batch_statistics=True)
    torch.testing.assert_close(got, expected)
    mean, var = kept[0].mean((0, 2, 3)), kept[0].var((0, 2, 3), unbiased=False)
    assert not torch.allclose(mean, before["features.1.running_mean"], atol=0.05)
    assert not torch.allclose(got, teacher.logits(images), atol=0.01)
    assert (var > 0).all() and not teacher.network.training
    for name, value in teacher.network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
@pytest.mark.parametrize("batch_statistics", [False, True])
def test_a_compiled_teacher_says_what_it_said(batch_normed, batch_statistics):
    network, teacher = batch_normed
    few, many = torch.rand(5, 1, 8, 8), torch.rand(9, 1, 8, 8)
    network.train(batch_statistics)
    before, expected = copy.deepcopy(teacher.network.state_dict()), [network(x).detach() for x in (few, many)]
    teacher.compile(batch_statistics)
    got = [teacher.logits(x, batch_statistics) for x in (few, many)]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert teacher.network._compiled_call_impl is not None
    assert all(torch.equal(value, before[name]) for name, value in teacher.network.state_dict().items())


def test_balanced_logits_have_one_norm_before_they_are_averaged(convnet, batch_normed):
    teachers = [convnet[1], batch_normed[1]]
    teachers[0].load(3, 1, 8)
    images = torch.rand(5, 1, 8, 8)
    single = [teacher.logits(images).double() for teacher in teachers]
    norms = [float(one.square().sum().sqrt()) for one in single]
    assert max(norms) > 1.2 * min(norms)
    expected = sum(one / norm for one, norm in zip(single, norms, strict=True)) * (sum(norms) / 2) / 2
    torch.testing.assert_close(mean_logits(teachers, images, balance=True).double(), expected)


@pytest.mark.parametrize(("wrong", "warned"), [(0, False), (30, False), (90, True)])
def test_a_teacher_at_chance_is_warned_of(convnet, caplog, wrong, warned):
    """Of 90 images of 3 classes 30 are right by chance, 30 + 3 * 4.47 = 43 within three standard deviations."""
    _, teacher = convnet
    teacher.load(3, 1, 8)
    images = torch.randint(0, 256, (90, 1, 8, 8), dtype=torch.uint8)
    labels, draw = teacher.logits(images / 255).argmax(1), torch.Generator().manual_seed(0)
    labels[:wrong] = torch.randint(0, 3, (wrong,), generator=draw)
    right = int((teacher.logits(images / 255).argmax(1) == labels).sum())
    with caplog.at_level("WARNING", "ddlight"):
        assert check_teacher(teacher, images, labels) == pytest.approx(100 * right / 90)
    assert ("may be chance" in caplog.text) == warned


class Sees(RunTeacher):
    """A teacher that reads the class from the first pixel, in an order of its own."""

    def __init__(self, order):
        super().__init__("sees")
        self.order = torch.tensor(order)

    def logits(self, images, batch_statistics=False):
        return torch.eye(len(self.order))[self.order[(images[:, 0, 0, 0] * 255).round().long()]]


@pytest.mark.parametrize("order", [[1, 2, 0], [2, 1, 0, 4, 3]])
def test_a_teacher_whose_classes_are_in_another_order_is_refused_with_the_right_one(order):
    count = len(order)
    labels = torch.arange(50 * count) % count
    images = labels.byte()[:, None, None, None].expand(-1, 1, 8, 8)
    assert check_teacher(Sees(range(count)), images, labels) == 100
    with pytest.raises(UsageError) as caught:
        check_teacher(Sees(order), images, labels)
    assert f"{50 * count} with its classes in another order: give classes: {order}" in str(caught.value)


CARDS = {
    "another order": (("bee", "cat", "ant"), [2, 0, 1]),
    "other case": (("Cat", "ANT", "Bee"), [1, 2, 0]),
    "behind numbers": (("00000_cat", "00001_ant", "00002_bee"), [1, 2, 0]),
    "none known": ((), [0, 1, 2]),
}


@pytest.mark.parametrize("case", CARDS)
def test_a_run_with_the_classes_in_another_order_is_reordered_by_name(tmp_path, case):
    known, order = CARDS[case]
    spec = ConvNet(depth=1, width=4)
    network = spec.build(3, 1, 8).eval()
    save_student(tmp_path, network, StudentCard(spec, 3, 1, 8, (0.3,), (0.2,), classes=known))
    teacher, images = RunTeacher(str(tmp_path)), torch.rand(4, 1, 8, 8)
    for _ in range(2):  # a second look changes nothing
        teacher.load(3, 1, 8, ("ant", "bee", "cat"), "Beasts")
        torch.testing.assert_close(teacher.logits(images), network((images - 0.3) / 0.2)[:, order].detach())
    teacher.load(3, 1, 8, ("cat", "bee", "ant"), "Beasts")  # of another dataset
    if known:
        wanted = network((images - 0.3) / 0.2)[:, order[::-1]].detach()
        torch.testing.assert_close(teacher.logits(images), wanted)


@pytest.mark.parametrize("known", [("ant", "bee", "dog"), ("0", "1", "dog"), ("x", "y", "z")])
def test_a_run_with_other_classes_is_refused(tmp_path, known):
    spec = ConvNet(depth=1, width=4)
    save_student(tmp_path, spec.build(3, 1, 8), StudentCard(spec, 3, 1, 8, (0.3,), (0.2,), classes=known))
    with pytest.raises(
        UsageError, match=r"was trained on other classes than those of Beasts: .*; the dataset has ant, bee"
    ):
        RunTeacher(str(tmp_path)).load(3, 1, 8, ("ant", "bee", "cat"), "Beasts")


def test_timm_teacher_from_a_file_with_its_own_statistics(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=4).eval()
    view = timm.data.resolve_model_data_config(network)
    torch.save(network.state_dict(), tmp_path / "vit.pth")
    teacher = TimmTeacher("test_vit", file=str(tmp_path / "vit.pth"), classes=[2, 0])
    teacher.load(2, 3, 64)
    size = view["input_size"][-1]
    images = torch.rand(2, 3, size, size)
    expected = network(normalised(images, torch.tensor(view["mean"]), torch.tensor(view["std"])))
    torch.testing.assert_close(teacher.logits(images), expected[:, [2, 0]].detach())
    assert teacher.logits(torch.rand(1, 3, 64, 64)).shape == (1, 2)


def test_the_network_moves_to_the_device_of_the_images(convnet):
    _, teacher = convnet
    teacher.load(3, 1, 8)
    logits = teacher.logits(torch.rand(2, 1, 16, 16, device="meta"))
    assert logits.device.type == "meta" and logits.shape == (2, 3)
    assert {p.device.type for p in teacher.network.parameters()} == {"meta"}


@pytest.mark.gpu
def test_the_network_follows_the_images(convnet):
    _, teacher = convnet
    teacher.load(3, 1, 8)
    images = torch.rand(2, 1, 16, 16)
    expected = teacher.logits(images)
    there = teacher.logits(images.cuda())
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(teacher.logits(images), expected)
    before = teacher.fingerprint()
    teacher.logits(images.cuda())
    teacher._digest = None
    assert teacher.fingerprint() == before


def test_a_dry_run_knows_without_a_download_which_weights_are_here(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    teacher = TorchvisionTeacher("resnet18")
    assert not teacher.at_hand() and not TimmTeacher("test_resnet").at_hand()
    place = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    place.parent.mkdir(parents=True)
    place.touch()
    assert teacher.at_hand()
    assert TorchvisionTeacher("resnet18", file="x.pt").at_hand() and TimmTeacher("test_resnet", file="x.pt").at_hand()


# --- bf16 ---


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_trained_teacher_in_bf16_gives_nearly_the_same_labels(tmp_path, norm):
    """Within 0.5 % of the classes, and at the temperature of RDED and SRe2L within 0.002 of the probabilities."""
    data, student = Digits(), ConvNet(2, 16, norm)
    info, train, test = data.info, data.split("train"), data.split("test")
    images, labels = normalise(torch.tensor(train.images), info.mean, info.std), torch.tensor(train.labels)
    torch.manual_seed(0)
    network = student.build(10, 1, info.size)
    optimizer = torch.optim.SGD(network.parameters(), 0.05, 0.9)
    for _ in range(60):
        rows = torch.randint(len(images), (128,))
        optimizer.zero_grad()
        F.cross_entropy(network(images[rows]), labels[rows]).backward()
        optimizer.step()
    torch.save(network.state_dict(), tmp_path / "trained.pth")
    arguments = (student, str(tmp_path / "trained.pth"), list(info.mean), list(info.std), info.size)
    full, half = FileTeacher(*arguments), FileTeacher(*arguments, precision="bf16")
    answers = []
    for teacher in (full, half):
        teacher.load(10, 1, info.size)
        answers.append(teacher.logits(torch.tensor(test.images) / 255))
    assert (answers[0].argmax(1) == torch.tensor(test.labels)).float().mean() > 0.95
    assert answers[1].dtype == torch.float32 and not answers[1].requires_grad
    assert 1e-3 < (answers[0] - answers[1]).abs().max() < 0.3
    assert (answers[0].argmax(1) == answers[1].argmax(1)).float().mean() >= 0.995
    assert ((answers[0] / 20).softmax(1) - (answers[1] / 20).softmax(1)).abs().max() <= 0.002
    assert (full.name, half.name) == ("trained", "trained (bf16)")
    assert half.fingerprint() == f"{full.fingerprint()}:bf16"


def test_bf16_networks_are_channels_last_unless_they_have_group_norm(tmp_path):
    images = torch.rand(2, 1, 8, 8)
    for norm, expected in (("instance", False), ("batch", True)):
        student = ConvNet(depth=2, width=4, norm=norm)
        torch.save(student.build(3, 1, 8).state_dict(), tmp_path / "own.pth")
        teacher = FileTeacher(student, str(tmp_path / "own.pth"), [0.3], [0.2], 8, precision="bf16")
        teacher.load(3, 1, 8)
        weight = teacher.network.features[4].weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == expected
        assert teacher.logits(images).shape == (2, 3)


def test_an_unknown_precision_is_refused():
    with pytest.raises(UsageError, match=r"precision is 'fp16'\. Allowed: fp32, bf16"):
        RunTeacher("runs/teacher", precision="fp16")
