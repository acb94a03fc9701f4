"""Score files of others: joined by id, and refused where they are of other data."""

import pickle

import numpy as np
import pytest

from ddlight.core.errors import DataError, UsageError
from ddlight.methods.scores.score_file import import_scores
from ddlight.methods.scoring.table import ScoreTable

IDS = np.array(["train/n01/a.jpg", "train/n01/b.jpg", "train/n02/c.jpg"])


@pytest.fixture
def file(tmp_path):
    def write(text, name="scores.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def read(path, column=None):
    return import_scores(path, column, IDS, "Photos").tolist()


def test_scores_follow_ids_and_not_the_order_of_lines(file):
    assert read(file("id,score\ntrain/n02/c.jpg,3\ntrain/n01/a.jpg,1\ntrain/n01/b.jpg,2\n")) == [1, 2, 3]


def test_a_file_may_name_images_by_less_than_the_whole_id(file):
    assert read(file("score,file\n3,n02/c.jpg\n1,n01/a.jpg\n2,n01/b.jpg\n9,n09/z.jpg\n")) == [1, 2, 3]
    assert read(file("name\tscore\nc.jpg\t3\na.jpg\t1\nb.jpg\t2\n", "scores.tsv")) == [1, 2, 3]


def test_a_column_is_chosen_by_name(file):
    path = file("id,el2n,aum\ntrain/n02/c.jpg,3,6\ntrain/n01/a.jpg,1,4\ntrain/n01/b.jpg,2,5\n")
    assert read(path, "aum") == [4, 5, 6]
    with pytest.raises(UsageError, match="el2n, aum, and none was named"):
        read(path)
    with pytest.raises(UsageError, match=r"'aun' is not among them.*Did you mean aum"):
        read(path, "aun")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("train/n01/a.jpg,1\ntrain/n01/b.jpg,2\n", "no score for 1 of Photos's 3.*train/n02/c.jpg"),
        ("train/n01/a.jpg,1\ntrain/n01/a.jpg,1\ntrain/n01/b.jpg,2\ntrain/n02/c.jpg,3\n", "more than once.*a.jpg"),
        ("x/1.jpg,1\nx/2.jpg,2\nx/3.jpg,3\n", "no score for 3 of Photos's 3.*3 of its lines name none"),
        ("train/n01/a.jpg,1\ntrain/n01/b.jpg,nan\ntrain/n02/c.jpg,3\n", "1 of 3 scores are not finite"),
        ("train/n01/a.jpg,1\ntrain/n01/b.jpg,much\ntrain/n02/c.jpg,3\n", "holds no number"),
        ("", "no table"),
    ],
)
def test_a_file_of_other_data_or_a_damaged_one_is_refused(file, lines, message):
    with pytest.raises(DataError, match=message):
        read(file("id,score\n" + lines))


def test_arrays_are_in_the_datasets_order_and_of_its_length(tmp_path):
    np.save(tmp_path / "a.npy", np.array([1, 2, 3]))
    np.savez(tmp_path / "b.npz", cscore=np.array([4.0, 5, 6]), other=np.zeros(3))
    assert read(tmp_path / "a.npy") == [1, 2, 3]
    assert read(tmp_path / "b.npz", "cscore") == [4, 5, 6]
    np.save(tmp_path / "c.npy", np.zeros(4))
    with pytest.raises(DataError, match=r"shape \(4,\), float64; Photos has 3"):
        read(tmp_path / "c.npy")
    np.save(tmp_path / "d.npy", np.array([{}, {}, {}], dtype=object))
    with pytest.raises(DataError, match="no file of plain numbers"):
        read(tmp_path / "d.npy")


OWN = np.array([2, 0, 1])


def held(path, column=None, classes=("ant", "bee", "cat")):
    return import_scores(path, column, IDS, "Photos", OWN, classes).tolist()


def test_labels_beside_the_scores_are_held_against_the_datasets(tmp_path):
    """As C-scores are published: float scores and integer labels in one archive, in the order of the dataset."""
    scores = np.array([0.1, 0.2, 0.3])
    np.savez(tmp_path / "a.npz", labels=OWN, scores=scores)
    assert held(tmp_path / "a.npz") == held(tmp_path / "a.npz", "scores") == scores.tolist()
    np.savez(tmp_path / "b.npz", labels=OWN[::-1], scores=scores)
    with pytest.raises(DataError, match="2 of 3 are not those of Photos: it is of another dataset, or its images"):
        held(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", labels=OWN[:2], scores=scores)
    with pytest.raises(DataError, match=r"labels of shape \(2,\) beside 3 scores"):
        held(tmp_path / "c.npz")
    with pytest.raises(UsageError, match=r"'labels' of .*a.npz holds classes, which are no scores"):
        held(tmp_path / "a.npz", "labels")


@pytest.mark.parametrize("names", [("cat", "ant", "bee"), ("2", "0", "1"), ("Cat", "Ant", "Bee")])
def test_a_tables_column_of_classes_is_held_against_them_too(file, names):
    lines = [f"{id},{name},{n}" for n, (id, name) in enumerate(zip(IDS, names, strict=True))]
    path = file("\n".join(["id,label,score", *lines[::-1]]))
    assert held(path) == [0, 1, 2]
    assert read(path) == [0, 1, 2]
    with pytest.raises(DataError, match="3 of 3 are not those of Photos"):
        import_scores(path, None, IDS, "Photos", (OWN + 1) % 3, ("ant", "bee", "cat"))


def test_scores_in_one_row_or_with_integers_beside_them_are_read(tmp_path):
    np.save(tmp_path / "row.npy", np.array([[1.0, 2, 3]]))
    assert read(tmp_path / "row.npy") == [1, 2, 3]
    np.savez(tmp_path / "a.npz", index=np.arange(3), memorization=np.array([[4.0, 5, 6]]))
    assert read(tmp_path / "a.npz") == [4, 5, 6]
    np.save(tmp_path / "column.npy", np.ones((3, 1)))
    assert read(tmp_path / "column.npy") == [1, 1, 1]
    np.save(tmp_path / "table.npy", np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"shape \(3, 2\), float64"):
        read(tmp_path / "table.npy")


def test_what_is_no_score_file_gets_one_line(tmp_path):
    pickled = pickle.dumps({"scores": [1.0, 2, 3]})
    for name in ("a.pkl", "b.csv", "c.npy", "d.npz"):
        (tmp_path / name).write_bytes(pickled)
        with pytest.raises(DataError, match=f"{name} is (damaged|no)") as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)
    np.savez(tmp_path / "e.npz", scores=np.array([{}, {}, {}], dtype=object))
    with pytest.raises(DataError, match="no file of plain numbers"):
        read(tmp_path / "e.npz")


def test_what_is_exported_is_imported_again(tmp_path):
    ids = np.array(['train/"a", b.jpg', "train/c.jpg"])
    found = ScoreTable(ids, {"x": np.array([0.1, 1e-9], np.float32), "h": np.zeros((2, 2), np.float32)}, {}, "t")
    found.write_csv(tmp_path / "out.csv")
    again = import_scores(tmp_path / "out.csv", "x", ids, "t")
    np.testing.assert_array_equal(again.astype(np.float32), found.columns["x"])


def test_a_table_of_other_ids_is_refused():
    found = ScoreTable(IDS, {}, {}, "here")
    assert found.require_ids(IDS, "Photos") is found
    for ids in (IDS[:2], IDS[::-1]):
        with pytest.raises(DataError, match="of other data than Photos"):
            found.require_ids(ids, "Photos")
