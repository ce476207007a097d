"""Requirements as pip writes them: names, addresses, paths and hashes; secrets do not show."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imagebuilder.config.requirement import (
    Address,
    WrittenRequirement,
    parse_requirement_line,
    shown_address,
    variables_of,
)

DIGEST, OTHER = "ab" * 32, "12" * 32


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Foo.Bar>=1,<2", WrittenRequirement("Foo.Bar>=1,<2", "foo-bar", specifier="<2,>=1")),
        (
            'foo[a,b]==1 ; python_version < "3.12"',
            WrittenRequirement(
                'foo[a,b]==1 ; python_version < "3.12"',
                "foo",
                frozenset("ab"),
                "==1",
                'python_version < "3.12"',
            ),
        ),
        (
            f"foo==1 --hash=sha256:{DIGEST} --hash sha256:{OTHER.upper()}",
            WrittenRequirement("foo==1", "foo", specifier="==1", hashes=frozenset({DIGEST, OTHER})),
        ),
        ("./libs/foo", WrittenRequirement("./libs/foo", "", address=Address("path", "./libs/foo"))),
        (".", WrittenRequirement(".", "", address=Address("path", "."))),
        (
            "libs/a b/foo[x]; sys_platform == 'linux'",
            WrittenRequirement(
                "libs/a b/foo[x]; sys_platform == 'linux'",
                "",
                frozenset("x"),
                marker="sys_platform == 'linux'",
                address=Address("path", "libs/a b/foo"),
            ),
        ),
        (
            "foo-1.0-py3-none-any.whl",
            WrittenRequirement(
                "foo-1.0-py3-none-any.whl", "", address=Address("path", "foo-1.0-py3-none-any.whl")
            ),
        ),
        (
            f"foo @ file:///srv/a%20b/foo-1.0.tar.gz#sha256={DIGEST}",
            WrittenRequirement(
                f"foo @ file:///srv/a%20b/foo-1.0.tar.gz#sha256={DIGEST}",
                "foo",
                address=Address("path", "/srv/a b/foo-1.0.tar.gz"),
                hashes=frozenset({DIGEST}),
            ),
        ),
        ("file:libs/foo", WrittenRequirement("file:libs/foo", "", address=Address("path", "libs/foo"))),
        (
            "git+https://host/a/foo.git@v1.0#egg=Foo[x]&subdirectory=py",
            WrittenRequirement(
                "git+https://host/a/foo.git@v1.0#egg=Foo[x]&subdirectory=py",
                "foo",
                frozenset("x"),
                address=Address("git", "https://host/a/foo.git", "v1.0", "py"),
            ),
        ),
        (
            "foo [x] @ git+ssh://git@host:22/foo@feature/one ; python_version>'3'",
            WrittenRequirement(
                "foo [x] @ git+ssh://git@host:22/foo@feature/one ; python_version>'3'",
                "foo",
                frozenset("x"),
                marker="python_version>'3'",
                address=Address("git", "ssh://git@host:22/foo", "feature/one"),
            ),
        ),
        (
            "foo@git+file:///srv/foo",
            WrittenRequirement("foo@git+file:///srv/foo", "foo", address=Address("git", "file:///srv/foo")),
        ),
        (
            "https://host/d/foo-1.0-py3-none-any.whl",
            WrittenRequirement(
                "https://host/d/foo-1.0-py3-none-any.whl",
                "",
                address=Address("download", "https://host/d/foo-1.0-py3-none-any.whl"),
            ),
        ),
    ],
)
def test_what_pip_writes(line: str, expected: WrittenRequirement) -> None:
    assert parse_requirement_line(line) == expected


@pytest.mark.parametrize(
    ("line", "shown", "place"),
    [
        (
            "foo @ git+https://me:hunter2@host/foo@v1",
            "foo @ git+https://me:****@host/foo@v1",
            "https://me:hunter2@host/foo",
        ),
        (
            "git+https://hunter2@host/foo#egg=foo",
            "git+https://****@host/foo#egg=foo",
            "https://hunter2@host/foo",
        ),
        (
            "https://host/foo-1.zip?token=hunter2",
            "https://host/foo-1.zip?****",
            "https://host/foo-1.zip?token=hunter2",
        ),
        (
            "git+https://${WHO}:${TOKEN}@host/foo",
            "git+https://${WHO}:${TOKEN}@host/foo",
            "https://${WHO}:${TOKEN}@host/foo",
        ),
    ],
)
def test_passwords_do_not_show(line: str, shown: str, place: str) -> None:
    found = parse_requirement_line(line)
    assert found.text == shown
    assert found.address is not None
    assert found.address.place == place
    assert "hunter2" not in repr(found)


def test_variables_are_told_and_show() -> None:
    assert variables_of("https://${WHO}:${TOKEN}@host/${lower}") == ["WHO", "TOKEN"]
    assert shown_address("https://${TOKEN}@host/x") == "https://${TOKEN}@host/x"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "no requirement stands here"),
        ("foo bar", r"is no requirement such as"),
        ("foo @ ", "is no requirement"),
        ("foo --install-option=x", "'--install-option' has no effect here"),
        ("-r other.txt", "'-r' has no effect here"),
        ("foo --hash=md5:00", "is none that is checked here"),
        (f"git+https://host/foo@v1 --hash=sha256:{DIGEST}", "git has commits"),
        ("hg+https://host/foo", r"'hg\+https:' is none of the addresses"),
        ("git+git@host:foo/bar.git", "is none of the addresses"),
        ("https://host/foo.tar.xz", r"'foo\.tar\.xz' is no file that can be taken"),
        ("https://host/simple/", "is no file that can be taken"),
        ("foo.egg", "is no file that can be taken"),
        ("file://server/foo", "no place of this machine"),
        ("foo @ git+https://host/x#egg=bar", "two names for one distribution"),
        ("git+https://host/x#subdirectory=../y", "is a folder within the source"),
        ("git+https://host/x@--upload-pack=sh", "is no branch, tag or commit"),
        ("git+https://host/", "has a path"),
        ("./x ; python_versio < '3'", "is no environment marker"),
        ("git+https://host/x#frag=1", "#frag= is not known"),
        ("foo @ git+https://me:hun/ter2@host/foo", "server cannot be told"),
        ("foo==1 https://me:hunter2@host/x", "is no requirement"),
        ("a" * 5000, "one line of up to 4096"),
        ("foo\n--hash=sha256:00", "one line of up to"),
    ],
)
def test_what_is_none_is_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_requirement_line(line)
    assert "hunter2" not in str(caught.value)
    assert "ter2" not in str(caught.value)


@given(
    st.text(max_size=80)
    | st.lists(
        st.sampled_from(
            [
                "foo",
                "[x]",
                " @ ",
                "git+",
                "https://",
                "host/",
                "file:",
                "#egg=",
                "@",
                ";",
                " --hash=",
                "%",
                "\\",
            ]
        ),
        max_size=12,
    ).map("".join)
)
@example("foo @ git+https://[::1/x")
@example("https://u:p@h")
def test_any_text_gives_a_requirement_or_one_error(line: str) -> None:
    try:
        found = parse_requirement_line(line)
    except ValueError:
        return
    assert found.name or found.address is not None
