"""What make left of files that hold secrets: an image in which all could read one is not handed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuilder.firmware.verify import UnsafeImageError, Verified
from imagebuilder.made import check_secrets
from imagebuilder.model.firmware import RootFacts, RootFile

SECRETS = {"/etc/shadow", "/etc/mine.key"}


def verified(**modes: int) -> dict[str, Verified]:
    files = tuple(
        RootFile(f"/etc/{name.replace('_', '.')}", "file", mode, 1, 1) for name, mode in modes.items()
    )
    return {"sysupgrade.bin": Verified((), RootFacts({}, {}, None, (), files, 0, 0))}


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_what_root_or_a_group_may_read_is_handed_over(mode: int) -> None:
    check_secrets(SECRETS, verified(shadow=mode, mine_key=0o600, passwd=0o644), None)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602])
def test_what_all_may_read_is_not(mode: int) -> None:
    with pytest.raises(UnsafeImageError, match="holds a secret: /etc/shadow$"):
        check_secrets(SECRETS, verified(shadow=mode, mine_key=0o600), None)


def test_where_no_image_can_be_read_makes_own_root_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/mine.key").touch(mode=0o600)
    unread = {"factory.bin": Verified((), None)}
    check_secrets(SECRETS, unread, tmp_path)
    (tmp_path / "etc/mine.key").chmod(0o644)
    with pytest.raises(UnsafeImageError, match="/etc/mine.key"):
        check_secrets(SECRETS, unread, tmp_path)
    check_secrets(SECRETS, verified(mine_key=0o600), tmp_path)  # what is in the image counts
