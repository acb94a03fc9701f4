"""`ddlight figures`: files, what is left out, and mistakes."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from made_up import difficulty

from ddlight.core.errors import DataError, UsageError
from ddlight.report.figures import regimes
from ddlight.report.figures.command import main
from ddlight.report.figures.kinds import FIGURES


@pytest.fixture
def two_regimes(study):
    for regime in ("HardLabel", "SoftLabel"):
        study.sets("Random", [50.0, 52.0], regime=regime)
        study.sets("AUM", [60.0, 61.0], regime=regime)
    return study


def test_it_writes_three_files_a_figure_and_names_what_is_left_out(two_regimes, results, tmp_path, capsys):
    out = tmp_path / "figures"
    assert main([str(two_regimes.root), "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [f"{out}/regimes.svg, .png, .csv", f"{out}/spread.svg, .png, .csv"]
    left_out = {line.split(": ")[1] for line in said[2:]}
    assert all(line.startswith("left out: ") and ": needs " in line for line in said[2:])
    assert left_out == set(FIGURES) - {"regimes", "spread"}
    assert sorted(file.name for file in out.iterdir()) == [
        *(f"regimes.{kind}" for kind in ("csv", "png", "svg")),
        *(f"spread.{kind}" for kind in ("csv", "png", "svg")),
    ]
    assert (out / "regimes.png").read_bytes()[:4] == b"\x89PNG"
    written, plotted = pd.read_csv(out / "regimes.csv"), regimes.data(results())
    assert list(written.columns) == list(plotted.columns)
    assert written["mean"].tolist() == pytest.approx(plotted["mean"].tolist(), rel=1e-5)


def test_only_and_analysis(two_regimes, analysis, tmp_path, capsys):
    analysis.to_csv(tmp_path / "a.csv", index=False)
    options = ["--only", "rep_div,spread", "--analysis", str(tmp_path / "a.csv")]
    assert main([str(two_regimes.root), "--out", str(tmp_path / "out"), *options]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/out/rep_div.svg, .png, .csv",
        f"{tmp_path}/out/spread.svg, .png, .csv",
    ]


def test_a_damaged_file_is_named_and_the_rest_is_drawn(two_regimes, tmp_path, capsys):
    broken = two_regimes.folder() / "result.json"
    broken.write_text("{")
    assert main([str(two_regimes.root), "--out", str(tmp_path / "out"), "--only", "regimes"]) == 3
    assert f"ddlight figures: not in the figures: {broken}" in capsys.readouterr().err


DIFFICULTY = ["difficulty.csv", "difficulty"]
CURVE = ["test_curve.csv", "convergence"]


@pytest.mark.parametrize(
    ("name", "figure", "content", "said"),
    [
        (*DIFFICULTY, "", "No columns to parse"),
        (*DIFFICULTY, "step,progress,score\n1,0.5,el2n\n", "has no column mean, q0, q10"),
        (*DIFFICULTY, "step,progress,score,mean\n1,2,3,4,5\n1,2,3,4,5,6\n", "Expected 5 fields"),
        (*CURVE, "", "No columns to parse"),
        (*CURVE, b"\xff\xfe\x00", "can't decode"),
        (*CURVE, "step,acc\n5,30.5\n", "has no column images"),
        (*CURVE, "step,images,acc\n5,2000,30.5\n9,60", "could not convert"),
        (*CURVE, "step,images,acc\n5,2000,high\n", "could not convert"),
    ],
)
def test_a_damaged_file_beside_a_result_leaves_out_its_figure(
    two_regimes, tmp_path, capsys, name, figure, content, said
):
    damaged = two_regimes.add("Random", 51.0, set_seed=2).with_name(name)
    damaged.write_bytes(content.encode() if isinstance(content, str) else content)
    out = tmp_path / "out"
    assert main([str(two_regimes.root), "--out", str(out), "--only", f"{figure},regimes"]) == 3
    told = capsys.readouterr()
    assert told.out == f"{out}/regimes.svg, .png, .csv\n"
    assert told.err.startswith(f"ddlight figures: left out: {figure}: {damaged}") and told.err.count("\n") == 1
    assert said in told.err


def test_a_damaged_file_leaves_the_figure_of_another_dataset(two_regimes, tmp_path, capsys):
    damaged = two_regimes.add("Random", 51.0).with_name("difficulty.csv")
    damaged.mkdir()  # no file: nothing is read
    whole = two_regimes.add("Random", 52.0, set__dataset="MNIST").with_name("difficulty.csv")
    difficulty("el2n", 0.5, 0.2).to_csv(whole, index=False)
    options = [str(two_regimes.root), "--out", str(tmp_path / "out"), "--only", "difficulty"]
    assert main(options) == 0
    assert capsys.readouterr().out == f"{tmp_path}/out/difficulty.svg, .png, .csv\n"
    damaged.rmdir()
    damaged.touch()
    assert main(options) == 3
    told = capsys.readouterr()
    assert told.out == f"{tmp_path}/out/difficulty_MNIST.svg, .png, .csv\n"
    assert told.err.startswith(f"ddlight figures: left out: difficulty_Digits: {damaged}")


def test_a_damaged_file_alone_is_an_error(two_regimes, tmp_path):
    damaged = two_regimes.add("Random", 51.0).with_name("difficulty.csv")
    damaged.touch()
    with pytest.raises(DataError, match=f"No figure can be drawn.*\nleft out: difficulty: {damaged}"):
        main([str(two_regimes.root), "--out", str(tmp_path / "out"), "--only", "difficulty"])


def test_mistakes(study, tmp_path):
    study.add("Random", 50.0)
    out = ["--out", str(tmp_path / "out")]
    with pytest.raises(UsageError, match=r"no figure 'costs'.*Did you mean cost"):
        main([str(study.root), *out, "--only", "costs"])
    with pytest.raises(DataError, match=r"No figure can be drawn.*\nleft out: budget: needs results of one method"):
        main([str(study.root), *out, "--only", "budget"])
    with pytest.raises(DataError, match=r"missing\.csv cannot be read"):
        main([str(study.root), *out, "--analysis", str(tmp_path / "missing.csv")])
    (tmp_path / "other.csv").write_text("name,value\na,1\n")
    with pytest.raises(DataError, match=r"other\.csv has no column dataset: .* 'ddlight analyze SETS --out FILE\.csv'"):
        main([str(study.root), *out, "--analysis", str(tmp_path / "other.csv")])
    assert not (tmp_path / "out").exists()


def test_it_imports_neither_torch_nor_pyplot(two_regimes, tmp_path):
    program = (
        "import sys\nfrom ddlight.__main__ import main\n"
        f"assert main(['figures', {str(two_regimes.root)!r}, '--out', {str(tmp_path / 'out')!r}]) == 0\n"
        "assert not {'torch', 'matplotlib.pyplot'} & sys.modules.keys()\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
