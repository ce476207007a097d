"""What one Python source imports, read without running it; and what the standard library's modules import of
one another.

Each import comes with its line and with when it happens: always, when a function is called, on a condition,
only if it is there, or never on the target. Names that are computed cannot be read; where they are is told.
Of a condition round an import nobody can tell, or it is true or false of this target: Linux, with a Python of
known version, where type checkers do not run.

The standard library's graph, as far as OpenWrt may have put it into several packages, is in
data/imports-*.json, one file a Python version, made by reading CPython's own sources in this way.
"""

from __future__ import annotations

import ast
import json
import operator
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Literal

from imagebuilder.errors import UserError
from imagebuilder.model.python_source import EncodingError, source_text
from imagebuilder.python.imports.needs import SourceWords, Use, called_for

Kind = Literal["always", "conditional", "deferred", "optional", "fallback", "typing", "never"]
NEEDED: tuple[Kind, ...] = ("always", "conditional", "deferred")
_ORDER: tuple[Kind, ...] = ("always", "conditional", "deferred", "optional", "fallback", "typing", "never")
_UNUSED: tuple[Kind, ...] = ("typing", "never")  # what does not run
_CATCHES = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
_ENDS = frozenset({"sys.exit", "exit", "quit", "os._exit"})
# how modules are imported, and data of packages read, by calls; the value: the argument that names the module
_CALLS = {
    "__import__": "name",
    "importlib.__import__": "name",
    "importlib.import_module": "name",
    "runpy.run_module": "mod_name",
}
_PROBES = {"importlib.util.find_spec": "name", "importlib.find_loader": "name"}
_RESOURCES = (
    "files",
    "read_text",
    "read_binary",
    "open_text",
    "open_binary",
    "path",
    "contents",
    "is_resource",
)
_DATA = {
    "pkgutil.get_data": "package",
    **{f"importlib.resources.{name}": "package" for name in _RESOURCES},
    **{f"importlib_resources.{name}": "package" for name in _RESOURCES},
}
Verdict = bool | None
_PATCH = 0.5  # there is a patch release, so that (3, 11, _PATCH) > (3, 11), but nobody knows which
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


class SourceError(UserError):
    """A Python source that cannot be read."""


@dataclass(frozen=True, slots=True, order=True)
class Import:
    """One module that a source names. module: absolute, with dots; it begins with a dot where a relative
    import leads out of the app. names: of `from module import names`, which may be modules too. kind: when
    it is imported; 'deferred' in a function, 'optional' where its absence is caught, 'fallback' in what
    catches. instead: modules that take its place if it is missing, in order. by: what the source does, where
    it is no import that imports it."""

    file: str
    line: int
    module: str
    kind: Kind = "always"
    names: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()
    by: str = ""

    @property
    def top(self) -> str:
        """The first part of the module's name."""
        return self.module.partition(".")[0]


@dataclass(frozen=True, slots=True, order=True)
class SourceLine:
    """A line of a source, counted from 1."""

    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Found:
    """What one source imports, by line, the places of imports whose names are computed, and what its calls
    want besides."""

    imports: tuple[Import, ...]
    computed: tuple[SourceLine, ...]
    uses: tuple[Use, ...] = ()


@dataclass(frozen=True, slots=True)
class _Where:
    """Round a statement: the worst kind so far, and the modules that handlers import instead, by the name
    that they give them."""

    kind: Kind = "always"
    instead: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def within(self, kind: Kind, instead: Mapping[str, tuple[str, ...]] | None = None) -> _Where:
        worst = max(self.kind, kind, key=_ORDER.index)
        return _Where(worst, self.instead if instead is None else instead)


@dataclass(slots=True)
class _Reader:
    file: str
    package: str
    python: tuple[int, int]
    implementation: str
    aliases: Mapping[str, str]
    waiting: list[tuple[ast.AST, _Where]] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    computed: list[SourceLine] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    words: SourceWords = field(init=False)

    def read_all(self, tree: ast.Module) -> None:
        self.words = SourceWords(tree)
        self._later(tree.body, _Where())
        while self.waiting:  # no recursion: a long chain of elif or of + is no fault
            self._read(*self.waiting.pop())

    def _later(self, nodes: Iterable[ast.AST], where: _Where) -> None:
        self.waiting += [(node, where) for node in nodes]

    def _read(self, node: ast.AST, where: _Where) -> None:
        inside = where
        match node:
            case ast.Import() | ast.ImportFrom():
                self._statement(node, where)
            case ast.If():
                return self._condition(node, where)
            case ast.Try() | ast.TryStar():
                return self._attempt(node, where)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                inside = where.within("deferred")
            case ast.For() | ast.AsyncFor() | ast.While() | ast.match_case():
                inside = where.within("conditional")
            case ast.With() | ast.AsyncWith() if any(map(_suppresses, node.items)):
                inside = where.within("optional", {})
            case ast.Call():
                self._call(node, where)
        return self._later(ast.iter_child_nodes(node), inside)

    def _statement(self, node: ast.Import | ast.ImportFrom, where: _Where) -> None:
        for module, names, bound in _imported(node, self.package):
            others = (each for name in bound for each in where.instead.get(name, ()))
            instead = tuple(dict.fromkeys(others)) if where.kind == "optional" else ()
            self.imports.append(Import(self.file, node.lineno, module, where.kind, names, instead))

    def _condition(self, node: ast.If, where: _Where) -> None:
        holds = verdict(node.test, self.python, self.implementation)
        unused: Kind = "typing" if is_type_checking(node.test) else "never"
        maybe = where.within("conditional") if holds is None else where
        self._later([node.test], where)
        self._later(node.body, where.within(unused) if holds is False else maybe)
        self._later(node.orelse, where.within("never") if holds is True else maybe)

    def _attempt(self, node: ast.Try | ast.TryStar, where: _Where) -> None:
        tried = where
        for handler in node.handlers:
            catches = _catches_import_error(handler)
            self._later(handler.body, where.within("fallback" if catches else "conditional"))
            if catches and not any(map(_gives_up, handler.body)):
                tried = where.within("optional", _replacements(node.handlers, self.package))
        self._later((*node.body, *node.orelse), tried)
        self._later(node.finalbody, where)

    def _call(self, node: ast.Call, where: _Where) -> None:
        head, dot, tail = dotted(node.func).partition(".")
        called = self.aliases.get(head, head) + dot + tail
        if where.kind not in _UNUSED:
            for need, call, key in called_for(called, node, self.words):
                self.uses.append(Use(self.file, node.lineno, need, call, key))
        named = _CALLS | _PROBES | _DATA
        if called not in named:
            return
        argument = _argument(node, 0, named[called])
        if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
            if called in _CALLS and argument is not None:
                self.computed.append(SourceLine(self.file, node.lineno))
            return
        module = argument.value
        if module.startswith("."):
            anchor = _argument(node, 1, "package")
            package = anchor.value if isinstance(anchor, ast.Constant) else self.package
            module = absolute_module(module.lstrip("."), len(module) - len(module.lstrip(".")), str(package))
        if module:
            kind = where.within("optional").kind if called in _PROBES else where.kind
            self.imports.append(Import(self.file, node.lineno, module, kind))


def absolute_module(module: str, level: int, package: str) -> str:
    """The module of an import in a package, `level` being its dots, 0 for none; one that leads out of the
    topmost package keeps them in front."""
    if level == 0:
        return module
    parts = package.split(".") if package else []
    if level > len(parts):
        return "." * level + module
    return ".".join((*parts[: len(parts) - level + 1], *([module] if module else [])))


def _imported(
    node: ast.Import | ast.ImportFrom, package: str
) -> Iterator[tuple[str, tuple[str, ...], frozenset[str]]]:
    """(module, names taken from it, names that are bound) of each module of a statement."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, (), frozenset({alias.asname or alias.name.partition(".")[0]})
    else:
        names = tuple(alias.name for alias in node.names if alias.name != "*")
        bound = frozenset(alias.asname or alias.name for alias in node.names)
        yield absolute_module(node.module or "", node.level, package), names, bound


def _replacements(handlers: Iterable[ast.ExceptHandler], package: str) -> dict[str, tuple[str, ...]]:
    """The modules that handlers import, by the names that they bind, in order."""
    found: dict[str, tuple[str, ...]] = {}
    for node in (node for handler in handlers for node in ast.walk(handler)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module, _, bound in _imported(node, package):
                found |= {name: (*found.get(name, ()), module) for name in bound}
    return found


def _catches_import_error(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(dotted(kind).rpartition(".")[2] in _CATCHES for kind in kinds)


def _gives_up(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return dotted(statement.value.func) in _ENDS
    return isinstance(statement, ast.Raise)


def _suppresses(item: ast.withitem) -> bool:
    call = item.context_expr
    if not isinstance(call, ast.Call) or dotted(call.func) not in {"suppress", "contextlib.suppress"}:
        return False
    return any(dotted(kind).rpartition(".")[2] in _CATCHES for kind in call.args)


def _argument(node: ast.Call, place: int, name: str) -> ast.expr | None:
    if len(node.args) > place:
        return node.args[place]
    return next((each.value for each in node.keywords if each.arg == name), None)


def _aliases(tree: ast.Module) -> dict[str, str]:
    """What names in this file stand for: {'il': 'importlib', 'files': 'importlib.resources.files'}."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {each.asname: each.name for each in node.names if each.asname}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    return found


def _hint(python: tuple[int, int]) -> str:
    if python > sys.version_info[:2]:
        own = ".".join(map(str, sys.version_info[:2]))
        return f"the builder itself runs on Python {own}: run it with Python {'.'.join(map(str, python))}"
    return "put the line right for the target's Python, or leave the file out"


def parse_source(data: bytes, file: str, python: tuple[int, int]) -> ast.Module:
    """A source as Python (major, minor) reads it. SourceError with file and line."""
    version = ".".join(map(str, python))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a doubtful escape is for the author's own checks
            return ast.parse(source_text(data), file, feature_version=python)
    except EncodingError as error:
        raise SourceError(
            f"{file}:{error.line}: {error.problem}: this does not read as Python {version}", hint=error.hint
        ) from error
    except SyntaxError as error:
        place = f"{file}:{error.lineno}" if error.lineno else file
        raise SourceError(
            f"{place}: {error.msg}: this does not read as Python {version}",
            hint=_hint(python),
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise SourceError(
            f"{file}: this does not read as Python {version}: {str(error) or 'nested too deeply'}",
            hint="put the file right, or leave it out",
        ) from error


def read_source(
    data: bytes, file: str, package: str = "", *, python: tuple[int, int], implementation: str = "cpython"
) -> Found:
    """The imports of one source for a Linux target with Python (major, minor). file: its name in messages;
    package: the dotted package that it is in, or that it is as `__init__.py`; '' at the top. implementation:
    what Python calls itself, or micropython.

    Raises SourceError, with file and line, for what is no Python of that version.
    """
    tree = parse_source(data, file, python)
    try:
        reader = _Reader(file, package, python, implementation, _aliases(tree))
        reader.read_all(tree)
    except RecursionError as error:
        raise SourceError(
            f"{file}: nested too deeply to be read", hint="put the file right, or leave it out"
        ) from error
    imports = (each for each in reader.imports if each.module != "__future__")
    return Found(tuple(sorted(imports)), tuple(sorted(reader.computed)), tuple(sorted(set(reader.uses))))


def dotted(node: ast.expr) -> str:
    """'sys.version_info' for names with attributes; '' for any other expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join((node.id, *reversed(parts))) if isinstance(node, ast.Name) else ""


def is_type_checking(test: ast.expr) -> bool:
    """Whether a condition is `TYPE_CHECKING`, which holds for type checkers alone."""
    return dotted(test).rpartition(".")[2] == "TYPE_CHECKING"


def _known(node: ast.expr, python: tuple[int, int], implementation: str) -> object:
    """The value that an expression has on the target; None if that is not known."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Tuple):
        parts = tuple(_known(each, python, implementation) for each in node.elts)
        return None if None in parts else parts
    if isinstance(node, ast.Subscript) and dotted(node.value) == "sys.version_info":
        return {"0": python[0], "1": python[1], ":2": python}.get(ast.unparse(node.slice))
    values: Mapping[str, object] = {
        "sys.version_info": (*python, _PATCH),
        "sys.version_info.major": python[0],
        "sys.version_info.minor": python[1],
        "sys.platform": "linux",
        "os.name": "posix",
        "sys.implementation.name": implementation,
    }
    return values.get(dotted(node))


def _compared(test: ast.Compare, python: tuple[int, int], implementation: str) -> Verdict:
    """A single comparison of known values of one kind; of versions no more than major and minor is known."""
    if len(test.ops) != 1 or type(test.ops[0]) not in _COMPARE:
        return None
    left, right = (_known(each, python, implementation) for each in (test.left, test.comparators[0]))
    if type(left) is not type(right) or left is None:
        return None
    if isinstance(right, tuple) and len(right) > 2:
        return None
    try:
        return _COMPARE[type(test.ops[0])](left, right)
    except TypeError:  # a version compared with names
        return None


def verdict(test: ast.expr, python: tuple[int, int], implementation: str = "cpython") -> Verdict:
    """Whether a condition holds on a Linux target with Python (major, minor); None if that is not known."""
    if is_type_checking(test):
        return False
    match test:
        case ast.Constant():
            found: Verdict = bool(test.value)
        case ast.UnaryOp(op=ast.Not()):
            inner = verdict(test.operand, python, implementation)
            found = None if inner is None else not inner
        case ast.BoolOp():
            parts = [verdict(each, python, implementation) for each in test.values]
            decides = isinstance(test.op, ast.Or)  # one true part decides `or`, one false part `and`
            found = decides if decides in parts else None if None in parts else not decides
        case ast.Call(args=[ast.Constant(value=str(start))]) if (
            dotted(test.func) == "sys.platform.startswith"
        ):
            found = "linux".startswith(start)
        case ast.Compare():
            found = _compared(test, python, implementation)
        case _:
            found = None
    return found


@dataclass(frozen=True, slots=True)
class ImportGraph:
    """One Python version. eager: by module the modules that come with it at once, without which it cannot be
    imported; lazy: by module those that it may import later, or does without."""

    python: str
    eager: Mapping[str, tuple[str, ...]]
    lazy: Mapping[str, tuple[str, ...]]

    def reached(self, module: str) -> dict[str, tuple[str, ...]]:
        """All modules that come with one at once, itself first, each with the chain of modules that leads to
        it. A package comes before its modules."""
        chains: dict[str, tuple[str, ...]] = {}
        waiting: list[tuple[str, tuple[str, ...]]] = [(module, ())]
        for name, chain in waiting:  # grows while it is walked
            for each in with_parents(name):
                if each not in chains:
                    chains[each] = (*chain, each)
                    waiting += [(target, chains[each]) for target in self.eager.get(each, ())]
        return chains


def with_parents(module: str) -> Iterator[str]:
    """'a.b.c' gives 'a', 'a.b' and 'a.b.c': Python imports a package before what is in it."""
    parts = module.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))


@cache
def import_graph(python: str) -> ImportGraph:
    """The graph of a Python version such as '3.11', which a catalogue names."""
    text = (resources.files(__package__) / "data" / f"imports-{python}.json").read_text("utf-8")
    facts = json.loads(text)

    def tuples(kind: str) -> dict[str, tuple[str, ...]]:
        return {module: tuple(others) for module, others in facts[kind].items()}

    return ImportGraph(python=facts["python"], eager=tuples("eager"), lazy=tuples("lazy"))
