"""A folder in memory, for what make changes: where there is one, and that the same is made in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagebuilder.host import memory, sandbox
from imagebuilder.host.handover import IN_MEMORY, temporary_folder
from imagebuilder.host.memory import available_memory, folder_in_memory
from imagebuilder.host.run import run
from imagebuilder.host.sandbox import opening_view
from imagebuilder.log import Log


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What plays a file system in memory whose files can have attributes."""
    monkeypatch.setattr(memory, "_keeps_attributes", lambda _: True)
    return tmp_path


def test_it_is_there_while_it_is_needed(there: Path) -> None:
    with folder_in_memory(1 << 20, there) as folder:
        assert folder is not None
        assert folder.parent == there
        (folder / "file").touch()
    assert list(there.iterdir()) == []


def test_faults_of_what_is_done_in_it_are_not_its_own(there: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"), folder_in_memory(1 << 20, there):
        raise FileNotFoundError("nothing")
    assert list(there.iterdir()) == []


@pytest.mark.parametrize("known", [False, True])
def test_nobody_knows_how_much_or_it_is_too_much(there: Path, known: bool) -> None:
    with folder_in_memory(available_memory() if known else None, there) as folder:
        assert folder is None


def test_no_such_file_system(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with folder_in_memory(1 << 20, tmp_path / "nothing") as folder:
        assert folder is None
    with folder_in_memory(1 << 20, tmp_path / "file") as folder:
        assert folder is None


def test_files_that_can_have_no_attributes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    with folder_in_memory(1 << 20, tmp_path) as folder:
        assert folder is None
    assert list(tmp_path.iterdir()) == []


def test_in_memory_it_says_whose_it_is_and_what_the_dead_left_goes() -> None:
    if not os.access(IN_MEMORY, os.W_OK):
        pytest.skip(f"{IN_MEMORY} cannot be written to")
    left = IN_MEMORY / "openwrt-imagebuilder-work-deaddead"
    others = IN_MEMORY / ".work-deaddead"
    for each in (left, others):
        each.mkdir(exist_ok=True)
    try:
        with temporary_folder("work", IN_MEMORY) as folder:
            assert folder.name.startswith("openwrt-imagebuilder-work-")
            assert not left.exists()
            assert others.exists()
    finally:
        others.rmdir()


def test_what_changes_lies_there_and_not_in_the_work_folder(tree: Path, tmp_path: Path) -> None:
    """Where it can: else everything is as it was, and in the work folder."""
    work = tmp_path / "work"
    for folder_of_tree in (work, tree / "scripts/old"):
        folder_of_tree.mkdir(parents=True)
    with folder_in_memory(1 << 20) as folder, opening_view(tree, work, Log(), in_memory=folder) as opened:
        view = opened()
        run(view.command(["sh", "-c", "rm -r scripts && mkdir scripts && echo new > scripts/file"]))
        assert (view.changed / "scripts/file").read_text() == "new\n"
        assert run(view.command(["ls", "scripts"])).stdout == "file\n"
        if view.kind == "overlay" and folder is not None:
            assert view.changed.is_relative_to(folder)
            assert list((work / "upper").iterdir()) == []
    assert [path.name for path in (tree / "scripts").iterdir()] == ["old"]


def test_where_no_overlay_lies_in_memory_it_lies_in_the_work_folder(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("work", "memory"):
        (tmp_path / name).mkdir()
    genuine = sandbox._refusal

    def refusal(argv: list[str]) -> str | None:
        return "it has no attributes" if str(tmp_path / "memory") in argv else genuine(argv)

    monkeypatch.setattr(sandbox, "_refusal", refusal)
    with opening_view(tree, tmp_path / "work", Log(), in_memory=tmp_path / "memory") as opened:
        view = opened()
        run(view.command(["touch", "new"]))
    assert (view.changed / "new").exists()
    assert view.changed.is_relative_to(tmp_path / "work")
