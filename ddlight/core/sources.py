"""Classes as their source files state them: found, checked and documented without importing anything heavy."""

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ddlight.core.errors import UsageError

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Option:
    """An argument of a constructor.

    Attributes:
        name: its name.
        annotation: its type, as written; "" where none is.
        default: as written; None where the argument must be given.
        text: what the docstring says of it.
    """

    name: str
    annotation: str
    default: str | None
    text: str = ""


@dataclass(frozen=True, eq=False)
class Source:
    """A class as its source file states it.

    Attributes:
        name: of the class.
        bases: names of its base classes without their module, aliases undone.
        module: dotted name to import it by.
        file: the source file.
        file_text: docstring of the file.
        node: the statement.
    """

    name: str
    bases: tuple[str, ...]
    module: str
    file: Path
    file_text: str
    node: ast.ClassDef

    @cached_property
    def text(self) -> str:
        """Docstring of the class; "" where there is none."""
        return ast.get_docstring(self.node) or ""

    @cached_property
    def functions(self) -> dict[str, Function]:
        """The methods that the class itself defines."""
        return {node.name: node for node in self.node.body if isinstance(node, Function)}

    @property
    def abstract(self) -> bool:
        """Whether the class itself leaves something to a subclass."""
        decorators = (decorator for function in self.functions.values() for decorator in function.decorator_list)
        return any(last_name(decorator) == "abstractmethod" for decorator in decorators)

    @cached_property
    def fields(self) -> list[Option] | None:
        """What the class adds to a dataclass's constructor; None where it is no dataclass."""
        if not {"dataclass", "override"} & set(map(last_name, self.node.decorator_list)):
            return None
        lines = [n for n in self.node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
        options = [_option(ast.unparse(n.target), n.annotation, n.value) for n in lines]
        return [option for option in options if not option.annotation.startswith("ClassVar")]

    @cached_property
    def replaces(self) -> list[str]:
        """Names of the dataclasses whose numbers the class replaces (`core.override`)."""
        calls = [d for d in self.node.decorator_list if isinstance(d, ast.Call) and last_name(d) == "override"]
        return [last_name(kind) for call in calls for kind in call.args]

    def arguments(self, function: str) -> list[Option]:
        """Arguments of a method by name, without self, `*args` and `**kwargs`."""
        node = self.functions[function]
        positional = [*node.args.posonlyargs, *node.args.args]
        required: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
        defaults = [*required, *node.args.defaults, *node.args.kw_defaults]
        pairs = zip([*positional, *node.args.kwonlyargs], defaults, strict=True)
        texts = argument_texts(ast.get_docstring(node) or self.text)
        return [_option(a.arg, a.annotation, default, texts.get(a.arg, "")) for a, default in pairs][1:]


class Sources:
    """Classes of several files, to follow base classes by name; a name in the same file goes before any other."""

    def __init__(self, classes: Iterable[Source]) -> None:
        self.classes = list(classes)
        self._local = {(c.module, c.name): c for c in self.classes}
        self._anywhere = {c.name: c for c in reversed(self.classes)}
        self._above: dict[Source, list[Source]] = {}

    def find(self, name: str) -> Source | None:
        """The class that goes by this name, short or dotted."""
        module, _, short = name.rpartition(".")
        cls = self._local.get((module, short)) or self._anywhere.get(short)
        return cls if cls and (not module or cls.module.startswith(module)) else None

    def above(self, cls: Source, below: tuple[Source, ...] = ()) -> list[Source]:
        """A class and those that it is derived from, in the order in which Python asks them for a method.

        Args:
            cls: the class.
            below: classes that led here; one that is derived from itself ends there.
        """
        if cls not in self._above:
            bases = [base for base in self._bases(cls) if base not in (*below, cls)]
            lines, order = [*(self.above(base, (*below, cls)) for base in bases), bases], [cls]
            while lines := [line for line in lines if line]:
                later = {c for line in lines for c in line[1:]}
                head = next((line[0] for line in lines if line[0] not in later), lines[0][0])
                order.append(head)
                lines = [[c for c in line if c is not head] for line in lines]
            self._above[cls] = order
        return self._above[cls]

    def ancestors(self, cls: Source) -> set[str]:
        """Names of all classes above one, those outside the files included."""
        return {base for c in self.above(cls) for base in c.bases}

    def options(self, cls: Source) -> dict[str, Option]:
        """Arguments of a class's constructor by name, those included that it hands on as `*args, **kwargs`."""
        if cls.replaces:
            numbers = (n for kind in map(self.find, cls.replaces) if kind for n in self._numbers(kind).values())
            return {n.name: replace(n, annotation=f"{n.annotation} | None", default="None") for n in numbers}
        line, options, texts = self.above(cls), dict[str, Option](), dict[str, str]()
        for c in line:
            texts = {**argument_texts(c.text), **texts}
        passed: set[str] = set()
        for c in line:
            if init := c.functions.get("__init__"):
                options = {**{o.name: o for o in c.arguments("__init__") if o.name not in passed}, **options}
                if init.args.kwarg is None:
                    break
                passed |= settled(init)
            elif c.fields is not None:
                options = {**{o.name: o for other in reversed(line) for o in other.fields or ()}, **options}
                break
        return {name: replace(option, text=texts.get(name, "")) for name, option in options.items()}

    def _numbers(self, kind: Source) -> dict[str, Option]:
        """Options of a dataclass, those of inner ones in their place (as `core.override` has them)."""
        numbers: dict[str, Option] = {}
        for name, option in self.options(kind).items():
            inner = self.find(option.annotation)
            if inner is None or inner.fields is None:
                numbers[name] = option
                continue
            own = {name if n == "name" else n: o for n, o in self._numbers(inner).items()}
            numbers |= {n: replace(o, name=n) for n, o in own.items()}
        return numbers

    def _bases(self, cls: Source) -> list[Source]:
        bases = (self._local.get((cls.module, name)) or self._anywhere.get(name) for name in cls.bases)
        return [base for base in bases if base is not None and base is not cls]


def read(file: Path, module: str) -> list[Source]:
    """Return the classes that a file defines at its top level.

    Args:
        file: Python source.
        module: dotted name to import it by.

    Raises:
        UsageError: it is not valid Python.
    """
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError as error:
        raise UsageError(f"{file}:{error.lineno} is not valid Python: {error.msg}") from error
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    aliases = {a.asname: a.name for node in imports for a in node.names if a.asname}
    text = ast.get_docstring(tree) or ""

    def bases(node: ast.ClassDef) -> tuple[str, ...]:
        return tuple(aliases.get(name, name) for name in map(last_name, node.bases))

    nodes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return [Source(node.name, bases(node), module, file, text, node) for node in nodes]


def last_name(node: ast.expr) -> str:
    """Return the last name of an expression: `C` of `C`, `a.b.C`, `C[T]` and `a.C(x)`; "" where there is none."""
    while isinstance(node, ast.Subscript | ast.Call):
        node = node.value if isinstance(node, ast.Subscript) else node.func
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def settled(init: ast.AST) -> set[str]:
    """Arguments that a constructor gives to the next one itself, by keyword, so that they are no options any more."""
    calls = [node for node in ast.walk(init) if isinstance(node, ast.Call)]
    return {k.arg for call in calls if ast.unparse(call.func).endswith("__init__") for k in call.keywords if k.arg}


def argument_texts(text: str) -> dict[str, str]:
    """What the section `Args:` of a docstring says of each argument."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", text, re.M)
    parts = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section[1], re.M) if section else []
    return {name: " ".join(lines.split()) for name, lines in parts}


def _option(name: str, annotation: ast.expr | None, default: ast.expr | None, text: str = "") -> Option:
    """An argument as it is written; a dataclass's `field(default_factory=F)` has the default F()."""
    value = ast.unparse(default) if default else None
    factory = re.search(r"default_factory=([\w.]+)", value or "")
    written = ast.unparse(annotation).strip("'\"") if annotation else ""
    return Option(name, written, f"{factory[1]}()" if factory else value, text)
