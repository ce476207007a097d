"""The cache, and downloads with every fault that a server, a network or a disk can have."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagebuilder.errors import HostError, UserError
from imagebuilder.host.cache import LIMIT_VARIABLE, SPARE_SECONDS, Cache, OfflineError
from imagebuilder.host.download import Downloads, Wanted, WrongContentError
from imagebuilder.host.transfer import Patience, Transfers
from imagebuilder.host.transfer_part import DownloadError, NotThereError, PartialFile, Source
from imagebuilder.log import Log
from tests.support.download_server import Fault, Server, Told, left_in, no_waiting

DATA = bytes(range(256)) * 8192  # 2 MiB
SHA = hashlib.sha256(DATA).hexdigest()


def wanted(*bases: str, name: str = "big", sha256: str = SHA, max_bytes: int = 8 << 20) -> Wanted:
    return Wanted(name, sha256, tuple(Source(f"{base}/{name}") for base in bases), max_bytes)


@pytest.fixture
def downloads(cache: Cache, told: Told) -> Iterator[Downloads]:
    with Downloads(cache, told.log, patience=no_waiting()) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _big(server: Server) -> None:
    (server.root / "big").write_bytes(DATA)


def test_a_file_is_fetched_once(server: Server, downloads: Downloads, cache: Cache, told: Told) -> None:
    path = downloads.get(wanted(server.url))
    assert path == cache.folder / "blobs" / SHA[:2] / SHA
    assert path.read_bytes() == DATA
    assert downloads.get(wanted(server.url)) == path
    assert len(server.asked) == 1
    assert (told.progress[-1].done, told.progress[-1].total) == (len(DATA), len(DATA))
    assert "MiB/s" in told.progress[-1].text
    assert left_in(cache.folder) == [f"blobs/{SHA[:2]}/{SHA}"]


def test_cut_off_in_the_middle_it_goes_on_from_there(
    server: Server, downloads: Downloads, told: Told
) -> None:
    server.faults["big"] = [Fault(cut=700_000), Fault(cut=700_000)]
    assert downloads.get(wanted(server.url)).read_bytes() == DATA
    ranges = [asked.headers.get("Range") for asked in server.asked]
    assert ranges[0] is None
    assert all(part and part != "bytes=0-" for part in ranges[1:])
    assert all("If-Range" in asked.headers for asked in server.asked[1:])
    assert told.warnings.count("trying again") == 2


def test_a_later_run_goes_on_too(server: Server, cache: Cache, told: Told) -> None:
    server.faults["big"] = [Fault(cut=1_000_000)]
    with Downloads(cache, told.log, patience=no_waiting(attempts=1)) as first:
        with pytest.raises(DownloadError, match="tried once"):
            first.get(wanted(server.url))
        assert first.get(wanted(server.url)).read_bytes() == DATA
    assert int(server.asked[1].headers["Range"].removeprefix("bytes=").removesuffix("-")) > 0
    assert left_in(cache.folder) == [f"blobs/{SHA[:2]}/{SHA}"]


def test_a_file_that_changed_meanwhile_is_begun_anew(
    server: Server, downloads: Downloads, cache: Cache
) -> None:
    (cache.partial() / SHA).write_bytes(b"old" * 1000)
    (cache.partial() / f"{SHA}.from").write_text(
        f'{{"address": "{server.url}/big", "validator": "\\"old\\""}}'
    )
    assert downloads.get(wanted(server.url)).read_bytes() == DATA
    assert server.asked[0].headers["If-Range"] == '"old"'
    assert len(server.asked) == 1


def test_parts_that_do_not_fit_are_fetched_whole(
    server: Server, downloads: Downloads, cache: Cache, told: Told
) -> None:
    (cache.partial() / SHA).write_bytes(b"from another mirror" * 1000)
    assert downloads.get(wanted(server.url)).read_bytes() == DATA
    assert len(server.asked) == 2
    assert "do not fit together" in told.warnings


def test_a_server_without_ranges_gives_the_whole_again(server: Server, downloads: Downloads) -> None:
    server.faults["big"] = [Fault(cut=700_000), Fault(ranges=False)]
    assert downloads.get(wanted(server.url)).read_bytes() == DATA


@pytest.mark.parametrize("headers", [{"Content-Range": "bytes 1-2/3"}, {"Content-Range": "nonsense"}])
def test_a_part_that_was_not_asked_for(server: Server, downloads: Downloads, headers: dict[str, str]) -> None:
    server.faults["big"] = [Fault(cut=700_000), Fault(headers=headers)]
    assert downloads.get(wanted(server.url)).read_bytes() == DATA
    assert "Range" not in server.asked[2].headers


def test_finished_but_not_yet_named_when_killed(server: Server, downloads: Downloads, cache: Cache) -> None:
    (cache.partial() / SHA).write_bytes(DATA)
    assert downloads.get(wanted(server.url)).read_bytes() == DATA
    assert server.asked == []


def test_three_times_500_then_fine(server: Server, cache: Cache, told: Told) -> None:
    waited: list[float] = []
    server.faults["big"] = [
        Fault(status=500),
        Fault(status=503, headers={"Retry-After": "45"}),
        Fault(status=500),
    ]
    with Downloads(cache, told.log, patience=Patience(sleep=waited.append)) as patient:
        assert patient.get(wanted(server.url)).read_bytes() == DATA
    assert len(waited) == 3
    assert waited[1] == 45
    assert 1 <= waited[0] <= 3
    assert 4 <= waited[2] <= 6


def test_500_for_ever(server: Server, downloads: Downloads) -> None:
    server.always["big"] = Fault(status=500)
    with pytest.raises(DownloadError, match=r"HTTP 500 \(tried 5 times\)"):
        downloads.get(wanted(server.url))
    assert len(server.asked) == 5


def test_a_server_that_cannot_be_reached_is_not_waited_for_again(
    server: Server, cache: Cache, told: Told
) -> None:
    """By those who share what was given up; an answer of any kind, or a success, is none of it."""
    given_up: set[str] = set()
    waited: list[float] = []

    def fetch(url: str, name: str) -> Path:
        patience = Patience(attempts=3, sleep=waited.append)
        with Downloads(cache, told.log, patience=patience, given_up=given_up) as opened:
            return opened.get(wanted(url, name=name, sha256=SHA))

    nobody = "http://127.0.0.1:9"
    with pytest.raises(DownloadError, match=r"\(tried 3 times\)$"):
        fetch(nobody, "big")
    assert (len(waited), given_up) == (2, {"127.0.0.1:9"})
    with pytest.raises(DownloadError, match=r"\(tried once, as it could not be reached before\)$"):
        fetch(nobody, "other")
    assert len(waited) == 2
    server.always["wrong"] = Fault(status=503)
    for _ in range(2):
        with pytest.raises(DownloadError, match=r"HTTP 503 \(tried 3 times\)$"):
            fetch(server.url, "wrong")
    given_up.add(server.url.removeprefix("http://"))
    assert fetch(server.url, "big").read_bytes() == DATA
    assert given_up == {"127.0.0.1:9"}


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (404, NotThereError, "no such file"),
        (410, NotThereError, "no such file"),
        (403, DownloadError, "refused"),
        (401, DownloadError, "refused"),
        (400, DownloadError, "HTTP 400"),
        (204, DownloadError, "HTTP 204"),
    ],
)
def test_what_is_not_worth_another_try(
    server: Server, downloads: Downloads, status: int, kind: type[DownloadError], said: str
) -> None:
    server.always["big"] = Fault(status=status)
    with pytest.raises(kind, match=said):
        downloads.get(wanted(server.url))
    assert len(server.asked) == 1
    assert left_in(downloads.cache.folder) == []


def test_a_redirect_and_a_loop_of_them(server: Server, downloads: Downloads) -> None:
    server.always["there"] = Fault(redirect=f"{server.url}/big")
    assert downloads.get(wanted(server.url, name="there")).read_bytes() == DATA
    server.always["round"] = Fault(redirect=f"{server.url}/round")
    with pytest.raises(DownloadError, match="redirects without end"):
        downloads.get(wanted(server.url, name="round", sha256="0" * 64))
    server.always["mail"] = Fault(redirect="mailto:somebody@example.org")
    with pytest.raises(DownloadError, match="no web address"):
        downloads.get(wanted(server.url, name="mail", sha256="0" * 64))


def test_a_server_that_says_nothing(server: Server, cache: Cache, told: Told) -> None:
    server.faults["big"] = [Fault(stall=0.6)]
    with Downloads(cache, told.log, patience=no_waiting(read=0.2)) as hasty:
        assert hasty.get(wanted(server.url)).read_bytes() == DATA
    assert "no answer within its time" in told.warnings


def test_a_server_that_drips(server: Server, cache: Cache, told: Told) -> None:
    times = iter(range(0, 100_000, 40))
    patience = no_waiting(slow_bytes=1 << 30)
    patience = Patience(sleep=patience.sleep, slow_bytes=1 << 30, clock=lambda: float(next(times)))
    with (
        Downloads(cache, told.log, patience=patience) as strict,
        pytest.raises(DownloadError, match="bytes came in 80 s"),
    ):
        strict.get(wanted(server.url))


def test_nobody_listens(server: Server, downloads: Downloads) -> None:
    server.close()
    with pytest.raises(DownloadError, match="tried 5 times"):
        downloads.get(wanted(server.url))


@pytest.mark.parametrize("no_length", [False, True])
def test_larger_than_it_may_be(server: Server, downloads: Downloads, no_length: bool) -> None:
    server.always["big"] = Fault(no_length=no_length)
    with pytest.raises(DownloadError, match="larger than|more than"):
        downloads.get(wanted(server.url, max_bytes=1 << 20))


def test_encoded_although_not_asked_for(server: Server, downloads: Downloads) -> None:
    server.always["big"] = Fault(headers={"Content-Encoding": "gzip"})
    with pytest.raises(DownloadError, match="encoded"):
        downloads.get(wanted(server.url))


def test_another_content_is_not_kept(server: Server, downloads: Downloads, cache: Cache) -> None:
    with pytest.raises(WrongContentError, match=SHA):
        downloads.get(wanted(server.url, sha256="0" * 64))
    assert left_in(cache.folder) == []


def test_mirrors_are_asked_in_their_order(
    server: Server, downloads: Downloads, tmp_path: Path, told: Told
) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/big").write_bytes(b"x")
    bases = (f"{server.url}/none", str(tmp_path / "copy"), str(tmp_path), server.url)
    assert downloads.get(wanted(*bases)).read_bytes() == DATA
    assert told.warnings.count("asking the next mirror") == 3
    assert "/none/big: there is no such file (HTTP 404)" in told.warnings
    with pytest.raises(WrongContentError, match=r"no mirror gives big(.|\n)*HTTP 404(.|\n)*not the file"):
        downloads.get(wanted(*bases[:2], sha256="0" * 64))
    with pytest.raises(NotThereError):
        downloads.get(wanted(bases[0], bases[2], sha256="0" * 64))


def test_credentials_go_to_their_server_alone_and_into_no_message(
    server: Server, downloads: Downloads, told: Told, tmp_path: Path
) -> None:
    other = Server(server.root)
    server.faults["big"] = [
        Fault(status=500),
        Fault(redirect=f"{other.url.replace('127.0.0.1', 'localhost')}/big"),
    ]
    source = Source(f"{server.url}/big", ("user", "secret"))
    assert downloads.get(Wanted("big", SHA, (source,), 8 << 20)).read_bytes() == DATA
    assert all(asked.headers["Authorization"].startswith("Basic ") for asked in server.asked)
    assert "Authorization" not in other.asked[0].headers
    other.close()
    server.always["big"] = Fault(status=403)
    with pytest.raises(DownloadError) as raised:
        downloads.get(Wanted("big", "0" * 64, (source,), 8 << 20))
    assert "secret" not in f"{raised.value.message} {raised.value.hint} {told.events}"


def test_https_is_not_left_for_http(
    downloads: Downloads, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.scheme == "https":
            return httpx.Response(302, headers={"Location": "http://mirror.example/big"})
        return httpx.Response(200, content=DATA)

    client = httpx.Client(transport=httpx.MockTransport(answer), follow_redirects=True)
    monkeypatch.setattr(Transfers, "client", lambda _self: client)
    with pytest.raises(DownloadError, match="not https"):
        downloads.get(wanted("https://mirror.example"))


def test_many_at_once(server: Server, downloads: Downloads, told: Told) -> None:
    names = [f"file{number}" for number in range(20)]
    for name in names:
        (server.root / name).write_bytes(name.encode() * 100)
    files = [
        wanted(server.url, name=name, sha256=hashlib.sha256(name.encode() * 100).hexdigest())
        for name in names
    ]
    paths = downloads.get_all([*files, *files], "packages")
    assert [path.read_bytes() for path in paths] == [name.encode() * 100 for name in names] * 2
    assert len(server.asked) == 20
    assert (told.progress[-1].done, told.progress[-1].total) == (20, 20)
    assert "packages" in told.progress[-1].text


def test_one_of_many_fails(server: Server, downloads: Downloads) -> None:
    files = [wanted(server.url), wanted(server.url, name="none", sha256="0" * 64)]
    with pytest.raises(NotThereError, match="none"):
        downloads.get_all(files)


def test_offline_everything_that_is_missing_is_named(server: Server, cache: Cache, tmp_path: Path) -> None:
    cache.add(b"here")
    here = wanted(server.url, name="here", sha256=hashlib.sha256(b"here").hexdigest())
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/big").write_bytes(DATA)
    missing = [wanted(server.url, name=name, sha256=sha * 64) for name, sha in (("one", "1"), ("two", "2"))]
    with Downloads(cache, Log(), offline=True) as offline:
        with pytest.raises(OfflineError) as raised:
            offline.get_all([here, missing[0], wanted(str(tmp_path / "copy")), missing[1]])
        assert raised.value.missing == ("one", "two")
        with pytest.raises(OfflineError):
            offline.get(missing[0])
        with pytest.raises(OfflineError):
            offline.read(missing[0].sources[0])
        assert len(offline.get_all([here, wanted(str(tmp_path / "copy"))])) == 2
    assert server.asked == []


def test_a_damaged_entry_is_found_and_fetched_again(
    server: Server, downloads: Downloads, cache: Cache, told: Told
) -> None:
    downloads.get(wanted(server.url)).write_bytes(DATA[:-1] + b"!")
    assert downloads.get(wanted(server.url)).read_bytes() == DATA
    assert "damaged" in told.warnings
    assert len(server.asked) == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary() | st.just(b'{"name": "set", "files": {"a": 1}}') | st.just(b'{"name": "set", "files": []}')
)
def test_a_damaged_record_counts_as_none(cache: Cache, data: bytes) -> None:
    cache.remember("set", {"a": SHA})
    assert cache.recall("set", Log()) == {"a": SHA}
    (record,) = (cache.folder / "names").iterdir()
    record.write_bytes(data)
    assert cache.recall("set", Log()) is None


def test_what_was_unused_for_longest_goes_first(tmp_path: Path, told: Told) -> None:
    now = [1000.0]
    cache = Cache(tmp_path / "cache", limit=250, clock=lambda: now[0])
    shas = []
    for number in range(4):
        shas.append(cache.add(bytes([number]) * 100))
        now[0] += 10
    cache.evict(told.log)
    assert len(left_in(cache.folder)) == 4  # all were used just now
    cache.find(shas[0], Log())
    now[0] += SPARE_SECONDS - 5
    cache.evict(told.log)
    assert [cache.blob(sha).exists() for sha in shas] == [True, False, False, True]
    assert "2 files" in told.notes


def test_clean(tmp_path: Path) -> None:
    now = [1000.0]
    cache = Cache(tmp_path / "cache", clock=lambda: now[0])
    for sha in ("a" * 64, "b" * 64):
        tree = cache.tree(sha)
        tree.mkdir(parents=True)
        (tree / "file").write_bytes(b"x" * 1000)
        assert cache.use_tree(sha) == tree
        now[0] += 10
    cache.add(b"y" * 500)
    cache.use_tree("a" * 64)
    (cache.folder / "kits").mkdir()  # another's
    (cache.folder / "kits/k").write_bytes(b"k")
    assert cache.size() == 2500
    index = cache.folder / "indexes/i"
    index.parent.mkdir()
    index.write_bytes(b"i" * 100)
    os.utime(index, (now[0] - 1, now[0] - 1))
    (cache.folder / "trees/.unpack-xxxxxxxx").mkdir()  # of a process that was killed
    assert cache.size() == 2600
    cleaned = cache.clean(limit=1600)
    assert (cleaned.trees, cleaned.downloads, cleaned.indexes, cleaned.left) == (1, 0, 0, 1600)
    assert not cache.tree("b" * 64).exists()
    cleaned = cache.clean(limit=1599)
    assert (cleaned.trees, cleaned.downloads, cleaned.indexes) == (0, 0, 1)
    assert not index.exists()
    cleaned = cache.clean()
    assert (cleaned.entries, cleaned.size, cleaned.left) == (2, 1500, 0)
    assert left_in(cache.folder) == ["kits/k"]
    assert list((cache.folder / "trees").iterdir()) == []
    assert Cache(tmp_path / "never").clean().entries == 0


@pytest.mark.parametrize(
    ("said", "limit"), [(None, 16 << 30), ("", 16 << 30), ("8", 8 << 30), ("0.5", 1 << 29), ("0", 0)]
)
def test_a_user_says_how_much_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, limit: int
) -> None:
    monkeypatch.delenv(LIMIT_VARIABLE, raising=False)
    if said is not None:
        monkeypatch.setenv(LIMIT_VARIABLE, said)
    assert Cache(tmp_path).limit == limit
    Cache(tmp_path / "cache", clock=lambda: 1000.0).add(b"x")
    Cache(tmp_path / "cache").evict(Log())
    assert bool(left_in(tmp_path / "cache")) is (limit > 0)


@pytest.mark.parametrize("said", ["8G", "lots", "-1", "nan", "inf", "1e999"])
def test_what_is_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, said)
    with pytest.raises(HostError, match=f"{LIMIT_VARIABLE} is '{said}', which is no number of GiB"):
        Cache(tmp_path)


def test_names_that_are_no_sha256_lead_nowhere(cache: Cache) -> None:
    for bad in ("", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n"):
        with pytest.raises(ValueError, match="SHA-256"):
            cache.blob(bad)


def fetch_in_child(url: str, folder: str, results: multiprocessing.Queue[str]) -> None:
    with Downloads(Cache(Path(folder)), Log()) as downloads:
        results.put(str(downloads.get(wanted(url))))


def test_two_processes_fetch_one_file_once(server: Server, cache: Cache) -> None:
    server.always["big"] = Fault(stall=0.3)
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[str] = context.Queue()
    arguments = (server.url, str(cache.folder), results)
    children = [context.Process(target=fetch_in_child, args=arguments) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    assert results.get(timeout=5) == results.get(timeout=5) == str(cache.blob(SHA))
    assert len(server.asked) == 1


def test_two_threads_take_turns_and_the_second_says_that_it_waits(cache: Cache, told: Told) -> None:
    inside, go = threading.Event(), threading.Event()

    def hold() -> None:
        with cache.lock("key", "working", Log()):
            inside.set()
            go.wait(5)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(5)
    threading.Timer(0.1, go.set).start()
    with cache.lock("key", "working", told.log):
        assert go.is_set()
    thread.join()
    assert "waiting for another process that is working" in told.progress[0].text


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("local", [False, True])
def test_a_file_that_may_grow_no_further(
    server: Server, downloads: Downloads, cache: Cache, local: bool
) -> None:
    base = str(server.root) if local else server.url
    with files_no_larger_than(1 << 20), pytest.raises(HostError, match="File too large"):
        downloads.get(wanted(base))
    assert left_in(cache.folder) == []
    assert downloads.get(wanted(base)).read_bytes() == DATA


def test_no_room_is_seen_before_anything_is_fetched(
    server: Server, downloads: Downloads, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagebuilder.host.transfer_part.free_bytes", lambda _folder: 1000)
    with pytest.raises(HostError, match="1000 are free") as raised:
        downloads.get(wanted(server.url))
    assert "clean --fetched" in str(raised.value.hint)


FULL_DISK = """
import sys
from pathlib import Path
from tests.host.test_download import *
with Downloads(Cache(Path(sys.argv[2])), Log()) as downloads:
    try:
        downloads.get(wanted(sys.argv[1]))
    except HostError as error:
        print(error.message, error.hint, left_in(Path(sys.argv[2])))
"""


def test_a_full_disk(server: Server, tmp_path: Path) -> None:
    """A real one, of 1 MiB; the server does not say how much will come."""
    server.always["big"] = Fault(no_length=True)
    disk = tmp_path / "disk"
    disk.mkdir()
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c"]
    script = 'mount -t tmpfs -o size=1m tmpfs "$1" || exit 77; shift; exec "$@"'
    python = [sys.executable, "-c", FULL_DISK, server.url, str(disk)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(
        [*unshare, script, "sh", str(disk), *python],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    if ended.returncode == 77 or "unshare" in ended.stderr:
        pytest.skip(f"no tmpfs can be mounted here: {ended.stderr}")
    assert ended.returncode == 0, ended.stderr
    assert "no space left" in ended.stdout
    assert "clean --fetched" in ended.stdout
    assert "[]" in ended.stdout


def test_a_cache_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with (
        Downloads(Cache(tmp_path / "file"), Log()) as downloads,
        pytest.raises(HostError, match="cannot write"),
    ):
        downloads.get(wanted(server.url))


def test_interrupted_in_the_middle_of_many(
    server: Server, downloads: Downloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C does not wait for what the other threads still have to fetch."""
    server.always["big"] = Fault(stall=0.3)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("imagebuilder.host.download.Future.exception", interrupt)
    with pytest.raises(KeyboardInterrupt):
        downloads.get_all([wanted(server.url)])
    assert left_in(downloads.cache.folder) in (
        [],
        [f"partial/{SHA}", f"partial/{SHA}.from"],
        [f"partial/{SHA}.from"],
    )


def test_a_small_file_is_read_and_not_kept(server: Server, downloads: Downloads, cache: Cache) -> None:
    (server.root / "small").write_bytes(b"small")
    server.faults["small"] = [Fault(cut=2)]
    fetched = downloads.read(Source(f"{server.url}/small"))
    assert fetched.data == b"small"
    assert left_in(cache.folder) == []
    with pytest.raises(DownloadError, match="more than"):
        downloads.read(Source(f"{server.url}/big"), 1000)


def test_what_is_said_of_where_a_part_came_from_may_be_anything(tmp_path: Path) -> None:
    part = PartialFile(tmp_path / "p", 10)
    source = Source("http://x/y")
    for text in (
        b"",
        b"{",
        b"[]",
        b'{"address": "http://x/y"}',
        b'{"address": "http://x/y", "validator": "a\\nb"}',
    ):
        (tmp_path / "p.from").write_bytes(text)
        assert part.validator(source) is None
    part.note_origin(source, {"ETag": 'W/"weak"', "Last-Modified": "Tue, 01 Jan 2030 00:00:00 GMT"})
    assert part.validator(source) == "Tue, 01 Jan 2030 00:00:00 GMT"
    assert part.validator(Source("http://other/y")) is None
    assert issubclass(DownloadError, UserError)
    assert errno.ENOSPC


# --- proxies

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the environment's proxies, and no others."""

    def use(**proxies: str) -> None:
        for name in PROXIES:
            monkeypatch.delenv(name.upper(), raising=False)
            monkeypatch.setenv(name, proxies.get(name, ""))

    return use


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_a_proxy_that_cannot_be_reached_is_named(
    cache: Cache, told: Told, proxy: Callable[..., None], kind: str
) -> None:
    proxy(all_proxy=f"{kind}://me:hidden@127.0.0.1:1")
    with (
        Downloads(cache, told.log, patience=no_waiting(attempts=2)) as downloads,
        pytest.raises(DownloadError, match=f"through all_proxy={kind}://127.0.0.1:1") as error,
    ):
        downloads.get(wanted("http://server.invalid"))
    assert "hidden" not in str(error.value) + told.warnings


def test_a_proxy_is_not_named_where_none_is_used(downloads: Downloads, proxy: Callable[..., None]) -> None:
    proxy(http_proxy="http://127.0.0.1:1", no_proxy="127.0.0.1")
    with pytest.raises(DownloadError) as error:
        downloads.get(wanted("http://127.0.0.1:1"))
    assert "through" not in error.value.message


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_is_named_and_asked_once(
    server: Server, downloads: Downloads, proxy: Callable[..., None], scheme: str
) -> None:
    place = server.url.removeprefix("http://")
    proxy(all_proxy=f"http://me:hidden@{place}")
    server.faults["big"] = [Fault(status=407)]
    with pytest.raises(
        DownloadError, match=f"the proxy refuses: .*through all_proxy=http://{place}"
    ) as error:
        downloads.get(wanted(f"{scheme}://server.invalid"))
    assert "hidden" not in error.value.message
    assert "correct http_proxy" in (error.value.hint or "")
    assert len(server.asked) <= 1


def test_a_proxy_of_an_unknown_kind(downloads: Downloads, proxy: Callable[..., None]) -> None:
    proxy(all_proxy="ftp://me:hidden@127.0.0.1:1")
    with pytest.raises(HostError, match="the proxy all_proxy=ftp://127.0.0.1:1 cannot be used"):
        downloads.get(wanted("http://server.invalid"))


def test_a_tree_that_another_process_gives_up_while_its_size_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for digit in "ab":
        (tmp_path / "trees" / (digit * 64)).mkdir(parents=True)

    def taken(tree: Path) -> int:
        if tree.name.startswith("a"):
            tree.rmdir()
        return 7

    monkeypatch.setattr("imagebuilder.host.cache._size_of", taken)
    assert Cache(tmp_path).size() == 7
