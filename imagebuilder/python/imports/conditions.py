"""What a condition round an import says before the program runs: of this target it is true, it is false, or
nobody can tell. The target is Linux, its Python's version is known, and type checkers do not run there."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

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
