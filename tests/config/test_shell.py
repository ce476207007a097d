"""Shell scripts as they are read."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imagebuilder.config.shell import Branches, Function, Loop, SimpleCommand, read_script
from imagebuilder.config.shell_words import MAX_DEPTH, Array, Expansion, Opaque, ShellError, Text, Word

WORDS = [
    "if",
    "then",
    "else",
    "fi",
    "for x in",
    "do",
    "done",
    "case x in",
    "esac",
    "{",
    "}",
    "(",
    ")",
    "[[",
    "]]",
]
WORDS += [
    "'",
    '"',
    "`",
    "$(",
    "${",
    "$",
    "\\",
    "\n",
    ";",
    ";;",
    "&&",
    "||",
    "|",
    "<<E",
    "E",
    ">",
    "2>&1",
    "#",
    "A=",
    "A+=(",
]
PIECES = st.lists(
    st.sampled_from([*WORDS, "make", "image", " ", "f()", "'a b'", '"$X"']) | st.text(max_size=3)
)


def simple(script: str) -> SimpleCommand:
    (node,) = read_script(script)
    assert isinstance(node, SimpleCommand)
    return node


def texts(words: tuple[Word, ...]) -> list[str]:
    return ["".join(part.text if isinstance(part, Text) else f"<{part}>" for part in word) for word in words]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("make image  PROFILE=x", ["make", "image", "PROFILE=x"]),
        ("a 'b c' \"d  e\" f\\ g", ["a", "b c", "d  e", "f g"]),
        ("a b\\\n  c", ["a", "b", "c"]),
        ("a 'b\nc'", ["a", "b\nc"]),
        ('a "b\\\nc \\" \\n \\$x"', ["a", 'bc " \\n $x']),
        ("a $'b\\tc\\''", ["a", "b\tc'"]),
        ("a b#c # d", ["a", "b#c"]),
        ("a > out 2>&1 <in &>> log b", ["a", "b"]),
        ("a 2 >x", ["a", "2"]),
        ("a <<< 'b' c", ["a", "c"]),
        ("a ''", ["a", ""]),
        ("\ta\r\n", ["a"]),
        ("a 5% -b", ["a", "5%", "-b"]),
        ("time ! a", ["a"]),
    ],
)
def test_words(script: str, words: list[str]) -> None:
    assert texts(simple(script).words) == words


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("$A", (Expansion("A", "$A"),)),
        ('"$A"', (Text("", quoted=True), Expansion("A", "$A", quoted=True))),
        ("${A}b", (Expansion("A", "${A}"), Text("b"))),
        ("${A[@]}", (Expansion("A", "${A[@]}", array="@"),)),
        ("${A:-b c}", (Expansion("A", "${A:-b c}", otherwise=(Text("b c"),), empty_too=True),)),
        ("${A-$B}", (Expansion("A", "${A-$B}", otherwise=(Expansion("B", "$B"),)),)),
        ("$1", (Expansion("1", "$1"),)),
        ("$?", (Opaque("$?"),)),
        ("${A#b}", (Opaque("${A#b}"),)),
        ("${A// /}", (Opaque("${A// /}"),)),
        ("$(a \"b)\" 'c)' $(d) `e)`)", (Opaque("$(a \"b)\" 'c)' $(d) `e)`)"),)),
        ("$((1 + (2)))", (Opaque("$((1 + (2)))"),)),
        ("`a b`", (Opaque("`a b`"),)),
        ("<(a b)", (Opaque("<(a b)"),)),
        ("$", (Text("$"),)),
    ],
)
def test_what_is_put_in(word: str, parts: tuple[object, ...]) -> None:
    assert simple(f"x {word}").words[1] == parts


def test_assignments() -> None:
    node = simple("A=1 B+='2 3' C=(a \"b c\" # d\n $E) make")
    assert [(each.name, each.append) for each in node.assignments] == [
        ("A", False),
        ("B", True),
        ("C", False),
    ]
    (array,) = node.assignments[2].value
    assert isinstance(array, Array)
    assert len(array.words) == 3
    assert texts(node.words) == ["make"]
    declared = simple("export A=1 B")
    assert (declared.declares, [each.name for each in declared.assignments]) == ("export", ["A"])
    assert simple("make A=1").assignments == ()


def test_blocks() -> None:
    nodes = read_script(
        "if a; then b; elif c; then d; else e; fi > log\n"
        "for x in 1 2; do f $x; done\n"
        "while read y; do g; done < file\n"
        "case $z in (1|2) h;; *) i ;; esac\n"
        "j() { k; }\nfunction l { m; }\n"
        "[[ a =~ (b|c) && d ]] && n || o\n"
        "cat <<-'END' > file\n\tif ' \"\n\tEND\n"
        "for ((i = 0; i < 3; i++)); do p; done\n"
        "( q; r ) & { s\n} | t; ((u++))\n"
    )
    kinds = [type(node) for node in nodes]
    s, b, f = SimpleCommand, Branches, Function
    assert kinds == [s, b, Loop, s, b, b, f, f, s, b, b, s, b, s, s, s, s, s]
    assert [len(node.branches) for node in nodes if isinstance(node, Branches)] == [4, 1, 2, 1, 1, 1]
    assert [node.line for node in nodes if isinstance(node, Loop)] == [2]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("a\n'b\n\n", "line 2: the ' that begins here is not closed"),
        ('a "b', 'line 1: the " that begins here is not closed'),
        ("a $(b", "line 1: the \\( that begins here is not closed"),
        ("a ${b", "line 1: the { that begins here is not closed"),
        ("A=(b\nc", "line 1: the \\( that begins here is not closed"),
        ("if a; b; fi", "expected then, found 'fi'"),
        ("a; done", "line 1: 'done' has no beginning"),
        ("(a", "expected \\), found the script's end"),
        ("a ) b", "'\\)' has no beginning"),
        ("&& a", "expected a command, found '&&'"),
        ("{ " * (MAX_DEPTH + 1), f"more than {MAX_DEPTH} blocks in one another"),
        ("x" * ((1 << 20) + 1), "larger than 1 MiB"),
    ],
)
def test_what_is_no_script(script: str, words: str) -> None:
    with pytest.raises(ShellError, match=words):
        read_script(script)


@given(PIECES.map("".join) | PIECES.map(" ".join) | st.text())
@example("a $'" + "\\" * 3)
@example("<<")
@example("${A:-" * 30 + "}" * 30)
@example("((" * 100)
@example("! " * 5000)
@example("a && " * 5000 + "b")
@example("f() " * 2000)
@example("A=(" * 2000)
@example("${A:-" * 2000 + "}" * 2000)
@example('"$(' * 2000)
def test_any_text_is_a_script_or_one_error(script: str) -> None:
    try:
        read_script(script)
    except ShellError as error:
        assert error.message
