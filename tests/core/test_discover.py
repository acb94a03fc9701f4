"""Discovery: classes found by reading files, extra folders, the listing commands, and how quick they are."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ddlight.cli import listing
from ddlight.core import discover
from ddlight.core.errors import UsageError
from ddlight.data.table import TABLE

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        return file

    return write


@pytest.fixture
def package(write: Write, tmp_path: Path) -> Path:
    """A package with every case of a class that is listed or not."""
    write(
        "p/methods/base.py",
        """
        class CondensedDataModule(LightningDataModule): ...
        class Selector(CondensedDataModule): ...
        class Synthesiser(CondensedDataModule): ...
        """,
    )
    write("p/methods/coresets/base.py", "class Scored(Selector):\n    'A base.'\n")
    write(
        "p/methods/coresets/el2n.py",
        '''
        """EL2N: norm of the error.

        Paper: arXiv 2107.07075, equation 3; the mean
        over ten networks.
        Code: elsewhere.
        """
        from ddlight.methods.scores.base import Scored as Base

        class Record: ...
        class _Hidden(Base): ...
        class EL2N(Base):
            def select(self): ...
        class Longer(_Hidden):
            """Longer than EL2N.

            Args:
                x: nothing.
            """
        class Abstract(Base):
            @abc.abstractmethod
            def f(self): ...
        ''',
    )
    write(
        "p/methods/decoupled/made.py",
        '''
        """The file."""
        import ddlight.methods.base as base
        class Made(base.Synthesiser[int]):
            """Made.

            Paper: none."""
        ''',
    )
    write("p/methods/baselines/full.py", "class Full(CondensedDataModule): ...\n")
    write("p/methods/baselines/_private.py", "class Private(Selector): ...\n")
    write("p/regimes/base.py", "class Regime(L.LightningModule): ...\n")
    write("p/regimes/hard.py", '"""Hard."""\nclass Hard(Regime): ...\nclass Loss(nn.Module): ...\n')
    return tmp_path / "p"


@pytest.fixture
def extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that DDLIGHT_METHODS names; modules imported from it are forgotten afterwards."""
    folder = tmp_path / "extra"
    folder.mkdir()
    monkeypatch.setenv("DDLIGHT_METHODS", str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if name.startswith("ddlight_extra"):
            del sys.modules[name]


def test_methods_are_resolved_across_files(package: Path) -> None:
    found = {e.name: e for e in discover.methods(package)}
    assert {name: e.kind for name, e in found.items()} == {
        "EL2N": "select",
        "Longer": "select",
        "Made": "synthesise",
        "Full": "-",
    }
    assert found["EL2N"].summary == "EL2N: norm of the error."
    assert found["EL2N"].paper == "arXiv 2107.07075, equation 3; the mean over ten networks."
    assert found["EL2N"].source == "arXiv 2107.07075"
    assert found["EL2N"].module == "ddlight.methods.coresets.el2n"
    assert found["EL2N"].family == "coresets"
    assert found["Longer"].summary == "Longer than EL2N."
    assert (found["Made"].paper, found["Made"].source) == ("none.", "none.")
    assert (found["Full"].summary, found["Full"].paper) == ("", "")


def test_regimes(package: Path) -> None:
    assert [(e.name, e.summary, e.module) for e in discover.regimes(package)] == [
        ("Hard", "Hard.", "ddlight.regimes.hard")
    ]


def test_a_name_in_the_same_file_goes_first(write: Write, tmp_path: Path) -> None:
    write("p/methods/a/one.py", "class Step(Selector): ...\nclass One(Step): ...\n")
    write("p/methods/b/two.py", "class Step(Synthesiser): ...\nclass Two(Step): ...\n")
    kinds = {e.name: e.kind for e in discover.methods(tmp_path / "p")}
    assert (kinds["One"], kinds["Two"]) == ("select", "synthesise")


def test_classes_in_a_circle_end(write: Write, tmp_path: Path) -> None:
    write("p/methods/a/one.py", "class A(B): ...\nclass B(A): ...\n")
    assert discover.methods(tmp_path / "p") == []


def test_broken_file_is_named_with_its_line(write: Write, tmp_path: Path) -> None:
    write("p/methods/a/bad.py", "x = 1\nclass A(\n")
    with pytest.raises(UsageError, match=r"bad\.py:2 is not valid Python"):
        discover.methods(tmp_path / "p")


def test_extra_methods_may_subclass_the_packages(package: Path, write: Write, extra: Path) -> None:
    write("extra/mine.py", '"""Mine.\n\nPaper: to come."""\nclass Mine(EL2N): ...\nclass Way(Regime): ...\n')
    write("extra/base.py", "class Base(Selector): ...\n")
    (mine,) = discover.extra_methods(extra, package)
    assert (mine.name, mine.kind, mine.paper, mine.module) == ("Mine", "select", "to come.", "ddlight_extra.mine")
    assert discover.methods(package)[-1] == mine
    assert [e.name for e in discover.regimes(package)] == ["Hard", "Way"]


def test_extra_folders_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    names = [str(folders[0]), "", str(folders[1]), str(folders[0])]
    monkeypatch.setenv("DDLIGHT_METHODS", os.pathsep.join(names))
    assert discover.extra_folders() == [f.resolve() for f in folders]
    monkeypatch.setenv("DDLIGHT_METHODS", str(tmp_path / "c"))
    with pytest.raises(UsageError, match=r"DDLIGHT_METHODS names .*/c, which is not a folder.*export DDLIGHT_METHODS="):
        discover.extra_folders()


@pytest.fixture
def no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `import_all` find nothing of its own, so that only the folders outside count."""
    monkeypatch.setattr(discover, "PACKAGE", tmp_path / "none")


@pytest.mark.usefixtures("no_package")
def test_import_all_registers_files_outside_once(write: Write, extra: Path) -> None:
    write("extra/one.py", "from ddlight_extra.two import X\nfrom .two import X as Y\nclass One(X): ...\n")
    write("extra/two.py", "class X: ...\n")
    discover.import_all()
    one = sys.modules["ddlight_extra.one"].One
    assert one.__module__ == "ddlight_extra.one"
    assert one.__mro__[1] is sys.modules["ddlight_extra.two"].X
    discover.import_all()
    assert sys.modules["ddlight_extra.one"].One is one


@pytest.mark.usefixtures("no_package")
def test_import_all_takes_the_file_that_is_named_now(
    write: Write, extra: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("extra/one.py", "N = 1\n")
    write("other/one.py", "N = 2\n")
    discover.import_all()
    monkeypatch.setenv("DDLIGHT_METHODS", str(tmp_path / "other"))
    discover.import_all()
    assert sys.modules["ddlight_extra.one"].N == 2
    monkeypatch.setenv("DDLIGHT_METHODS", os.pathsep.join([str(extra), str(tmp_path / "other")]))
    with pytest.raises(UsageError, match=r"two files called one\.py.*mv "):
        discover.import_all()


@pytest.mark.usefixtures("no_package")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nimport not_there_at_all\n", r"bad\.py:2 cannot be imported: ModuleNotFoundError: .*not_there_at_all"),
        ("def f():\n    return 1 / 0\n\nf()\n", r"bad\.py:2 cannot be imported: ZeroDivisionError"),
        ("x = (\n", r"bad\.py:1 cannot be imported: SyntaxError"),
    ],
)
def test_import_error_outside_is_one_message(text: str, message: str, write: Write, extra: Path) -> None:
    write("extra/bad.py", text)
    with pytest.raises(UsageError, match=message):
        discover.import_all()
    assert "ddlight_extra.bad" not in sys.modules


def test_package_methods_are_importable_and_as_described() -> None:
    """What reading says of the package's own classes is what importing them says."""
    import importlib

    discover.import_all()
    entries = [*discover.methods(), *discover.regimes()]
    assert {"FullData", "Random", "HardLabel"} <= {e.name for e in entries}
    for entry in entries:
        cls = getattr(importlib.import_module(entry.module), entry.name)
        above = {c.__name__ for c in cls.__mro__}
        expected = "select" if "Selector" in above else "synthesise" if "Synthesiser" in above else "-"
        assert entry.kind == expected
        assert entry.summary, entry.name
    assert all(e.paper for e in discover.methods())


def test_table_fits_and_leaves_empty_columns_out() -> None:
    rows = [("a", "", "word " * 30), ("bbb", "", "short")]
    lines = listing.table(("name", "none", "what"), rows, width=40)
    assert max(map(len, lines)) <= 40
    assert lines[0].split() == ["name", "what"]
    assert lines[1].startswith("a     word word") and lines[1].endswith("…")
    assert lines[2] == "bbb   short"
    whole = listing.table(("name", "none", "what"), rows, width=400)
    assert whole[1] == f"a     {('word ' * 30).strip()}"


def test_table_takes_the_terminals_width(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("x" * 10, "y" * 300)]
    monkeypatch.setenv("COLUMNS", "60")
    assert len(listing.table(("a", "b"), rows)[1]) == 60
    monkeypatch.delenv("COLUMNS")
    monkeypatch.setattr(sys, "__stdout__", None)  # no terminal
    assert len(listing.table(("a", "b"), rows)[1]) == 312


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("rand", ["Random"]),
        ("R*", ["Random"]),
        ("FULLDATA", ["FullData"]),
        ("baselines", ["FullData", "Random"]),
        ("[fr]*", ["FullData", "Random"]),
    ],
)
def test_patterns(pattern: str, names: list[str]) -> None:
    entries = [e for e in discover.methods() if e.family == "baselines" and e.name in ("FullData", "Random")]
    found = listing._choose("method", entries, pattern, lambda e: (e.name, e.kind, e.family))
    assert [e.name for e in found] == names


def test_exact_name_goes_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert listing.datasets_command(["fashionmnist"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("FashionMNIST\n") and "train 60,000, test 10,000" in out and "apt install" in out
    assert listing.datasets_command(["fashionmnist*"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["FashionMNIST", "FashionMNIST5k"]


def test_a_dataset_without_a_row_is_listed_by_its_class(capsys: pytest.CaptureFixture[str]) -> None:
    assert listing.datasets_command(["NoisyLabels"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("NoisyLabels: Another dataset with a share of its training labels flipped")
    assert "class_path  ddlight.data.noisy.NoisyLabels" in out
    assert listing.datasets_command([]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == [*TABLE, "NoisyLabels"]


def test_no_match_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"No method matches 'Randon'\. Did you mean Random.*ddlight methods"):
        listing.methods_command(["Randon"])


def test_one_method_is_told_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    listing.methods_command(["Random"])
    out = capsys.readouterr().out
    assert "class_path  ddlight.methods.baselines.random.Random" in out
    assert "paper       arXiv 2006.05929 (baseline of Table 1)." in out


def test_protocols(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from ddlight.recipes.table import PROTOCOLS, describe

    monkeypatch.setenv("COLUMNS", "1000")  # whatever terminal the tests run in
    listing.protocols_command([])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(PROTOCOLS)
    assert all(p.summary in line for p, line in zip(PROTOCOLS.values(), lines[1:], strict=True))
    listing.protocols_command(["edc"])
    *lines, file = capsys.readouterr().out.splitlines()
    assert lines == ["edc", *(f"  {line}" for line in describe("edc"))]
    assert file == f"  file        {discover.PACKAGE / 'recipes' / 'protocols' / 'edc.py'}"


def test_configs_are_grouped_and_fragments_shown_on_request(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(listing, "shipped", lambda: tmp_path / "shipped")
    write("configs/b.yaml", "\n#  Random on digits.\n# more\nx: 1\n")
    write("configs/base/a.yaml", "x: 1\n")
    write("configs/note.txt", "# no\n")
    write("shipped/quickstart.yaml", "# First.\n")
    write("shipped/families/dm.yaml", "# DM.\n")
    write("shipped/b.yaml", "# Another of the name.\n")
    monkeypatch.chdir(tmp_path)
    listing.configs_command([])
    assert capsys.readouterr().out.splitlines()[1:] == [
        "",
        "Start here",
        "  quickstart   First.",
        "",
        "Papers: one run of a published recipe",
        "  b            Random on digits.",
        "",
        "Methods: families",
        "  families/dm  DM.",
    ]
    listing.configs_command(["--all"])
    assert capsys.readouterr().out.splitlines()[-2:] == ["Fragments, which other files name", "  base/a"]
    listing.configs_command(["base"])
    out = capsys.readouterr().out
    assert "base/a" in out and "Random on digits" not in out


def test_configs_that_are_shipped_and_none(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert listing.configs()["coresets/herding"].is_file()
    monkeypatch.setattr(listing, "shipped", lambda: tmp_path / "ship")
    with pytest.raises(UsageError, match="No configuration found"):
        listing.configs_command([])
    file = write("ship/x.yaml", "# X.\n")
    assert listing.configs() == {"x": file}


def test_every_shipped_config_is_in_a_group_of_its_own_title() -> None:
    titles = {listing._group(name) for name in listing.configs()}
    assert titles == set(listing.GROUPS.values())


@pytest.mark.parametrize("command", ["methods", "regimes", "protocols", "datasets", "configs"])
def test_commands_are_quick_and_import_no_torch(command: str, tmp_path: Path) -> None:
    """Processor time of a whole process, which other processes on the machine do not lengthen."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "x.yaml").write_text("# X.\n")
    code = f"""
import sys, time
from ddlight.cli import listing as discover
assert discover.{command}_command([]) == 0
loaded = {{"torch", "lightning", "numpy"}} & set(sys.modules)
assert not loaded, loaded
sys.stderr.write(str(time.process_time()))
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    env.pop("DDLIGHT_METHODS", None)
    runs = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") > 1
        runs.append(float(done.stderr))
    assert min(runs) < 0.3
