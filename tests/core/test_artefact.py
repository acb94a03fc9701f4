"""The example in the docstring of `Artefact`; its parts are tested with the sets, in tests/sets/test_store.py."""

import doctest

from ddlight.core import artefact


def test_the_example_in_the_docstring(home):
    tried = doctest.testmod(artefact)
    assert tried.attempted == 4 and tried.failed == 0
    assert [path.name for path in (home / "cache").iterdir()] == [artefact.naming.digest({"numbers": 3})]
