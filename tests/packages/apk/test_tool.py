"""What is asked of a tree's apk and how its answers are read, with an apk that says what it is told;
hermetic feeds, keys and layouts of apk trees. tests/packages/apk/test_genuine.py does it with a real apk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.host.run import Completed
from imagebuilder.host.sandbox import PrivateView, open_view
from imagebuilder.log import Log
from imagebuilder.model.package import Dependency, Package, Selected
from imagebuilder.model.tree import TreeError
from imagebuilder.packages.apk.apk import needed_by, parse_index, picked
from imagebuilder.packages.apk.feed import (
    apk_feeds_of,
    feed_indexer,
    in_used_tree,
    lay_apk_feed,
    lay_apk_repositories,
    own_apk_index,
)
from imagebuilder.packages.apk.tool import (
    PINNED,
    ApkError,
    ApkRefusalError,
    _planned,
    make_index,
    pinned_versions,
    plan_install,
    stays_although_removed,
    words_for_apk,
)
from imagebuilder.packages.feed import FeedError, in_folder
from imagebuilder.packages.resolution import ways_of
from imagebuilder.tree.tree import check_tree, package_manager
from tests.packages.apk.test_index import PYTHON
from tests.support.adb_maker import index, package

FAKE_APK = """\
#!/bin/sh
for word in "$@"; do echo "$word" >> said; done
[ ! -f "$NAMES" ] || { cat "$NAMES" "$REPOSITORIES" >> said; }
case " $* " in *" mkndx "*) cp answer-index "$4" 2>/dev/null ;; *" --simulate "*) cat answer ;; esac
exit "$(cat code 2>/dev/null || echo 0)"
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree whose apk notes its words in `said`, and prints `answer`."""
    folder = tmp_path / "tree"
    program = folder / "staging_dir/host/bin/apk"
    program.parent.mkdir(parents=True)
    program.write_text(FAKE_APK)
    program.chmod(0o755)
    for name in ("include", "keys", "packages"):
        (folder / name).mkdir()
    for name in ("Makefile", ".targetinfo", "answer"):
        (folder / name).touch()
    (folder / ".config").write_text("CONFIG_USE_APK=y\nCONFIG_SIGNATURE_CHECK=y\n")
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def view(tree: Path, work: Path) -> PrivateView:
    return open_view(tree, work, Log())


# --- what apk is asked


def test_how_an_installation_is_planned(tree: Path, work: Path, view: PrivateView) -> None:
    (tree / "answer").write_text(
        "( 1/10) Installing libc (1.2.5-r5)\n"
        + "".join(f"({n}/10) Installing p{n} (1)\n" for n in range(2, 11))
    )
    chosen = plan_install(view, work, [b"own", b"base"], ["libc", "p2=1"], Log(), arch="mips_24kc")
    assert chosen[:2] == (("libc", "1.2.5-r5"), ("p2", "1"))
    said = (view.changed / "said").read_text().splitlines()
    assert said[said.index("--arch") + 1] == "mips_24kc"
    assert {"--simulate", "--initdb", "--no-network", "--allow-untrusted"} <= set(said)
    assert "p2=1" in said[said.index("--simulate") :]
    inside = [line for line in said if line.endswith("/packages.adb")][:2]
    assert [Path(line).parent.name for line in inside] == ["0", "1"]
    assert all(line.startswith("/builder/work/tmp/") for line in inside)
    assert list((work / "tmp").iterdir()) == []


@pytest.mark.parametrize("word", ["-x", "$(id)", "a b", "a;b", "*", ""])
def test_only_names_are_asked_for(work: Path, view: PrivateView, word: str) -> None:
    with pytest.raises(ApkError, match="is no name of a package"):
        plan_install(view, work, [], [word], Log(), arch="x")


def answer(stdout: str, code: int = 0, stderr: str = "") -> Completed:
    return Completed(("apk",), code, stdout, stderr)


def test_a_refusal_is_in_apks_own_words() -> None:
    words = "  nosuch (no such package):\n    required by: world[nosuch]"
    with pytest.raises(ApkRefusalError) as error:
        _planned(answer("", 1, f"ERROR: unable to select packages:\n{words}\n"))
    assert error.value.words == words
    assert error.value.message.endswith(words)
    assert error.value.hint is not None


@pytest.mark.parametrize(
    ("done", "complaint"),
    [
        (answer("", 99, "ERROR: Unable to open root\n"), "could not plan an installation:\nERROR: Unable"),
        (
            answer("OK\n", 0, "WARNING: opening x/packages.adb: v2\n"),
            "cannot read an index: x/packages.adb: v2",
        ),
        (answer("(1/2) Installing a (1)\n"), "not understood"),
        (answer("(2/2) Installing a (1)\n"), "not understood"),
    ],
)
def test_other_answers_are_errors(done: Completed, complaint: str) -> None:
    with pytest.raises(ApkError, match=complaint):
        _planned(done)


@given(st.text(alphabet="(1/2) Instalg\n", max_size=60), st.integers(0, 1), st.text(max_size=40))
def test_any_answer_is_a_result_or_one_error(text: str, code: int, more: str) -> None:
    try:
        chosen = _planned(answer(text, code, more))
    except ApkError:
        return
    assert len(chosen) == sum(line.count(") Installing ") for line in text.splitlines())


def test_an_index_is_made_and_signed(tree: Path, work: Path, view: PrivateView) -> None:
    (tree / "answer-index").write_bytes(b"the index")
    inside = [view.work / "feed/a-1.apk"]
    assert make_index(view, work, inside, Log(), sign_with="keys/x.pem") == b"the index"
    said = (view.changed / "said").read_text().splitlines()
    assert said[:3] == ["mkndx", "--allow-untrusted", "--output"]
    assert said[4:] == ["--sign", "/builder/tree/keys/x.pem", "/builder/work/feed/a-1.apk"]


def test_an_index_that_is_not_made(tree: Path, work: Path, view: PrivateView) -> None:
    with pytest.raises(ApkError, match="could not make an index"):
        make_index(view, work, [], Log(), sign_with=None)
    (tree / "answer-index").write_bytes(b"x")
    (tree / "code").write_text("1")
    with pytest.raises(ApkError, match="could not make an index"):
        make_index(view, work, [], Log(), sign_with=None)


# --- pins


def test_what_the_makefile_pins(tree: Path) -> None:
    assert pinned_versions(tree) == {}
    pins = "".join(f'  "{name}=$({key})" \\\n' for name, key in PINNED.items())
    (tree / "Makefile").write_text(f"BUILD_PACKAGES+= \\\n{pins}")
    version_mk = tree / "include/version.mk"
    version_mk.write_text("# BASE_FILES_VERSION:=x\nLIBC_VERSION:=1.2.5-r5\nKERNEL_VERSION:=6.12.58~ab-r1\n")
    with pytest.raises(TreeError, match=r"version\.mk has no line BASE_FILES_VERSION:="):
        pinned_versions(tree)
    version_mk.write_text("BASE_FILES_VERSION:=1712~5f\n" + version_mk.read_text())
    pinned = pinned_versions(tree)
    assert pinned == {"base-files": "1712~5f", "libc": "1.2.5-r5", "kernel": "6.12.58~ab-r1"}
    assert stays_although_removed(["ppp", "libc", "kernel"], pinned) == ("libc", "kernel")
    assert words_for_apk(["a", "b"], {"libc": "1"}, {"b": "2-r1"}) == ["a", "b=2-r1", "libc=1"]


# --- what apk chose


def needs(name: str, *depends: str, provides: tuple[str, ...] = ()) -> Package:
    return Package(name, "1", depends=tuple((Dependency(each),) for each in depends), provides=provides)


def test_why_a_package_goes_in() -> None:
    chosen = [
        needs("libc"),
        needs("ssl", "libc", provides=("tls",)),
        needs("web", "tls"),
        needs("all", "web"),
    ]
    needed = needed_by(["all", "libc"], chosen)
    assert needed == {"all": None, "libc": None, "web": "all", "ssl": "web"}
    assert ways_of(needed, lambda root: f"who asked for {root}")["ssl"] == (
        *("who asked for all", "all", "web", "ssl"),
    )


def test_why_packages_go_in_that_need_one_another_in_a_long_chain() -> None:
    """Neither quadratic in what is kept nor, where all provide one name, in what is looked at."""
    count = 20_000
    chain = [
        needs(f"p{number}", *([f"p{number + 1}"] if number + 1 < count else [])) for number in range(count)
    ]
    needed = needed_by(["p0"], chain)
    assert needed[f"p{count - 1}"] == f"p{count - 2}"
    assert len(ways_of(needed, str)[f"p{count - 1}"]) == count + 1
    same = [needs(f"p{number}", "any", provides=("any",)) for number in range(count)]
    assert set(needed_by(["p0"], same).values()) == {None, "p0"}


def test_the_first_index_counts() -> None:
    own, other = Package("a", "1", identity="01"), Package("a", "1", identity="02")
    (found,) = picked([("a", "1")], [own, other])
    assert found is own
    with pytest.raises(KeyError):
        picked([("a", "2")], [own])


# --- the tree's layout


def test_an_apk_tree_is_one(tree: Path) -> None:
    check_tree(tree)
    assert package_manager(tree) == "apk"
    (tree / "staging_dir/host/bin/apk").unlink()
    with pytest.raises(TreeError, match="has no staging_dir/host/bin/apk"):
        check_tree(tree)


def test_the_feeds_of_a_tree(tree: Path) -> None:
    assert apk_feeds_of(tree) == {}
    base = "https://downloads.example.org/releases/25.12.1"
    lines = [
        f"{base}/targets/mvebu/cortexa9/packages",
        f"{base}/packages/arm/base",
        f"{base}/packages/arm/luci",
    ]
    lines += [f"{base}/targets/mvebu/cortexa9/kmods/6.12.58-1-ab", "https://other.example.org/x/base"]
    text = "".join(f"{line}/packages.adb\n" for line in lines)
    (tree / "repositories").write_text(f"# {lines[1]}\n/some/folder/packages.adb\n{text}")
    assert apk_feeds_of(tree) == dict(zip(("core", "base", "luci", "kmods", "base-5"), lines, strict=True))
    for line in ("https://example.org/alpine", "v3 https://example.org/packages.adb"):
        (tree / "repositories").write_text(f"\n{line}\n")
        with pytest.raises(TreeError, match="repositories, line 2: .* is no address of a packages.adb"):
            apk_feeds_of(tree)


def test_the_view_names_two_indexes(tree: Path, view: PrivateView) -> None:
    (tree / "repositories").write_text("https://example.org/packages.adb\n")
    lay_apk_repositories(view)
    lines = (view.changed / "repositories").read_text().splitlines()
    assert lines == ["/builder/work/feed/packages.adb", "/builder/tree/packages/packages.adb"]
    assert (tree / "repositories").read_text().startswith("https")


def test_a_tree_without_packages(tree: Path, work: Path, view: PrivateView) -> None:
    with pytest.raises(TreeError, match="has no packages: not even base-files"):
        own_apk_index(tree, view, work, Log())


# --- feeds


@pytest.fixture
def offered(tmp_path: Path) -> Callable[..., Package]:
    """Writes a package into dl/; what an index says of it."""
    (tmp_path / "dl").mkdir()

    def offer(name: str) -> Package:
        data, entry = package({**PYTHON, "name": name}, {"file": name.encode() * 9})
        (listed,) = parse_index(index([entry]))
        (tmp_path / "dl" / listed.filename).write_bytes(data)
        return listed

    return offer


def noted(folder: Path, names: Sequence[str]) -> bytes:
    assert all((folder / name).is_file() for name in names)
    return "\n".join(names).encode()


def test_a_feed_holds_exactly_the_packages_and_their_index(
    offered: Callable[..., Package], tmp_path: Path
) -> None:
    light, base = offered("python3-light"), offered("python3-base")
    offered("other")
    wanted = [Selected(base, ("python3-light", "python3-base")), Selected(light, ("python3-light",))]
    laid = lay_apk_feed(tmp_path / "feed", wanted, [in_folder(tmp_path / "dl")], noted)
    names = ["python3-base-3.13.9-r2.apk", "python3-light-3.13.9-r2.apk"]
    assert [path.name for path in laid] == names
    assert sorted(path.name for path in (tmp_path / "feed").iterdir()) == ["packages.adb", *names]
    assert (tmp_path / "feed/packages.adb").read_text().split() == names


def test_all_that_is_missing_or_damaged_is_named(offered: Callable[..., Package], tmp_path: Path) -> None:
    one, two = offered("one"), offered("two")
    (tmp_path / "dl" / one.filename).unlink()
    (tmp_path / "dl" / two.filename).write_bytes(b"x" * two.size)
    wanted = [
        Selected(one, ("all", "one")),
        Selected(two, ("two",)),
        Selected(Package("three", "1"), ("three",)),
    ]
    with pytest.raises(FeedError) as error:
        lay_apk_feed(tmp_path / "feed", wanted, [in_folder(tmp_path / "dl")], noted)
    missing, damaged, unknown = error.value.message.splitlines()
    assert missing == "package 'one' is missing: nothing has one-3.13.9-r2.apk (all needs it)"
    assert damaged.startswith("package 'two' is damaged")
    assert unknown.startswith("package 'three' has no hash in its index")


def test_apks_cache_is_a_source(offered: Callable[..., Package], tmp_path: Path) -> None:
    one, two = offered("one"), offered("two")
    kept = tmp_path / f"dl/one-3.13.9-r2.{one.identity[:8]}.apk"
    (tmp_path / "dl" / one.filename).rename(kept)
    find = in_used_tree(tmp_path / "dl")
    assert find(one) == kept
    assert find(two) == tmp_path / "dl" / two.filename


def test_a_feed_is_signed_where_the_tree_asks_for_it(tree: Path, work: Path, view: PrivateView) -> None:
    (tree / "answer-index").write_bytes(b"x")
    indexer = feed_indexer(view, tree, work, Log())
    with pytest.raises(ApkError, match=r"there is no keys/local-private-key\.pem to sign a feed with"):
        indexer(work / "feed", ["a.apk"])
    (view.changed / "keys").mkdir()
    (view.changed / "keys/local-private-key.pem").touch()
    assert indexer(work / "feed", ["a.apk"]) == b"x"
    said = (view.changed / "said").read_text().splitlines()
    assert said[4:] == ["--sign", "/builder/tree/keys/local-private-key.pem", "/builder/work/feed/a.apk"]
    (view.changed / "keys/local-private-key.pem").unlink()
    (view.changed / "said").unlink()
    (tree / ".config").write_text("CONFIG_USE_APK=y\n")
    indexer(work / "feed", ["a.apk"])
    assert "--sign" not in (view.changed / "said").read_text()
