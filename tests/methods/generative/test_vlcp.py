"""VLCP: outliers, prototypes of images and of captions, prompts that reach the generator."""

import json

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from ddlight.core.errors import DataError, UsageError
from ddlight.data import Digits
from ddlight.methods.generative.vlcp import VLCP, common_words, inliers, read_captions, text_prototype


def outlier_factors(points, k):
    """The local outlier factor by its definition."""
    distances, near = NearestNeighbors(n_neighbors=k).fit(points).kneighbors()
    reach = [
        [max(distances[j, -1], np.linalg.norm(points[i] - points[j])) for j in near[i]] for i in range(len(points))
    ]
    density = 1 / np.mean(reach, 1)
    return np.array([density[near[i]].mean() / density[i] for i in range(len(points))])


def test_outliers_are_those_of_the_largest_local_outlier_factor():
    points = np.random.default_rng(0).standard_normal((60, 4))
    points[7] += 9
    kept = inliers(points, 0.1)
    assert (~kept).sum() == 6 and not kept[7]
    factors = outlier_factors(points, 10)
    assert set(np.flatnonzero(~kept)) == set(np.argsort(factors)[-6:])
    assert inliers(points, 0.0).all() and inliers(points[:10], 0.1).all()


def test_common_words_are_those_of_most_captions():
    assert common_words(["a red fish", "a red red boat", "a blue boat", "red sky"], 0.75) == {"a", "red"}


def test_the_captions_whose_words_count_most_is_the_clusters_in_full():
    captions = [
        "The tench is green and slimy",
        "A green slimy fish in the weeds",
        "A man holds it",
        "Green weeds, slimy water, a tench",
    ]
    # green 3 + slimy 3 + weeds 2 + water 1; "tench" is the class's name, "the", "and", "a" say nothing
    assert (
        text_prototype(captions, common=(), name="tench, Tinca tinca", count=30) == 1
    )  # green 3, slimy 3, weeds 2, fish
    assert (
        text_prototype(captions, common=("slimy",), name="tench", count=2) == 1
    )  # green is 3, weeds 2; "Green" is not
    assert text_prototype(["one", "two two"], common=("one", "two"), name="x", count=5) == 0


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_captions_are_read_from_both_layouts(tmp_path, suffix):
    file = tmp_path / f"metadata{suffix}"
    lines = [{"file_name": "a/1.png", "text": "one"}, {"file_name": "a/2.png", "text": "two"}]
    plain = {line["file_name"]: line["text"] for line in lines}
    file.write_text(json.dumps(plain) if suffix == ".json" else "\n".join(map(json.dumps, lines)))
    assert read_captions(file) == plain
    file.write_text("[1, 2" if suffix == ".json" else '{"name": 1}')
    with pytest.raises(DataError, match="holds no captions"):
        read_captions(file)
    with pytest.raises(DataError, match="There is no file of captions"):
        read_captions(tmp_path / "nowhere.json")


def captions_of(digits, path, leave_out=0):
    split = digits.index("train")
    shades = digits.split("train").images.mean((1, 2, 3)) > np.median(digits.split("train").images.mean((1, 2, 3)))
    texts = {
        name.split("/")[-1]: f"digit {label} is {'bright' if shade else 'dark'}"
        for name, label, shade in zip(split.ids.tolist(), split.labels.tolist(), shades.tolist(), strict=True)
    }
    path.write_text(json.dumps(dict(list(texts.items())[leave_out:])))


def test_each_cluster_has_a_caption_of_its_own_images_that_the_generator_is_told(build, home):
    digits = Digits(size=8)
    captions_of(digits, home / "captions.json")
    data = build(VLCP, ipc=3, captions=str(home / "captions.json"), batch=3)
    centres, prompts = data.prototypes(4)
    assert centres.shape == (3, 64) and len(prompts) == 3
    assert set(prompts) <= {"digit 4 is bright", "digit 4 is dark"}
    told = []
    data.model.condition = lambda labels, prompts=None: told.append((labels, prompts)) or torch.tensor(labels)
    with torch.no_grad():
        assert data.draw(4, [0, 2]).shape == (2, 1, 8, 8)
    assert told == [([4, 4], [prompts[0], prompts[2]])]
    plain = build(VLCP, ipc=3, prepare=False)
    assert plain.fingerprint != data.fingerprint
    np.testing.assert_array_equal(plain.prototypes(4)[0], centres)


def test_an_image_without_a_caption_is_named_before_anything_is_made(build, home):
    captions_of(Digits(size=8), home / "captions.json", leave_out=1)
    with pytest.raises(DataError, match="has no caption of"):
        build(VLCP, captions=str(home / "captions.json"))


def test_options_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="strength is above 0"):
        VLCP(Digits(size=8), contamination=0.7)
