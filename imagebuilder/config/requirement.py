"""One requirement as pip writes it: by its name (PEP 508), by an address or a path, with hashes. Pure.

`bottle>=0.13`, `foo @ git+https://host/foo@v1`, `git+https://host/foo@v1#egg=foo&subdirectory=python`,
`./libs/foo[more]`, `libs/foo-1.0-py3-none-any.whl`, `file:///srv/foo-1.0.tar.gz`, each with
`; python_version < "3.12"` and `--hash=sha256:…` behind it.

Source: pip's documentation, "Requirement Specifiers", "VCS Support" and "Secure installs"; PEP 508, PEP 440.
"""

from __future__ import annotations

import re
import shlex
import urllib.parse
from dataclasses import dataclass, field
from typing import Literal

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name

MAX_REQUIREMENT = 4096  # characters
ARCHIVES = (".whl", ".tar.gz", ".tgz", ".zip")
_OTHER_ARCHIVES = (".tar", ".tar.bz2", ".tbz", ".tar.xz", ".txz", ".tar.lzma", ".egg", ".exe")
_NAMED = re.compile(r"^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(\[[^\]]*\])?\s*@\s*(.+)$", re.DOTALL)
_NAME = re.compile(r"^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[([^\]]*)\])?$")
_EXTRAS = re.compile(r"^(.+?)\[([^\]]*)\]$", re.DOTALL)
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):(.*)$", re.DOTALL)
_REVISION = re.compile(r"^[A-Za-z0-9_][^\s\x00-\x1f\x7f~^:?*\[\\]*$")
_HASH = re.compile(r"^sha256:([0-9A-Fa-f]{64})$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_PASSWORD = re.compile(r"(?<=://)\S*(?=@)")
_SERVER = re.compile(r"^([^:\[\]]+|\[[0-9A-Fa-f:.]+\])(:\d{0,5})?$")
_TOOL = re.compile(r"^(git|hg|svn|bzr)\+")
_GIT_SCHEMES = ("https", "http", "ssh", "git", "file")
_BLOTTED = "****"
AddressKind = Literal["git", "download", "path"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a distribution is to be had without a package index. place: git's own address of a repository, a
    file's address, both as they were written, with what they hold of passwords; or a path, which counts from
    whoever names it. revision: a branch, tag or commit, "" for the repository's HEAD; folder: of the project
    in it."""

    kind: AddressKind
    place: str = field(repr=False)
    revision: str = ""
    folder: str = ""

    @property
    def shown(self) -> str:
        """The place, for everybody to see."""
        return shown_address(self.place)


@dataclass(frozen=True, slots=True)
class WrittenRequirement:
    """A requirement. text: as it was written, without hashes and without what must not be seen. name:
    normalized, "" for an address that does not tell it; specifier, marker: "" for none. hashes: SHA-256, in
    hex, of files that may be taken; none for any."""

    text: str
    name: NormalizedName | Literal[""]
    extras: frozenset[str] = frozenset()
    specifier: str = ""
    marker: str = ""
    address: Address | None = None
    hashes: frozenset[str] = frozenset()


def shown_address(address: str) -> str:
    """An address without passwords, tokens and queries; `${NAME}` in their place stays, since it holds
    none."""
    scheme, colon, rest = address.partition("://")
    if not colon:
        return address
    host, slash, path = rest.partition("/")
    user, at, server = host.rpartition("@")
    if at:
        name, password, secret = user.partition(":")
        if password:
            user = f"{name}:{_blotted(secret)}"
        elif not scheme.endswith("ssh"):
            user = _blotted(name)
    path, query, said = path.partition("?")
    query = f"{query}{_blotted(said)}" if said else query
    return f"{scheme}://{user}{at}{server}{slash}{path}{query}"


def shown_requirement(line: str) -> str:
    """A requirement for everybody to see, with its hashes."""
    address = parse_requirement_line(line).address
    return line if address is None else line.replace(address.place, address.shown)


def _blotted(secret: str) -> str:
    return secret if not secret or _VARIABLE.fullmatch(secret) else _BLOTTED


def variables_of(text: str) -> list[str]:
    """The names of the `${NAME}` in it."""
    return _VARIABLE.findall(text)


def is_plain(line: str) -> bool:
    """Whether it is text of one line."""
    return not any((ord(each) < 32 and each != "\t") or "\ud800" <= each <= "\udfff" for each in line)


def parse_requirement_line(line: str) -> WrittenRequirement:
    """A requirement, with options behind it. ValueError, in words without secrets, for anything else."""
    if len(line) > MAX_REQUIREMENT or not is_plain(line):
        raise ValueError(f"a requirement is one line of up to {MAX_REQUIREMENT} characters")
    text, hashes = _without_options(line.strip())
    if not text:
        raise ValueError("no requirement stands here, only options of one")
    named = _NAMED.match(text)
    if named is not None:
        return _addressed(named[3], hashes, name=named[1], extras=named[2] or "", whole=text)
    body, _, marker = text.partition(";")
    if _is_address(body.strip()):
        return _addressed(text, hashes, whole=text)
    try:
        parsed = Requirement(text)
    except InvalidRequirement as error:
        seen = _PASSWORD.sub(_BLOTTED, text)[:200]
        raise ValueError(
            f"{seen!r} is no requirement such as 'bottle>=0.13' (PEP 508), './libs/foo' or"
            f" 'foo @ git+https://…': {str(error).splitlines()[0]}"
        ) from None
    return WrittenRequirement(
        text,
        canonicalize_name(parsed.name),
        frozenset(parsed.extras),
        str(parsed.specifier),
        marker.strip(),
        None,
        hashes,
    )


def _without_options(line: str) -> tuple[str, frozenset[str]]:
    """pip's options of one requirement stand behind it, and begin with a dash."""
    match = re.search(r"(?:^|\s)--?[A-Za-z]", line)
    if match is None:
        return line, frozenset()
    try:
        words = shlex.split(line[match.start() :])
    except ValueError as error:
        raise ValueError(f"the options behind a requirement cannot be read: {error}") from None
    hashes = set()
    while words:
        option, equals, value = words.pop(0).partition("=")
        if option != "--hash":
            raise ValueError(f"the option {option!r} has no effect here: of pip's, --hash can be honoured")
        if not equals:
            value = words.pop(0) if words else ""
        found = _HASH.match(value)
        if found is None:
            raise ValueError(f"--hash={value[:100]} is none that is checked here: sha256: and 64 hex digits")
        hashes.add(found[1].lower())
    return line[: match.start()].strip(), frozenset(hashes)


def _is_address(text: str) -> bool:
    """Whether it is no name, as pip tells: an address, a path, or an archive's file."""
    scheme = _SCHEME.match(text)
    plain = _EXTRAS.sub(r"\1", text)
    archive = plain.lower().endswith((*ARCHIVES, *_OTHER_ARCHIVES))
    return scheme is not None or plain.startswith((".", "/", "~")) or "/" in plain.split(" ")[0] or archive


def _addressed(
    text: str, hashes: frozenset[str], *, whole: str, name: str = "", extras: str = ""
) -> WrittenRequirement:
    """A requirement by its address. whole: with the name before it."""
    scheme = _SCHEME.match(text)
    # a semicolon may be part of an address (pip asks for a blank behind it there, PEP 508 for one before)
    body, marker = _split_marker(text, r"\s+;|;\s+" if scheme else r"\s*;")
    if marker:
        try:
            Marker(marker)
        except InvalidMarker as error:
            raise ValueError(f"{marker[:200]!r} is no environment marker (PEP 508): {error}") from None
    if any(each.isspace() for each in body) and scheme:
        raise ValueError(f"{shown_address(body)[:200]!r}: an address has no blanks in it")
    asked = set(_names(extras.strip("[]")))
    if scheme is None or scheme[1].lower() == "file":
        found = _EXTRAS.match(body)
        if found is not None:
            body, more = found[1], found[2]
            asked |= set(_names(more))
    address, told, digest = _address(body)
    egg = _NAME.match(told)
    if told and egg is None:
        raise ValueError(f"#egg={told[:100]} is no name of a distribution")
    if egg is not None:
        asked |= set(_names(egg[2] or ""))
        if name and canonicalize_name(name) != canonicalize_name(egg[1]):
            raise ValueError(f"'{name}' and #egg={egg[1]} are two names for one distribution")
        name = name or egg[1]
    hashes = hashes | digest
    if hashes and address.kind == "git":
        raise ValueError("--hash is for files, and git has commits: name one behind @")
    shown = whole if address.kind == "path" else whole.replace(address.place, address.shown)
    return WrittenRequirement(
        shown, canonicalize_name(name) if name else "", frozenset(asked), "", marker, address, hashes
    )


def _split_marker(text: str, pattern: str) -> tuple[str, str]:
    found = re.search(pattern, text)
    return (text[: found.start()], text[found.end() :].strip()) if found else (text, "")


def _names(extras: str) -> list[str]:
    names = [each.strip() for each in extras.split(",") if each.strip()]
    wrong = next((each for each in names if _NAME.match(each) is None), None)
    if wrong is not None:
        raise ValueError(f"{wrong[:100]!r} is no name of an extra")
    return [canonicalize_name(each) for each in names]


def _address(text: str) -> tuple[Address, str, frozenset[str]]:
    """An address; the name that its fragment tells, and a hash."""
    scheme = _SCHEME.match(text)
    if scheme is None and not _TOOL.match(text):
        return Address("path", _checked_path(text)), "", frozenset()
    kind, rest = (scheme[1].lower(), scheme[2]) if scheme is not None else (text.partition("@")[0], "")
    place, _, fragment = text.partition("#")
    told, folder, digest = _fragment(fragment)
    if kind == "file":
        path = rest.partition("#")[0]
        if path.startswith("//"):
            host, slash, path = path[2:].partition("/")
            if host not in ("", "localhost"):
                raise ValueError(f"'file://{host}' is no place of this machine: write file:///path")
            path = slash + path
        return Address("path", _checked_path(urllib.parse.unquote(path)), "", folder), told, digest
    if kind in ("http", "https"):
        _check_server(place)
        name = urllib.parse.unquote(place.partition("?")[0].rpartition("/")[2])
        _check_archive(name)
        return Address("download", place, "", folder), told, digest
    tool, plus, transport = kind.partition("+")
    if tool != "git" or not plus or transport not in _GIT_SCHEMES or not rest.startswith("//"):
        ways = ", ".join(f"git+{each}://" for each in _GIT_SCHEMES)
        raise ValueError(
            f"'{kind}:' is none of the addresses that can be taken: {ways}, https://, file:; or a path"
        )
    if transport != "file":
        _check_server(place)
    repository, revision = _revision(place[len("git+") :])
    return Address("git", repository, revision, folder), told, digest


def _check_server(address: str) -> None:
    """A password with an unescaped slash in it would be taken for the server's name, and be shown."""
    server = address.partition("://")[2].partition("/")[0].rpartition("@")[2]
    if _SERVER.match(server) is None:
        raise ValueError("an address whose server cannot be told: what a password has of / ? # @ is escaped")


def _checked_path(path: str) -> str:
    if not path.strip():
        raise ValueError("no path stands here")
    name = path.rstrip("/").rpartition("/")[2]
    if name.lower().endswith(_OTHER_ARCHIVES):
        _check_archive(name)
    return path


def _check_archive(name: str) -> None:
    if not name.lower().endswith(ARCHIVES):
        raise ValueError(f"{name[:100]!r} is no file that can be taken: one ends in {', '.join(ARCHIVES)}")


def _fragment(fragment: str) -> tuple[str, str, frozenset[str]]:
    """egg, subdirectory and sha256 of an address."""
    told = dict(pair.partition("=")[::2] for pair in fragment.split("&") if pair)
    folder = urllib.parse.unquote(told.pop("subdirectory", ""))
    if folder.startswith("/") or ".." in folder.split("/") or "\0" in folder:
        raise ValueError("#subdirectory= is a folder within the source")
    digest = told.pop("sha256", "")
    if digest and _HASH.match(f"sha256:{digest}") is None:
        raise ValueError("#sha256= is followed by 64 hex digits")
    egg = urllib.parse.unquote(told.pop("egg", ""))
    unknown = next(iter(told), None)
    if unknown is not None:
        raise ValueError(f"#{unknown[:50]}= is not known: egg, subdirectory and sha256 are")
    return egg, folder.strip("/"), frozenset({digest.lower()} - {""})


def _revision(address: str) -> tuple[str, str]:
    """git's address, and the revision that pip writes behind its path."""
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    if not path.strip("/"):
        raise ValueError("the address of a git repository has a path")
    if "?" in path:
        raise ValueError("the address of a git repository has no ?")
    path, at, revision = path.rpartition("@") if "@" in path else (path, "", "")
    if at and _REVISION.match(revision) is None:
        raise ValueError(f"@{revision[:100]} is no branch, tag or commit of git's")
    return f"{scheme}://{host}{slash}{path}", revision
