"""Sweep files of W&B: the command line that an agent builds parses, trains, and logs what the sweep maximises."""

import itertools
from pathlib import Path

import pytest
import yaml

from ddlight.core.result import Result
from ddlight.recipes.table import PROTOCOLS

ROOT = Path(__file__).parents[2]
SWEEPS = [pytest.param(p, id=p.stem) for p in sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))]
CPU = ("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.progress=false")


def agent_command(sweep, chosen):
    """The command line of one run, put together as wandb's agent does (wandb_agent.py, `_command_run`)."""
    utils = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    macros = utils.create_sweep_command_args({"args": {name: {"value": value} for name, value in chosen.items()}})
    macros |= {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [sweep["program"]]}
    words = [str(word) for word in utils.create_sweep_command(list(sweep["command"]))]
    filled = [macros[word[2:-1]] if word.startswith("${") else [word] for word in words]
    return list(itertools.chain.from_iterable(filled))


def grid(sweep):
    """Every choice of the sweep's parameters."""
    values = {name: given.get("values", [given.get("value")]) for name, given in sweep["parameters"].items()}
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


@pytest.fixture
def at_root(home):
    """A working folder in which the paths of the sweep files lead to the shipped configs."""
    (home / "configs").symlink_to(ROOT / "configs")
    return home


@pytest.mark.parametrize("file", SWEEPS)
def test_parameters_are_flat_and_of_plain_values(file):
    sweep = yaml.safe_load(file.read_text())
    assert sweep["method"] == "grid"
    for name, given in sweep["parameters"].items():
        assert set(given) in ({"values"}, {"value"}), f"{name} holds {given}: a nested block arrives as a dictionary"
        for value in given.get("values", [given.get("value")]):
            assert isinstance(value, (str, int, float, bool)), f"{name}: {value!r} would arrive as its Python text"


@pytest.mark.parametrize("file", SWEEPS)
def test_the_command_is_a_ddlight_command_that_logs_to_the_project(file):
    sweep = yaml.safe_load(file.read_text())
    words = agent_command(sweep, grid(sweep)[0])
    assert words[:3] == ["/usr/bin/env", "ddlight", "fit"]
    assert f"--wandb={sweep['project']}" in words
    assert sweep["command"][-1] == "${args}", "what comes later wins: the sweep's values must come last"


@pytest.mark.parametrize("file", SWEEPS)
def test_every_run_of_the_sweep_parses_to_what_was_chosen(command, at_root, file):
    sweep = yaml.safe_load(file.read_text())
    seen = set()
    for chosen in grid(sweep):
        answer = command(*agent_command(sweep, chosen)[2:], "--print_config")
        assert answer.code == 0, answer.err
        seen.add(answer.out)
        config = yaml.safe_load(answer.out)
        assert config["data"]["init_args"]["ipc"] == chosen["data.ipc"]
        assert config["data"]["init_args"]["seed"] == chosen["data.seed"]
        assert config["data"]["init_args"]["dataset"]["init_args"]["held_out"] == chosen["data.dataset.held_out"]
        assert config["model"]["init_args"]["protocol"] == chosen["model.protocol"]
        assert config["model"]["class_path"].endswith(f".{PROTOCOLS[chosen['model.protocol']].regime}")
    assert len(seen) == len(grid(sweep))


@pytest.mark.parametrize("file", SWEEPS)
def test_runs_of_the_sweep_train_and_have_its_metric(command, at_root, file):
    sweep = yaml.safe_load(file.read_text())
    first_of_each = {chosen["model.protocol"]: chosen for chosen in reversed(grid(sweep))}
    assert sweep["metric"] == {"name": "val/acc", "goal": "maximize"}
    for chosen in first_of_each.values():
        words = [word for word in agent_command(sweep, chosen)[2:] if not word.startswith("--wandb")]
        answer = command(*words, "--tiny", *CPU)
        assert answer.code == 0, answer.err
        run = answer.err.strip().splitlines()[-1].split()[-1]
        result = Result.read(Path(run).parent)
        assert result.protocol == chosen["model.protocol"]
        assert result.acc.held_out is not None
