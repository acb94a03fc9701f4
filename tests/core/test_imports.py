"""What a training command does not import."""

import subprocess
import sys


def test_torchmetrics_comes_without_what_no_run_uses_and_all_of_it_can_be_had_afterwards():
    code = """
import sys
from ddlight.core.imports import UNUSED, import_torchmetrics
import_torchmetrics()
import ddlight.cli.command_line
print(sorted({name.partition(".")[0] for name in sys.modules} & set(UNUSED)))
from lightning_utilities.core.imports import RequirementCache, package_available
from ddlight.regimes.judge import Judge
from scipy.special import ndtri
import torchvision
print(bool(RequirementCache("scipy>=1.0")), package_available("scipy"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['scipy']", "True True"] or done.stdout.splitlines() == ["[]", "True True"]
