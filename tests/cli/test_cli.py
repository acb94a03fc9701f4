"""The command line: overview, quick light commands, dropped options, --dry-run, --tiny."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import ddlight
from ddlight.__main__ import COMMANDS
from ddlight.cli import words
from ddlight.cli.tiny import make_tiny
from ddlight.cli.words import Words
from ddlight.core.result import Result
from ddlight.recipes.budget import Budget

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
CPU = ("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.progress=false")
SMALL = (*CPU, "--model.student.width=8", "--model.budget.steps=3")

LIGHT = """
import sys
from ddlight.__main__ import main
for words in ("", "nope", "--version", "methods", "regimes", "protocols", "protocols edc", "datasets", "configs",
              "report .", "show .", "submit --config configs/quickstart.yaml --dry-run"):
    main(words.split())
    loaded = [name for name in ("torch", "lightning", "timm", "sklearn") if name in sys.modules]
    assert not loaded, f"{words} imports {loaded}"
"""


def snapshot(folder):
    """Every file below a folder with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def test_alone_it_lists_every_command(command):
    answer = command()
    assert answer.code == 0
    for name, (_, text) in COMMANDS.items():
        assert f"  {name:<10} {text}\n" in answer.out
    assert "ddlight fit --config configs/quickstart.yaml" in answer.out
    assert command("--help").out == answer.out


def test_version(command):
    answer = command("--version")
    assert (answer.code, answer.out) == (0, f"ddlight {ddlight.__version__}\n")


def test_unknown_command_names_the_nearest(command):
    answer = command("condence", "--config", "x.yaml")
    assert answer.code == 2
    assert answer.err == "ddlight: Unknown command 'condence'. Did you mean condense? 'ddlight' lists them.\n"


def test_light_commands_import_no_torch():
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", LIGHT], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_module_and_command_are_the_same():
    done = subprocess.run([sys.executable, "-m", "ddlight", "nope"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("ddlight: Unknown command 'nope'.")


def test_help_shows_options_and_their_documentation(command):
    answer = command("fit", "--help")
    assert answer.code == 0
    assert "--trainer.checkpoint_every" in answer.out
    assert "fraction of the run between two checkpoints" in answer.out


def test_options_that_a_change_of_class_drops_are_said_in_one_line_each(command):
    answer = command("fit", "--config", QUICKSTART, "--model.student=Torchvision", "--model.student.name=resnet18")
    said = [line for line in answer.err.splitlines() if "dropped" in line]
    assert said == [
        "Torchvision in place of ConvNet: the option 'depth' of the config is dropped.",
        "Torchvision in place of ConvNet: the option 'width' of the config is dropped.",
    ]
    again = command("fit", "--config", QUICKSTART, "--model.student=MLP", "--dry-run", *CPU)
    assert again.code == 0
    assert "dropped" not in again.err


def test_dropped_mappings_and_lists_are_named_without_their_content(command, home):
    teachers = [{"class_path": "RunTeacher", "init_args": {"run": "a", "checkpoint_epoch": 3}}] * 2
    model = {"class_path": "MultiTeacherLabel", "init_args": {"student": "ConvNet", "teachers": teachers}}
    data = {"class_path": "Random", "init_args": {"dataset": "Digits"}}
    (home / "many.yaml").write_text(yaml.safe_dump({"model": model, "data": data}))
    answer = command("fit", "--config", "many.yaml", "--model=HardLabel", "--print_config")
    assert answer.code == 0
    said = [line for line in answer.err.splitlines() if "dropped" in line]
    assert said == ["HardLabel in place of MultiTeacherLabel: the option 'teachers' of the config is dropped."]


def test_dry_run_prints_the_plan_and_writes_nothing(command, home):
    answer = command("fit", "--config", QUICKSTART, "--dry-run", *SMALL)
    assert answer.code == 0
    for line in (
        "data      Digits: 10 classes, 1 x 32 x 32",
        f"set       Random, ipc 10, {home / 'cache'}",
        "regime    HardLabel, protocol dcbench",
        "student   ConvNet(depth=3, width=8, norm='instance')",
        "teachers  none",
        "recipe    optimizer sgd, lr 0.01, batch 100",
        "budget    3 steps: 3 steps of 100 images, 300 images seen",
        "time      about ",
        "memory    about ",
        "disk      about ",
    ):
        assert f"\n{line}" in answer.out
    assert "to be made" in answer.out
    assert snapshot(home) == {}


@pytest.mark.parametrize("name", ["condense", "test", "validate"])
def test_dry_run_of_the_other_commands_writes_nothing(command, home, name):
    answer = command(name, "--config", QUICKSTART, "--dry-run", *CPU)
    assert answer.code == 0
    assert f"dry run of '{name}'" in answer.out
    assert snapshot(home) == {}


def test_condense_needs_no_model_and_fit_finds_the_set(command, home):
    words = ("--data=Random", "--data.dataset=Digits", "--data.ipc=3")
    made = command("condense", *words, "--trainer.accelerator=cpu", "--trainer.devices=1")
    assert made.code == 0
    folder = next((home / "cache").rglob("manifest.json")).parent
    assert f"condensed set: {folder}" in made.err
    before = snapshot(home / "cache")
    dry = command("fit", *words, "--model=HardLabel", "--model.student=MLP", "--dry-run", *CPU)
    assert f"{folder}: exists" in dry.out
    fitted = command("fit", *words, "--model=HardLabel", "--model.student=MLP", "--model.budget.steps=2", *CPU)
    assert fitted.code == 0
    assert snapshot(home / "cache") == before


def test_tiny_says_what_it_changed_and_runs(command, home):
    answer = command("fit", "--config", QUICKSTART, "--tiny", *CPU, "--data.ipc=50", "--data.seed=3")
    assert answer.code == 0
    changed = answer.err.split("--tiny changed:\n", 1)[1]
    assert "  data.ipc: 50 -> 10\n" in changed
    assert "  model.student.width: 32 -> 8\n" in changed
    assert "  model.budget: None -> " in changed
    assert "data.seed" not in changed
    result = Result.read(next((home / "runs" / "tiny" / "quickstart").glob("*/result.json")).parent)
    assert (result.budget.steps, result.set.ipc, result.set.seed, result.set.dataset) == (20, 10, 3, "Digits")


@pytest.mark.parametrize("method", ["scores.cad_prune.CADPrune", "patches.ca2d.CA2D"])
def test_tiny_has_one_budget_where_a_method_was_given_another(method):
    given = {"steps": None, "epochs": 60.0, "images": None, "full_epochs": None}
    data = {"class_path": f"ddlight.methods.{method}", "init_args": {"budget": given}}
    tiny = make_tiny({"data": data, "model": None, "trainer": {"run": None}})
    assert Budget(**tiny["data"]["init_args"]["budget"]) == Budget(full_epochs=2)


def test_run_folder_is_named_by_the_config_and_not_by_fragments(command, home):
    base = home / "base"
    base.mkdir()
    (base / "short.yaml").write_text("trainer: {checkpoint_every: 0}\n")
    answer = command("fit", "--config", QUICKSTART, "--config", base / "short.yaml", *SMALL)
    assert answer.code == 0
    assert [p.name for p in (home / "runs").iterdir()] == ["quickstart"]


def test_a_class_that_moves_keeps_the_names_of_its_runs(home):
    from ddlight.cli.command_line import SHAPING, choose_run

    def config(module):
        teachers = [{"class_path": f"{module}.RunTeacher", "init_args": {"run": "a.b"}}]
        model = {"class_path": f"{module}.MultiTeacherLabel", "init_args": {"seed": 3, "teachers": teachers}}
        return {"model": model, "data": None, "trainer": dict.fromkeys(SHAPING)}

    assert choose_run("x", config("here")) == choose_run("x", config("else.where"))
    other = config("here")
    other["model"]["init_args"]["teachers"][0]["init_args"]["run"] = "c.b"
    assert choose_run("x", other) != choose_run("x", config("here"))


def test_the_same_command_twice_gives_two_runs(command, home):
    for _ in range(2):
        assert command("fit", "--config", QUICKSTART, *SMALL).code == 0
    runs = sorted((home / "runs" / "quickstart").iterdir())
    assert len(runs) == 2
    assert runs[1].name == f"{runs[0].name}-2"
    assert runs[0].joinpath("student.safetensors").read_bytes() == runs[1].joinpath("student.safetensors").read_bytes()


def test_test_and_validate_read_the_newest_finished_run(command, home):
    fit = ["--data=Random", "--data.dataset=Digits", "--data.dataset.held_out=5", "--data.ipc=2", "--model=HardLabel"]
    fit += ["--model.student=ConvNet", "--model.student.width=8", "--model.budget.steps=3", "--trainer.accelerator=cpu"]
    fit += ["--trainer.devices=1", "--trainer.progress=false"]
    assert "There is no run at runs/random/" in command("test", *fit).err
    assert command("fit", *fit).code == 0
    first = Result.read(next(home.glob("runs/random/*/result.json")))
    tested, validated = command("test", *fit), command("validate", *fit)
    assert (tested.code, validated.code) == (0, 0)
    assert f"acc {first.acc.test:.1f} %" in tested.err and f"held-out acc {first.acc.held_out:.1f} %" in validated.err
    assert len(list(home.glob("runs/random/*/result.json"))) == 1


def test_classes_that_leave_something_to_others_are_no_choices():
    from ddlight.core import discover

    allowed = set(discover.choices("CondensedDataModule", discover.sources()))
    assert {entry.name for entry in discover.methods()} <= allowed
    assert not allowed & {"ScoreSelector", "GeometrySelector", "PatchSynthesiser", "RecoveredSynthesiser"}


@pytest.fixture
def every():
    """The package's classes as its files state them."""
    from ddlight.core import discover

    return discover.sources()


def test_what_sources_say_is_what_importing_says(every):
    from ddlight.core.naming import parameters

    for source in every.classes:
        cls = getattr(importlib.import_module(source.module), source.name)
        ours = [c for c in cls.__mro__ if c.__module__.startswith("ddlight.") and "__init__" in vars(c)]
        if ours:
            assert list(every.options(source)) == list(parameters(cls)), source.name


def test_choices_are_the_concrete_classes_below_a_base(every):
    from ddlight.core.discover import FAMILIES, HIDDEN, choices

    def below(cls):
        return {cls}.union(*map(below, cls.__subclasses__()))

    def concrete(cls):
        return not any(getattr(value, "__isabstractmethod__", False) for value in vars(cls).values())

    for source in every.classes:
        importlib.import_module(source.module)
    for family in FAMILIES:
        base = every.find(family)
        cls = getattr(importlib.import_module(base.module), family)
        ours = {c.__name__ for c in below(cls) - {cls} if c.__module__.startswith("ddlight.") and concrete(c)}
        assert set(choices(family, every)) == {name for name in ours - set(HIDDEN) if name[0] != "_"}


def test_every_option_that_help_shows_is_documented(every):
    from ddlight.cli.helping import command_help

    for command in ("fit", "condense", "score"):
        for name, option in words.command_options(command, every).items():
            assert option.text, name
        assert "=None" not in command_help(command, every)


MISTAKES = (
    "fit --config configs/quickstart.yaml --data.ipcc=5",
    "fit --config configs/quickstart.yaml --data=Randon",
    "fit --config configs/quickstar.yaml",
    "fit configs/quickstart.yaml",
    "fit --config configs/quickstart.yaml --model.budget.stps=5",
    "condense --config configs/quickstart.yaml --trainer.device=1",
    "score",
)
HELP = ("fit --help", "condense --help", "score -h", "fit --data.help=Herding", "fit --model.student.help ConvNet")
QUICK = """
import sys, time
from ddlight.__main__ import main
code = main(sys.argv[1].split())
assert "torch" not in sys.modules
assert time.process_time() < 3, time.process_time()
sys.exit(code)
"""


@pytest.mark.parametrize("line", [*MISTAKES, *HELP])
def test_mistakes_and_help_are_answered_without_torch(line):
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", QUICK, line], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == (2 if line in MISTAKES else 0), done.stderr
    assert done.stderr.startswith("ddlight: ") if line in MISTAKES else len(done.stdout) > 200


def test_help_of_condense_begins_with_what_it_does_and_the_most_used_options(command):
    screen = command("condense", "--help").out.split("Options of every method")[0]
    assert screen.startswith("ddlight condense: Make a condensed set")
    assert len(screen.splitlines()) <= 40
    for name in ("--config", "--data", "--data.ipc", "--data.dataset", "--data.dataset.root", "--files", "--dry-run"):
        assert f"  {name}=" in screen or f"  {name} " in screen
    assert "--model" not in screen.split("A class has options")[0]


def test_help_of_a_class_shows_what_its_bases_take_too(command):
    out = command("fit", "--data.help=Herding").out
    for text in ("--data.normalise=BOOL", "--data.ipc=INT", "--data.scoring.early=INT", "--data.scoring.recipe.lr"):
        assert text in out
    wrong = command("fit", "--data.help=Hording")
    assert wrong.code == 2 and "Unknown method 'Hording'. Did you mean Herding" in wrong.err


@pytest.mark.parametrize(
    "words",
    [
        ["--data.size=3", "--data=FullData"],  # an option of the class that is named last may come first
        ["--data=my_package.Method", "--data.anything=1"],
        ["--model=null", "--data={class_path: Random, init_args: {ipc: 3}}"],
        ["--model.student=ConvNet", "--model.student.width", "8", "--trainer.callbacks+=X", "--trainer.logger.x=1"],
    ],
)
def test_what_sources_cannot_tell_is_left_to_the_parser(every, words):
    Words("fit", every).check(["--model=HardLabel", "--data=Random", *words])
