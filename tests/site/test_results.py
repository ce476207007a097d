"""A result.json that comes from anywhere: what is read of it, or one clear error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from imagebuilder.log import Log
from imagebuilder.report.sums import write_sums
from imagebuilder.site import results
from imagebuilder.site.publish import PublishOptions, publish
from imagebuilder.site.results import FoundResult, ResultsError, parse_result, read_again, read_results
from tests.support.result_maker import MadeResult
from tests.support.site_check import site_faults

_TEXTS = st.text(max_size=20)
KEYS = ["config", "board", "profile", "python", "builder", "tree", "device"]
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=10,
)


@given(st.binary(max_size=300) | _VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = parse_result(data)
    except ValidationError:
        return
    assert found.images


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    key=st.sampled_from(["config", "board", "profile", "python", "builder", "tree", "device"]), data=st.data()
)
def test_any_value_of_a_key_is_published_whole_or_refused(
    tmp_path: Path, key: str, data: st.DataObject
) -> None:
    """Whatever is said there ends up in names of files, in pages and in a feed."""
    top = tmp_path / str(len(list(tmp_path.iterdir())))
    place = MadeResult(size=1).write(top / "out")
    said = json.loads((place / "result.json").read_text())
    if key in ("tree", "device"):
        inner = data.draw(st.sampled_from(sorted(said[key])))
        said[key][inner] = data.draw(_VALUES | st.lists(_TEXTS, max_size=3))
    else:
        said[key] = data.draw(_TEXTS)
    (place / "result.json").write_text(json.dumps(said))
    write_sums(place, {}, None)
    found = read_again(place)
    if not isinstance(found, FoundResult):
        assert found
        assert all(str(place) in fault.file for fault in found)
        return
    publish(
        top / "out", top / "www", PublishOptions(url="https://firmware.example.org"), 1_795_000_000, Log()
    )
    assert site_faults(top / "www") == []
    assert {path.name for path in top.iterdir()} == {"out", "www"}


def test_folders_that_builds_remove_meanwhile_hold_no_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MadeResult().write(tmp_path / "out")
    (tmp_path / "out/going").mkdir()
    listed = results.names

    def names(folder: Path) -> list[str]:
        found = listed(folder)
        if folder == tmp_path / "out":
            (folder / "going").rmdir()
        return found

    monkeypatch.setattr(results, "names", names)
    assert [each.said.board for each in read_results(tmp_path / "out")[0]] == [MadeResult().board]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(results, "names", refuse)
    with pytest.raises(ResultsError, match=r"cannot read .*/out: Permission denied"):
        read_results(tmp_path / "out")
