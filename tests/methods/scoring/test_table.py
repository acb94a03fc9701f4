"""Score files of others: joined by id, and refused where they are of other data."""

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
    with pytest.raises(DataError, match=r"shape \(4,\); Photos has 3"):
        read(tmp_path / "c.npy")
    np.save(tmp_path / "d.npy", np.array([{}, {}, {}], dtype=object))
    with pytest.raises(DataError, match="no file of plain numbers"):
        read(tmp_path / "d.npy")


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
