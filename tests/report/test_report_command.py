import pytest

from ddlight.errors import DataError, UsageError
from ddlight.report.command import main


def test_prints_markdown(study, capsys):
    study.sets("Random", [60.0, 61.0, 62.0])
    assert main([str(study.root)]) == 0
    out = capsys.readouterr()
    assert "| Random | **61.0 ± 1.0 (3)** |" in out.out
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


@pytest.mark.parametrize(("formats", "names"), [("md", ["report.md"]), ("csv", ["report.csv"])])
def test_writes_what_is_asked_for(study, tmp_path, formats, names):
    study.add("Random", 60.0)
    main([str(study.root), "--out", str(tmp_path / "out"), "--format", formats])
    assert [file.name for file in (tmp_path / "out").iterdir()] == names


def test_a_damaged_file_is_reported_and_the_rest_shown(study, capsys):
    study.sets("Random", [60.0, 61.0, 62.0])
    bad = study.folder() / "result.json"
    bad.write_text('{"schema": 1')
    assert main([str(study.root)]) == 3
    out = capsys.readouterr()
    assert "61.0 ± 1.0 (3)" in out.out
    assert "## Files that could not be read: 1" in out.out
    assert out.err.count(str(bad.resolve())) == 1


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
