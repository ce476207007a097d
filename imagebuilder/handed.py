"""A result that was handed over, held against its sums and its board again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from imagebuilder.config.board import Board
from imagebuilder.config.library import Library
from imagebuilder.firmware.verify import verify
from imagebuilder.model.firmware import Check
from imagebuilder.report.files import RESULT, read_result
from imagebuilder.report.sums import check_sums
from imagebuilder.trust.keys import read_key_file
from imagebuilder.trust.signing_key import user_keys, user_public


@dataclass(frozen=True)
class CheckedResult:
    """sums: of all files of the folder, and of their signature; images: of each image that can be looked
    into, by its file; board: that they were checked for."""

    board: Board
    sums: tuple[Check, ...]
    images: dict[str, tuple[Check, ...]]

    @property
    def checks(self) -> tuple[Check, ...]:
        """All of them."""
        return (*self.sums, *(check for checks in self.images.values() for check in checks))


def check_result(
    folder: Path, library: Library, *, board: str | None = None, key: Path | None = None, release: str = ""
) -> CheckedResult:
    """Every check of a result's folder. board: in place of the one that the result names; key: the file of
    the public key that has to have signed the sums, in place of the user's own, which only counts where there
    is a signature, or the project signs its results; release: of OpenWrt, where the images do not say it.
    Images of a format that nobody knows are held against their sums alone.

    ResultError, KeyFileError, and what verify() raises.
    """
    result = read_result(folder)
    keys = user_public(user_keys()) if key is None else read_key_file(key)
    sums = check_sums(
        folder,
        keys,
        signed=key is not None or library.settings().sign,
        needed=(RESULT, *(image.file for image in result.images)),
    )
    its_board = library.board(board or result.board)
    images = {
        image.file: tuple(
            _told(check)
            for check in verify(folder / image.file, its_board, image=image.type, release=release)
        )
        for image in result.images
        if image.file not in result.unchecked and (folder / image.file).is_file()
    }
    return CheckedResult(its_board, sums, images)


def _told(check: Check) -> Check:
    """What the images themselves leave open, such as the device's name, the result says, and its sums bind
    them to it."""
    return replace(check, level="warning") if check.unsure else check
