"""Names of artefacts say what shapes them, and stay when an option is added."""

from dataclasses import dataclass, field, make_dataclass

from ddlight.core.naming import named, parameters
from ddlight.data import Digits
from ddlight.networks.students import ConvNet


@dataclass(frozen=True)
class Inner:
    size: int = 3
    parts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outer:
    rate: float
    inner: Inner = field(default_factory=Inner)


def test_only_what_differs_from_its_default_is_named():
    assert named(Outer(0.5)) == {"class": "Outer", "rate": 0.5}
    own = {"class": "Inner", "parts": [1, 2]}
    assert named(Outer(0.5, Inner(parts=(1, 2)))) == {"class": "Outer", "rate": 0.5, "inner": own}


def test_an_option_that_is_added_leaves_older_names_alone():
    later = make_dataclass("Inner", [("size", int, 3), ("parts", tuple, ()), ("added", bool, False)])
    assert named(later(5)) == named(Inner(5)) != named(later(5, added=True))


def test_datasets_and_networks():
    assert named([Digits(size=8), None, 2.5]) == [Digits(size=8).identity(), None, 2.5]
    assert named(ConvNet(depth=2)) == {"class": "ConvNet", "depth": 2} != named(ConvNet(depth=1))


class Base:
    def __init__(self, data, keep="hard", seed=0):
        self.data, self.keep, self.seed = data, keep, seed


class Middle(Base):
    def __init__(self, *args, width=3, **kwargs):
        super().__init__(*args, **kwargs)


class Redefined(Middle):
    def __init__(self, *args, keep="easy", **kwargs):
        super().__init__(*args, keep=keep, **kwargs)


class Closed(Middle):
    def __init__(self, data, depth=1):
        super().__init__(data, width=depth)


def test_arguments_that_are_handed_on_are_those_of_the_classes_above():
    assert list(parameters(Middle)) == ["data", "keep", "seed", "width"]
    assert list(parameters(Closed)) == ["data", "depth"]


class Settled(Middle):
    def __init__(self, *args, depth=1, **kwargs):
        super().__init__(*args, keep="easy", **kwargs)


def test_what_a_class_gives_to_the_next_one_itself_is_no_option_of_it():
    assert list(parameters(Settled)) == ["data", "seed", "width", "depth"]


def test_an_argument_of_two_classes_has_the_default_of_the_lower_one():
    assert set(parameters(Redefined)) == set(parameters(Middle))
    assert parameters(Redefined)["keep"].default == "easy"
