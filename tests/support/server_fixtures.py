"""Fixtures of a download server on loopback; what they give is in download_server.py."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuilder.host.cache import Cache
from tests.support.download_server import GpgSigner, Server, Signer, Site, Told


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of the folder `www`; no proxy stands before it."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    (tmp_path / "www").mkdir()
    running = Server(tmp_path / "www")
    yield running
    running.close()


@pytest.fixture(scope="session")
def gpg() -> Iterator[GpgSigner]:
    if not (shutil.which("gpg") and shutil.which("gpgv")):
        pytest.skip("needs gpg to make signatures, and gpgv")
    home = Path(tempfile.mkdtemp(prefix="gpg-", dir="/tmp"))  # its sockets want a short name
    signer = GpgSigner(home)
    yield signer
    signer.close()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def site(server: Server) -> Site:
    return Site(server.root, Signer())


@pytest.fixture
def own_keys(tmp_path: Path, site: Site) -> Path:
    """A folder of a user's keys that holds the site's."""
    folder = tmp_path / "own-keys"
    folder.mkdir()
    (folder / site.signer.number).write_bytes(site.signer.key_file())
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def told() -> Told:
    return Told()
