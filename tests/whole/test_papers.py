"""What lies beside the images of a build: lock, bill of materials, report and sums, on the small tree."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from imagebuilder.build import build_image
from imagebuilder.config.places import INPUTS
from imagebuilder.config.request import Request, requests
from imagebuilder.handed import check_result
from imagebuilder.log import Log
from imagebuilder.model.firmware import outcome_of
from imagebuilder.packages.lock import LockError
from imagebuilder.report import files
from imagebuilder.report.files import ResultError, read_result
from imagebuilder.trust.signing_key import user_keys, user_pair

BOARD = "tplink-tl-wr740n-v4"
CONFIG = """\
extends = "router"
[packages]
add = ["tcpdump-mini"]
[[overlay]]
name      = "mine"
variables = { key = { secret = "MINE" } }
"""
SECRET = "correct horse battery"
PAPERS = {files.RESULT, files.SBOM, files.LOCK, files.REPORT, files.SUMS, files.MANIFEST, files.BUILD_LOG}

Ask = Callable[..., Request]


@pytest.fixture
def ask(
    project: Path, small_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Request]:
    """A config with a secret, and a request for it."""
    monkeypatch.setenv("MINE", SECRET)
    overlay = project / "overlays/mine"
    (overlay / "files/etc").mkdir(parents=True)
    (overlay / "overlay.toml").write_text(
        'name = "mine"\ndescription = "a key"\n[variables]\nkey = { type = "string", secret = true }\n'
        '[modes]\n"/etc/mine.key" = "600"\n'
    )
    (overlay / "files/etc/mine.key.j2").write_text("{{ key }}\n")

    def make(text: str = CONFIG) -> Request:
        (project / "configs/mine.toml").write_text(text)
        (asked,) = requests(
            project,
            "mine",
            board=BOARD,
            imagebuilder=str(small_tree),
            output=tmp_path / "out",
            cache=tmp_path / "cache",
        )
        return asked

    return make


def test_a_result_has_its_papers_and_the_sums_name_them_all(ask: Ask) -> None:
    place, result = build_image(ask(), Log())
    names = {path.name for path in place.iterdir()}
    assert names == PAPERS | {INPUTS} | {image.file for image in result.images}
    lines = (line.split(" *") for line in (place / files.SUMS).read_text().splitlines())
    sums = {name: sha256 for sha256, name in lines}
    assert sums == {
        name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in names - {files.SUMS, INPUTS}
    }
    assert read_result(place) == result


def test_the_bill_of_materials_is_of_this_image(ask: Ask) -> None:
    place, result = build_image(ask(), Log())
    text = (place / files.SBOM).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    found = {each["bom-ref"]: each for each in document["components"]}
    listed = {f"package:{each.name}" for each in result.packages}
    assert {ref for ref in found if ref.startswith("package:")} == listed
    assert found["package:tcpdump-mini"]["version"] == "4.99"
    assert all(each["hashes"][0]["alg"] == "SHA-256" for ref, each in found.items() if ref in listed)
    images = document["metadata"]["component"]["components"]
    assert {each["name"]: each["hashes"][0]["content"] for each in images} == {
        image.file: image.sha256 for image in result.images
    }
    assert "overlay:mine" in found


def test_the_same_build_gives_the_same_papers(ask: Ask, tmp_path: Path) -> None:
    asked = ask()
    first, _ = build_image(asked, Log())
    again, _ = build_image(replace(asked, output=tmp_path / "again"), Log())
    for name in (files.SBOM, files.LOCK, files.MANIFEST, files.REPORT):
        assert (first / name).read_bytes() == (again / name).read_bytes(), name


def test_secrets_are_in_none_of_them(ask: Ask) -> None:
    place, _ = build_image(ask(), Log())
    for name in PAPERS:
        data = (place / name).read_bytes()
        assert SECRET.encode() not in data, name
        assert hashlib.sha256(SECRET.encode()).hexdigest().encode() not in data, name
    assert b"These images hold secrets (" in (place / files.REPORT).read_bytes()


def test_where_it_was_built_is_in_none_of_them(ask: Ask, tmp_path: Path) -> None:
    """But for make's output, which nobody publishes: a home's path tells who somebody is."""
    place, result = build_image(ask(), Log())
    for name in PAPERS - {files.BUILD_LOG}:
        assert str(tmp_path).encode() not in (place / name).read_bytes(), name
    assert result.tree.source == "small-tree"


def test_a_results_lock_builds_the_same_again_and_nothing_else(ask: Ask, project: Path) -> None:
    asked = ask()
    place, result = build_image(asked, Log())
    (project / "locks").mkdir(exist_ok=True)
    shutil.copy(place / files.LOCK, project / "locks/mine.lock")
    _, again = build_image(replace(asked, locked=True), Log())
    assert again.images == result.images
    other = ask(CONFIG.replace('"tcpdump-mini"', '"dropbear"'))
    with pytest.raises(LockError, match="make's PACKAGES: dropbear is new"):
        build_image(replace(other, locked=True), Log())
    (project / "overlays/mine/files/etc/new").write_text("")
    with pytest.raises(LockError, match="overlay 'mine': /etc/new is new"):
        build_image(replace(ask(), locked=True), Log())


def test_the_report_compares_with_what_was_there_before(ask: Ask, project: Path, tmp_path: Path) -> None:
    asked = ask()
    place, _ = build_image(asked, Log())
    assert "What is new" not in (place / files.REPORT).read_text()
    shutil.copytree(tmp_path / "out", tmp_path / "kept")
    (project / "overlays/mine/files/etc/new").write_text("")
    changed = ask(CONFIG.replace('"tcpdump-mini"', '"dropbear"'))
    place, _ = build_image(changed, Log())
    page = (place / files.REPORT).read_text()
    assert "Compared with the build that was here before" in page
    assert "overlay &#39;mine&#39;: /etc/new is new" in page
    assert '<tr class="added">\n<td>dropbear</td>' in page
    assert '<tr class="removed">\n<td>tcpdump-mini</td>' in page
    for given in (tmp_path / "kept", tmp_path / "kept/mine" / BOARD):
        place, _ = build_image(replace(asked, against=given), Log())
        assert f"Compared with {tmp_path}/kept/mine/{BOARD}" in (place / files.REPORT).read_text()
    with pytest.raises(ResultError, match="is no folder of a result"):
        build_image(replace(asked, against=tmp_path), Log())


@pytest.mark.parametrize("damaged", ["", "{}", '{"config": "mine"}'])
def test_an_earlier_result_that_cannot_be_read_is_not_compared_with(ask: Ask, damaged: str) -> None:
    """It may be of another version of this program."""
    asked = ask()
    place, _ = build_image(asked, Log())
    (place / files.RESULT).write_text(damaged)
    place, _ = build_image(asked, Log())
    assert "What is new" not in (place / files.REPORT).read_text()
    with pytest.raises(ResultError, match="result.json"):
        (place / files.RESULT).write_text(damaged)
        build_image(replace(asked, against=place), Log())


def test_results_are_signed_where_the_project_says_so(ask: Ask, project: Path, tmp_path: Path) -> None:
    (project / "firmware.toml").write_text("sign = true\n")
    asked = ask()
    place, _ = build_image(asked, Log())
    assert (place / files.SIGNATURE).is_file()
    found = check_result(place, asked.library)
    assert outcome_of(found.checks) == "passed"
    own = user_pair(user_keys())
    assert found.sums[-1].found == f"by the key {own.number} (your own signing key)"
    public = tmp_path / "public"
    public.write_bytes(own.public_file())
    assert outcome_of(check_result(place, asked.library, key=public).checks) == "passed"
    with (place / files.SUMS).open("a") as stream:
        stream.write(f"{'0' * 64} *nothing\n")
    assert outcome_of(check_result(place, asked.library).checks) == "refused"


def verify(folder: Path, project: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "imagebuilder", "verify", str(folder), "--project", str(project), *argv]
    return subprocess.run(whole, capture_output=True, text=True, check=False)


def test_a_folder_is_verified_from_the_command_line(ask: Ask, project: Path) -> None:
    place, result = build_image(ask(), Log())
    good = verify(place, project)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "ok       sum of manifest: " in good.stdout
    assert f"{result.images[0].file}\nok " in good.stdout
    told = json.loads(verify(place, project, "--json").stdout)
    assert (told["board"], told["outcome"]) == (BOARD, "passed")
    assert set(told["images"]) == {image.file for image in result.images}
    assert verify(place, project, "--board", "glinet-gl-ar150").returncode == 2
    assert "are for one image" in verify(place, project, "--start").stderr
    with (place / result.images[0].file).open("ab") as stream:
        stream.write(b"x")
    bad = verify(place, project)
    assert bad.returncode == 2
    assert f"REFUSED  sum of {result.images[0].file}" in bad.stdout


def test_what_no_sum_covers_is_not_passed(ask: Ask, project: Path) -> None:
    place, result = build_image(ask(), Log())
    image = result.images[0].file
    shutil.copy(place / image, place / f"other-{image}")
    ended = verify(place, project)
    assert ended.returncode == 2
    assert f"REFUSED  sum of other-{image}: " in ended.stdout
    (place / f"other-{image}").unlink()
    whole = (place / files.SUMS).read_text()
    for name in (image, files.RESULT):
        (place / files.SUMS).write_text("".join(line for line in whole.splitlines(True) if name not in line))
        ended = verify(place, project)
        assert ended.returncode == 2
        assert f"REFUSED  sum of {name}: " in ended.stdout


def test_where_results_are_signed_one_that_is_not_is_refused(ask: Ask, project: Path) -> None:
    place, _ = build_image(ask(), Log())
    assert verify(place, project).returncode == 0
    (project / "firmware.toml").write_text("sign = true\n")
    ended = verify(place, project)
    assert ended.returncode == 2
    assert f"none: there is no {files.SIGNATURE}" in ended.stdout


def test_what_verify_wants_is_said(ask: Ask, project: Path, tmp_path: Path) -> None:
    assert "--board says what it should be flashed on" in verify(tmp_path / "image.bin", project).stderr
    ended = verify(tmp_path, project)
    assert ended.returncode == 2
    assert "is no folder of a result" in ended.stderr
    ended = verify(tmp_path / "image.bin", project, "--board", BOARD, "--key", "k")
    assert "--key k is for a result's folder, and" in ended.stderr
