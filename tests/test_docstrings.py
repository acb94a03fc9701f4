"""The examples in docstrings give what they say."""

import doctest
import importlib

import pytest

from ddlight.core.discover import PACKAGE

EXAMPLES = sorted(file.relative_to(PACKAGE.parent) for file in PACKAGE.rglob("*.py") if ">>> " in file.read_text())


@pytest.mark.parametrize("file", EXAMPLES, ids=str)
def test_the_examples_hold(file, home):
    module = importlib.import_module(".".join(file.with_suffix("").parts))
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0
