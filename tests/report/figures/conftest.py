"""Fixtures of the figures' tests; `study` is that of the report's."""

from importlib import util
from pathlib import Path

import pandas as pd
import pytest
from made_up import others, regimes

from ddlight.report.collect import collect

_spec = util.spec_from_file_location("report_fixtures", Path(__file__).parents[1] / "conftest.py")
_fixtures = util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
study = _fixtures.study


@pytest.fixture(scope="session")
def everything(tmp_path_factory):
    """Results that allow every figure but those of an analysis and of images; not to be changed."""
    study = _fixtures.Study(tmp_path_factory.mktemp("everything") / "runs")
    regimes(study)
    others(study)
    return collect([study.root])


@pytest.fixture
def results(study):
    """The table of what a test has added to its study."""
    return lambda: collect([study.root])


@pytest.fixture(scope="session")
def analysis():
    """What `ddlight analyze` writes; not to be changed."""
    columns = ["dataset", "method", "args", "ipc", "seed", "rep_minimax", "div_minimax", "rep_cov", "div_mean"]
    rows = [
        ["Digits", method, args, ipc, seed, 0.5 + shift + 0.01 * seed, 0.2 + shift, 0.8 - shift, 0.4 + 0.02 * seed]
        for method, args, shift in (
            ("Random", "{}", 0.0),
            ("AUM", '{"keep": "easy", "scoring": {"early": 10}}', 0.1),
            ("AUM", '{"keep": "hard", "scoring": {"early": 10}}', 0.15),
            ("FADRM", "{}", -0.1),
        )
        for ipc in (10, 50)
        for seed in range(2)
    ]
    return pd.DataFrame(rows, columns=columns)
