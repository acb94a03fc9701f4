"""The regime follows from the protocol where no regime is given, and never where one is."""

import pytest
import yaml

from ddlight.cli.regime import with_regime
from ddlight.core.errors import UsageError

R18 = '{"class_path": "TorchvisionTeacher", "init_args": {"model": "resnet18", "weights": "IMAGENET1K_V1"}}'
DATA = ("--data=Random", "--data.dataset=Digits", "--model.student=ConvNet")


def test_a_protocol_brings_its_regime_and_its_published_teachers():
    words = ["fit", "--data=Random", "--model.student=MLP", "--model.protocol=rded"]
    head, tail = ["--model=TeacherLabel", f"--model.teacher={R18}"], words[2:]
    assert with_regime(words) == [*words[:2], *head, *tail]
    assert with_regime([*words[:-1], "--model.init_args.protocol", "dvc_hard"])[2] == "--model=HardLabel"


def test_words_that_give_a_regime_are_left_alone(home):
    (home / "given.yaml").write_text("model: {class_path: HardLabel, init_args: {protocol: edc}}")
    for words in (
        ["fit", "--model=HardLabel", "--model.protocol=rded"],
        ["fit", "--config", "given.yaml", "--model.protocol=rded"],
        ["condense", "--data=Random"],
        ["fit", "--help"],
        ["fit", "--model.help=HardLabel"],
    ):
        assert with_regime(words) == words


def test_a_config_may_name_a_protocol_alone(command, home):
    (home / "c.yaml").write_text("model: {protocol: dcbench, student: MLP, seed: 3}\ndata: {class_path: Random}\n")
    answer = command("fit", "--config", "c.yaml", "--data.dataset=Digits", "--print_config")
    model = yaml.safe_load(answer.out)["model"]
    assert model["class_path"].endswith(".HardLabel")
    assert (model["init_args"]["protocol"], model["init_args"]["seed"]) == ("dcbench", 3)


def test_a_regime_that_is_given_later_replaces_the_implied_one(command, home):
    (home / "c.yaml").write_text("model: {protocol: rded, student: MLP}\ndata: {class_path: Random}\n")
    answer = command("fit", "--config", "c.yaml", "--model=HardLabel", "--data.dataset=Digits", "--print_config")
    model = yaml.safe_load(answer.out)["model"]
    assert model["class_path"].endswith(".HardLabel") and model["init_args"]["protocol"] == "rded"


def test_teachers_that_are_given_stay_and_options_of_the_published_one_are_set(command):
    given = ["--model.teacher=RunTeacher", "--model.teacher.run=runs/x"]
    answer = command("fit", *DATA, "--model.protocol=rded", *given, "--print_config")
    teacher = yaml.safe_load(answer.out)["model"]["init_args"]["teacher"]
    assert teacher["init_args"]["run"] == "runs/x" and "dropped" not in answer.err
    answer = command("fit", *DATA, "--model.protocol=rded", "--model.teacher.weights=IMAGENET1K_V2", "--print_config")
    teacher = yaml.safe_load(answer.out)["model"]["init_args"]["teacher"]
    assert teacher["init_args"]["model"] == "resnet18" and teacher["init_args"]["weights"] == "IMAGENET1K_V2"


def test_the_last_protocol_wins_and_teachers_of_the_same_kind_stay(command, home):
    (home / "c.yaml").write_text(
        "model: {protocol: edc, student: MLP, teachers: [{class_path: RunTeacher, init_args: {run: a}}]}\n"
    )
    answer = command("fit", "--config", "c.yaml", *DATA[:2], "--model.protocol=gvbsm", "--print_config")
    model = yaml.safe_load(answer.out)["model"]["init_args"]
    assert model["protocol"] == "gvbsm" and [t["init_args"]["run"] for t in model["teachers"]] == ["a"]
    answer = command("fit", "--config", "c.yaml", *DATA[:2], "--model.protocol=dcbench", "--print_config")
    assert yaml.safe_load(answer.out)["model"]["class_path"].endswith(".HardLabel")
    assert "HardLabel in place of MultiTeacherLabel: the option 'teachers' of the config is dropped." in answer.err


def test_neither_regime_nor_protocol_is_said_so(command):
    answer = command("fit", *DATA)
    assert answer.code == 2
    assert "There is no regime: give --model with a class, such as --model=HardLabel, or --model.protocol" in answer.err
    assert command("fit", *DATA[:2], "--model={bad").code == 2
    with pytest.raises(UsageError, match=r"Unknown protocol 'rdde'. Did you mean rded"):
        with_regime(["fit", "--model.protocol=rdde"])
