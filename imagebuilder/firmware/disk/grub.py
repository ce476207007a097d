"""What a boot loader's configuration says: GRUB's menu, and entries of the Boot Loader Specification.

GRUB's manual, chapter 6 (its shell's words and quotes), of which OpenWrt's files use a little
(target/linux/x86/image/grub-*.cfg, target/linux/armsr/image/grub-efi.cfg); the UAPI group's Boot Loader
Specification, type 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MOST_BYTES = 1 << 20
_WORD = re.compile(
    r'(?:[^\s;{}"\'#\\]|\\.|"(?:[^"\\]|\\.)*"|\'[^\']*\')(?:[^\s;{}"\'\\]|\\.|"(?:[^"\\]|\\.)*"|\'[^\']*\')*'
)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|\'([^\']*)\'|\\(.)', re.DOTALL)
_DEVICE = re.compile(r"^\([^)]*\)")
_LINUX, _INITRD = ("linux", "linux16", "linuxefi"), ("initrd", "initrd16", "initrdefi")


@dataclass(frozen=True, slots=True)
class BootEntry:
    """A line of a boot menu. kernel, initrd: paths from the root of the loader's partition, "" for none.
    options: the kernel's command line."""

    title: str
    kernel: str
    options: str
    initrd: str = ""

    @property
    def consoles(self) -> tuple[str, ...]:
        """The devices that `console=` names, in order; Linux takes the last one for /dev/console."""
        words = (word.partition("=") for word in self.options.split())
        return tuple(value.partition(",")[0] for key, _, value in words if key == "console" and value)


@dataclass(frozen=True, slots=True)
class BootMenu:
    """A boot loader's configuration: its entries, and which of them is started when nobody chooses."""

    entries: tuple[BootEntry, ...]
    default: int = 0

    @property
    def chosen(self) -> BootEntry | None:
        """The entry that is started; None where the menu is empty."""
        if not self.entries:
            return None
        return self.entries[self.default if self.default < len(self.entries) else 0]


def _plain(word: str) -> str:
    return _QUOTED.sub(lambda match: next((each for each in match.groups() if each is not None), ""), word)


def _commands(text: str) -> Iterator[list[str]]:
    """The commands of a configuration, each as its words. Braces begin and end commands, as semicolons do."""
    for line in text.splitlines():
        command: list[str] = []
        at = 0
        while at < len(line):
            word = _WORD.match(line, at)
            if word is not None:
                command.append(_plain(word[0]))
                at = word.end()
                continue
            if line[at] == "#":
                break
            if line[at] in ";{}" and command:
                yield command
                command = []
            at += 1
        if command:
            yield command


def _path(word: str) -> str:
    """A path without the device that GRUB may have before it."""
    return _DEVICE.sub("", word)


def parse_grub(text: str) -> BootMenu:
    """The menu of a grub.cfg. What is no menuentry, and variables, are not followed."""
    entries: list[BootEntry] = []
    title, kernel, default = "", None, "0"
    initrd = ""

    def close() -> None:
        if kernel is not None:
            entries.append(BootEntry(title, _path(kernel[0]), " ".join(kernel[1:]), _path(initrd)))

    for name, *words in _commands(text):
        if name == "menuentry" and words:
            close()
            title, kernel, initrd = words[0], None, ""
        elif name in _LINUX and words:
            kernel = words
        elif name in _INITRD and words:
            initrd = words[0]
        elif name == "set" and words and words[0].startswith("default="):
            default = words[0].partition("=")[2]
    close()
    titles = [entry.title for entry in entries]
    if default.isascii() and default.isdecimal():
        return BootMenu(tuple(entries), min(int(default[:9]), max(0, len(entries) - 1)))
    return BootMenu(tuple(entries), titles.index(default) if default in titles else 0)


def parse_loader_entry(text: str) -> BootEntry | None:
    """An entry of the Boot Loader Specification; None where it names no kernel."""
    pairs = (line.split(maxsplit=1) for line in text.splitlines() if not line.startswith("#"))
    said = {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}
    if "linux" not in said:
        return None
    return BootEntry(said.get("title", ""), said["linux"], said.get("options", ""), said.get("initrd", ""))
