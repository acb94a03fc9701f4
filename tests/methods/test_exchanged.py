"""Two artefacts of a kind whose folders were exchanged: each load says so, whatever the kind."""

import shutil

import numpy as np
import pytest
import torch

from ddlight.core.errors import DataError
from ddlight.data import Digits
from ddlight.methods.baselines.random import Random
from ddlight.methods.recovery.engine.gathered import RealStatistics
from ddlight.methods.scores.ccs import CCS
from ddlight.methods.scores.concepts import Concepts
from ddlight.methods.scoring.clip import Clip
from ddlight.methods.scoring.embeddings import Embeddings
from ddlight.methods.scoring.phrases import Phrases
from ddlight.methods.scoring.run import Scoring, ScoringRun
from ddlight.methods.scoring.search import Search
from ddlight.networks.students import MLP, ConvNet
from ddlight.recipes.budget import Budget
from ddlight.recipes.plan import Override
from ddlight.sets.labels import LabelPlan, LabelStore
from ddlight.sets.whitening import FittedWhitening, dataset_whitening

HOOKS = """
def one(classes, images):
    return {name: ["a hole"] for name in classes}


def two(classes, images):
    return {name: ["a stroke"] for name in classes}
"""
DIGITS = Digits(size=8)


def swap(first, second):
    """Exchange the folders of two artefacts."""
    aside = first.with_name("aside")
    shutil.move(first, aside)
    shutil.move(second, first)
    shutil.move(aside, second)


def sets(home):
    made = [Random(DIGITS, ipc=1, seed=seed, cache=str(home)) for seed in (0, 1)]
    return [data.artefact for data in made], lambda: made[0].setup("fit")


SCORING = Scoring(ConvNet(2, 5, "batch"), recipe=Override(batch=400), budget=Budget(steps=8), ring=2, dual=2, clean=0)


def scoring(home):
    return [ScoringRun(SCORING, DIGITS, 1, seed, home) for seed in (0, 1)]


def scoring_runs(home):
    runs = scoring(home)
    return runs, runs[0].table


def teachers(home):
    runs = scoring(home)
    return runs, lambda: runs[0].trained


def searches(home):
    options = {"ipc": 1, "cache": str(home), "scoring": SCORING, "search": Search(MLP(8, 2), budget=Budget(steps=1))}
    made = [CCS(Digits(size=8, held_out=2), seed=seed, cutoffs=(0.0, 0.4), **options).searched for seed in (0, 1)]
    return made, lambda: made[0].choice


def embeddings(home):
    made = [Embeddings(Clip("tiny", "random"), data, home) for data in (DIGITS, Digits(size=8, held_out=1))]
    return made, made[0].read


def margins(home):
    options = {"ipc": 1, "cache": str(home), "clip": Clip("tiny", "random")}
    made = [Concepts(DIGITS, source="probe", epochs=epochs, **options) for epochs in (1, 2)]
    made[0].embeddings.ensure()
    return [method.margins for method in made], lambda: made[0].table


def phrases(home):
    (home / "hooks.py").write_text(HOOKS)
    made = [Phrases(f"hooks:{name}", 1, DIGITS, home) for name in ("one", "two")]
    return made, made[0].read


def statistics(home):
    teachers = []
    for run in scoring(home):
        run.ensure()
        teachers.append(run.trained)
        teachers[-1].load(10, 1, 8)
    made = [RealStatistics(teacher, DIGITS, home, 4) for teacher in teachers]
    return made, lambda: made[0].of_all(torch.device("cpu"))


class Labels(LabelStore):
    """Stored labels that nobody has to be asked for."""

    def ensure(self, begin=0.0):
        self._label = lambda batches: np.zeros((4 * len(batches), 3), np.float32)
        return super().ensure(begin)


def labels(home):
    made = [Labels(home, LabelPlan(4, 4, 3, 2, 1.0, "fp16", seed, {})) for seed in (0, 1)]
    return made, made[0].verify


def whitenings(home):
    made = [FittedWhitening(DIGITS, recipe, home) for recipe in ("zca", "zca_kip")]
    return made, lambda: dataset_whitening(DIGITS, "zca", home)


KINDS = (sets, scoring_runs, teachers, searches, embeddings, margins, phrases, statistics, labels, whitenings)


@pytest.mark.parametrize("kind", KINDS)
def test_exchanged_folders_do_not_pass_as_each_other(kind, home):
    torch.set_num_threads(1)
    (first, second), load = kind(home)
    for artefact in (first, second):
        artefact.ensure()
    swap(first.folder, second.folder)
    with pytest.raises(DataError) as error:
        load()
    said = str(error.value)
    for part in (f"{first.folder} holds the {first.kind} {second.fingerprint}", first.fingerprint, "exchanged"):
        assert part in said
    assert f"Move it away (to {second.folder}, " in said and f"run {first.again} again" in said
    swap(first.folder, second.folder)
    load()


def test_the_next_start_makes_it_again_where_the_wrong_folder_was_moved_away(home):
    first, second = (Random(DIGITS, ipc=1, seed=seed, cache=str(home)) for seed in (0, 1))
    for data in (first, second):
        data.condense()
    images = first.read().images
    swap(first.folder, second.folder)
    shutil.rmtree(first.folder)
    again = Random(DIGITS, ipc=1, seed=0, cache=str(home))
    again.setup("fit")
    np.testing.assert_array_equal(again.require().images, images)
