import json
import time

import pytest

from ddlight.core.errors import DataError, UsageError
from ddlight.report.command import main


def test_prints_markdown(study, capsys):
    study.sets("Random", [60.0, 61.0, 62.0])
    assert main([str(study.root)]) == 0
    out = capsys.readouterr()
    assert "| Random | 61.0 ± 1.0 (3) |" in out.out
    assert out.err == ""


def test_writes_both_files(study, tmp_path, capsys):
    study.sets("Random", [60.0, 61.0, 62.0])
    assert main([str(study.root), "--out", str(tmp_path / "new" / "tables")]) == 0
    folder = tmp_path / "new" / "tables"
    assert sorted(file.name for file in folder.iterdir()) == ["report.csv", "report.md"]
    assert (folder / "report.md").read_text().startswith("## Digits")
    assert (
        (folder / "report.csv").read_text().splitlines()[1].startswith('Digits,"ConvNet(depth=3, width=8)",HardLabel')
    )
    assert str(folder / "report.md") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("formats", "names"),
    [
        ("md", ["report.md"]),
        ("csv", ["report.csv"]),
        ("tex", ["report.tex"]),
        ("html, md", ["report.html", "report.md"]),
    ],
)
def test_writes_what_is_asked_for(study, tmp_path, formats, names):
    study.add("Random", 60.0)
    main([str(study.root), "--out", str(tmp_path / "out"), "--format", formats])
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == names


def test_a_damaged_file_is_reported_and_the_rest_shown(study, capsys):
    study.sets("Random", [60.0, 61.0, 62.0])
    bad = study.folder() / "result.json"
    bad.write_text('{"schema": 1')
    assert main([str(study.root)]) == 3
    out = capsys.readouterr()
    assert "61.0 ± 1.0 (3)" in out.out
    assert "## Files that could not be read: 1" in out.out
    assert out.err.count(str(bad.resolve())) == 1


def test_a_damaged_curve_leaves_out_its_figure_alone(study, tmp_path, caplog):
    for regime in ("HardLabel", "SoftLabel"):
        study.sets("Random", [50.0, 52.0], regime=regime)
        study.sets("AUM", [60.0, 61.0], regime=regime)
    damaged = study.add("Random", 51.0, set_seed=2).with_name("test_curve.csv")
    damaged.touch()
    assert main([str(study.root), "--out", str(tmp_path / "out"), "--format", "html"]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert ">regimes<" in page and ">convergence<" not in page
    assert [record.getMessage() for record in caplog.records if str(damaged) in record.getMessage()]


def test_only_damaged_files_are_an_error(study):
    bad = study.folder() / "result.json"
    bad.write_text("{}")
    with pytest.raises(DataError, match="None of the 1 files") as error:
        main([str(study.root)])
    assert str(bad.resolve()) in str(error.value)


def test_mistakes_are_said(study, tmp_path, capsys):
    study.add("Random", 60.0)
    with pytest.raises(UsageError, match=r"no report format 'mdx'\. Did you mean md"):
        main([str(study.root), "--format", "mdx"])
    with pytest.raises(DataError, match="nowhere"):
        main([str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit) as leave:
        main([])
    assert leave.value.code == 2


def test_half_written_and_foreign_files_are_named_and_the_rest_shown(study, capsys):
    """In every format; what another program calls result.json or failed.json is no result of ours."""
    study.sets("Random", [60.0, 61.0, 62.0])
    whole = study.add("A", 70.0)
    whole.write_text(whole.read_text()[:100])
    for name, text in (("result.json", '{"score": 1}'), ("failed.json", "[]"), ("result.json", "")):
        (study.folder() / name).write_text(text)
    for form in ("md", "csv", "tex", "html"):
        assert main([str(study.root), "--format", form]) == 3
        out = capsys.readouterr()
        assert len(out.err.splitlines()) == 4
        assert str(study.root.resolve()) in out.err and str(study.root.resolve()) not in out.out
        assert "61.0" in out.out and "part1/run0004/result.json" in out.out
        assert "not a ddlight result: it has no field " in out.out


def test_a_folder_without_results_says_what_would_make_one(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"no result\.json under .* ddlight fit --config configs/NAME\.yaml"):
        main([str(tmp_path), "--format", "html"])


def test_a_thousand_results_in_all_formats(study, tmp_path):
    """1.3 s of CPU time where it was measured; the whole command may take 5."""
    content = json.loads(study.add("Random", 60.0).read_text())
    del content["sha256"]
    for number in range(1000):
        method, column = f"M{number % 40:02d}" if number % 40 else "Random", number // 40
        name = f"{method} {column}"
        content["set"] |= {"method": method, "ipc": 1 + column % 5, "seed": column, "fingerprint": name}
        content["set"]["content_sha256"] = name
        content["acc"]["test"] = 40 + number / 50
        (study.folder() / "result.json").write_text(json.dumps(content))
    start = time.process_time()
    assert main([str(study.root), "--format", "md,csv,tex,html", "--out", str(tmp_path / "out")]) == 0
    assert time.process_time() - start < 5
    assert len((tmp_path / "out" / "report.csv").read_text().splitlines()) == 1 + 1 + 40 * 5
