"""A site on 127.0.0.1: what its addresses lead to, and what they do not."""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.log import Log
from imagebuilder.site.place import SiteError
from imagebuilder.site.publish import PublishOptions, publish
from imagebuilder.site.serve import Files, Moved, ServedFile, site_server
from tests.support.result_maker import BOARD, MadeResult


@pytest.fixture
def site(tmp_path: Path) -> Path:
    MadeResult().write(tmp_path / "out")
    publish(tmp_path / "out", tmp_path / "www", PublishOptions(), 1_795_000_000, Log())
    return tmp_path / "www"


@pytest.fixture
def server(site: Path) -> Iterator[ThreadingHTTPServer]:
    with site_server(site, 0) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def ask(server: ThreadingHTTPServer, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def test_pages_and_images_are_served_as_they_are(server: ThreadingHTTPServer, site: Path) -> None:
    status, headers, data = ask(server, "/")
    assert (status, data) == (200, (site / "index.html").read_bytes())
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    name, image = MadeResult().image("sysupgrade")
    (build,) = (site / f"builds/{BOARD}/home").iterdir()
    status, headers, data = ask(server, f"/builds/{BOARD}/home/{build.name}/{name}?x=1#y")
    assert (status, data, headers["Content-Type"]) == (200, image, "application/octet-stream")
    status, headers, data = ask(server, "/.versions.json", "HEAD")
    assert (status, data, headers["Content-Type"]) == (200, b"", "application/json")
    assert int(headers["Content-Length"]) == (site / ".versions.json").stat().st_size
    status, headers, _ = ask(server, f"/boards/{BOARD}/home")
    assert (status, headers["Location"]) == (301, f"/boards/{BOARD}/home/")
    assert ask(server, "/feed.xml")[1]["Content-Type"] == "application/atom+xml"
    assert ask(server, "/", "POST")[0] == 501


ELSEWHERE = """
/../secret /%2e%2e/secret /boards/../../secret //127.0.0.1/secret /..%2fsecret /outside /inside/../../secret
/pipe /nothing /%00 /inside/ /releases/ /outside/secret secret /.site/../../secret
"""


@pytest.mark.parametrize("path", ELSEWHERE.split())
def test_nothing_else_is_served(server: ThreadingHTTPServer, site: Path, path: str) -> None:
    (site.parent / "secret").write_text("secret")
    (site / "outside").symlink_to(site.parent)
    (site / "inside").mkdir()
    os.mkfifo(site / "pipe")
    status, _, data = ask(server, path)
    assert status == 404
    assert data != b"secret"


def test_only_this_machine_is_answered(server: ThreadingHTTPServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_what_cannot_be_served_is_told(tmp_path: Path, site: Path) -> None:
    with pytest.raises(SiteError, match="is no site"):
        site_server(tmp_path, 0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SiteError, match="cannot be had"):
            site_server(site, taken.getsockname()[1])


@given(st.text() | st.lists(st.sampled_from(["..", ".", "%2e", "a", "%00", "\0", "%2f", "~"])).map("/".join))
def test_no_address_leads_out(tmp_path_factory: pytest.TempPathFactory, address: str) -> None:
    root = tmp_path_factory.getbasetemp() / "served"
    (root / "a").mkdir(parents=True, exist_ok=True)
    (root / "a/index.html").write_text("inside")
    (root.parent / "index.html").write_text("outside")
    found = Files(root).find(f"/{address}")
    if isinstance(found, ServedFile):
        with found.stream:
            assert found.stream.read() == b"inside"
    else:
        assert found is None or isinstance(found, Moved)
