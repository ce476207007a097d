"""requirements.txt as pip reads it: comments, long lines, other files; what is not honoured is refused."""

from __future__ import annotations

import codecs
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imagebuilder.errors import FaultsError
from imagebuilder.python.requirements.requirements_file import StatedRequirements, read_requirements

DIGEST = "ab" * 32


def told(found: StatedRequirements) -> list[tuple[str, str, int | None]]:
    return [(each.written.text, Path(each.file).name, each.line) for each in found.requirements]


def test_lines_comments_and_other_files(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/dev.txt").write_text("./lib\n-c pins.txt\n-r ../requirements.txt\n")
    (tmp_path / "more/pins.txt").write_text("paho-mqtt<2\n-r others.txt\n")
    (tmp_path / "more/others.txt").write_text("requests==2.31.0")
    (tmp_path / "requirements.txt").write_text(
        "# what it needs\r\n"
        "\r\n"
        "bottle>=0.13  # a server\r\n"
        f"paho-mqtt==1.6 \\\r\n    --hash=sha256:{DIGEST}\r\n"
        "git+https://host/foo@v1#egg=foo\r\n"
        "-rmore/dev.txt\r\n"
        "--requirement=more/dev.txt\r\n"
        "--prefer-binary\r\n"
        "last"
    )
    found = read_requirements(tmp_path / "requirements.txt")
    assert told(found) == [
        ("bottle>=0.13", "requirements.txt", 3),
        ("paho-mqtt==1.6", "requirements.txt", 4),
        ("git+https://host/foo@v1#egg=foo", "requirements.txt", 6),
        ("./lib", "dev.txt", 1),
        ("last", "requirements.txt", 10),
    ]
    assert found.requirements[1].written.hashes == {DIGEST}
    assert found.requirements[3].folder == tmp_path / "more"
    assert [each.name for each in found.read] == ["requirements.txt", "dev.txt", "pins.txt", "others.txt"]
    assert [each.written.text for each in found.constraints] == ["paho-mqtt<2", "requests==2.31.0"]


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + b"bottle  # \xc3\xa4\n",
        codecs.BOM_UTF16_LE + "bottle\n".encode("utf-16-le"),
        b"# -*- coding: latin-1 -*-\nbottle # \xe4\n",
    ],
)
def test_encodings(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "r.txt").write_bytes(data)
    (found,) = read_requirements(tmp_path / "r.txt").requirements
    assert found.written.text == "bottle"


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        (
            "\n--index-url https://me:pw@host/simple\n",
            2,
            "option --index-url is not honoured",
            "PIP_INDEX_URL",
        ),
        ("-i https://me:pw@host/simple\n", 1, "option -i is not honoured", "PIP_INDEX_URL"),
        ("-e ./lib\n", 1, "option -e is not honoured", "without it"),
        ("--whatever\n", 1, "option --whatever is not honoured", "leave it out"),
        ("a\n-r nothing.txt\n", 2, "nothing.txt cannot be read", "name a file"),
        ("-r https://me:pw@host/r.txt\n", 1, "names a file of this machine", "fetch it"),
        ("-r a.txt b.txt\n", 1, "followed by one file", ""),
        ("a\nb \\\nc\n", 2, "is no requirement", ""),
        ("foo --hash=md5:0\n", 1, "none that is checked here", ""),
        ("-r 'a\n", 1, "cannot be read", ""),
    ],
)
def test_what_is_not_honoured_is_refused(
    tmp_path: Path, text: str, line: int, message: str, hint: str
) -> None:
    (tmp_path / "r.txt").write_text(text)
    with pytest.raises(FaultsError, match=message) as caught:
        read_requirements(tmp_path / "r.txt")
    (fault,) = caught.value.faults
    assert (Path(fault.file).name, fault.line) == ("r.txt", line)
    assert hint in (fault.hint or "")
    assert "pw" not in str(fault)


def test_all_faults_come_at_once_and_a_constraint_is_plain(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("-c c.txt\n??\n")
    (tmp_path / "c.txt").write_text("foo[x]<1\n./lib\n")
    with pytest.raises(FaultsError) as caught:
        read_requirements(tmp_path / "r.txt")
    places = [(Path(fault.file).name, fault.line) for fault in caught.value.faults]
    assert places == [("c.txt", 1), ("c.txt", 2), ("r.txt", 2)]


def test_a_file_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("#" * (2 << 20))
    with pytest.raises(FaultsError, match="larger than"):
        read_requirements(tmp_path / "r.txt")
    (tmp_path / "r.txt").write_text("a\n" * 6000)
    with pytest.raises(FaultsError, match="more than 5000 requirements"):
        read_requirements(tmp_path / "r.txt")
    for number in range(200):
        (tmp_path / f"{number}.txt").write_text(f"-r {number + 1}.txt\n")
    with pytest.raises(FaultsError, match="more than 100 files"):
        read_requirements(tmp_path / "0.txt")


@given(st.binary(max_size=200))
@example(b"# coding: idna\n\xff")
@example(b"# coding: rot13\nx")
@example(b"-r \x00\n")
@example(b"\\")
@example(b"-")
@example(b'- ""')
def test_any_bytes_give_requirements_or_faults(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "r.txt")
        file.write_bytes(data)
        try:
            found = read_requirements(file)
        except FaultsError as error:
            assert error.faults
            return
        assert all(each.line is not None and each.line > 0 for each in found.requirements)
