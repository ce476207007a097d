"""Debian's packages through apt, in an apt root of our own: apt.conf(5), sources.list(5).

Nothing of this machine's apt is read but its proxy settings (and its Debian mirror's address, see sources),
and nothing of it is changed: sources, lists, cache, keyring and state are those of a scratch folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.cache import Cache
from imagebuilder.host.fs import sha256_of
from imagebuilder.host.package_manager import proxy_settings
from imagebuilder.host.run import ProgramError, clean_environment, run
from imagebuilder.kit.debian.archive import ARCHITECTURE, Deb, DebianError, Suite
from imagebuilder.log import Log
from imagebuilder.trust.keys import Keys

# apt gives up by itself; its own wait for a silent server is two minutes
_SETTINGS = {
    "APT::Architecture": ARCHITECTURE,
    "APT::Sandbox::User": "root",
    "Acquire::http::Timeout": "20",
    "Acquire::https::Timeout": "20",
    "Acquire::Retries": "1",
    "Acquire::Languages": "none",
    # fetch.py looks at the dates, in both ways alike
    "Acquire::Check-Valid-Until": "false",
    "Acquire::Check-Date": "false",
}
_PROXY = re.compile(r"Acquire::https?::Proxy(?:-Auto-Detect|AutoDetect|::\S+)? \"[^\"\n]*\";", re.IGNORECASE)
_NOT_THERE = re.compile(r"\b404\b|does not have a Release file")


class AptArchive:
    """Debian's archive through apt. folder: an empty one of our own, gone after use; keyring: a file to be,
    whose path has no blanks and commas, for sources.list(5) separates by them."""

    def __init__(
        self, suites: Sequence[Suite], keys: Keys, cache: Cache, log: Log, *, folder: Path, keyring: Path
    ) -> None:
        self._suites, self._folder, self._cache, self._log = suites, folder, cache, log
        for name in ("lists/partial", "cache/archives/partial", "empty", "debs"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        keyring.write_bytes(b"".join(key.packets for key in keys.gpg))
        lines = [f"deb [signed-by={keyring}] {suite.mirror} {suite.name} main\n" for suite in suites]
        (folder / "sources.list").write_text("".join(lines), "utf-8")
        config = folder / "apt.conf"
        config.touch(mode=0o600)  # a proxy's address may hold a password
        config.write_text(self._config(), "utf-8")

    def _config(self) -> str:
        place = self._folder
        paths = {
            **dict.fromkeys(("Dir::Etc::parts", "Dir::Etc::sourceparts"), place / "empty"),
            **dict.fromkeys(("Dir::Etc::trustedparts", "Dir::Etc::preferencesparts"), place / "empty"),
            **dict.fromkeys(("Dir::Etc::main", "Dir::Etc::trusted", "Dir::Etc::preferences"), place / "none"),
            "Dir::Etc::netrc": place / "none",
            "Dir::Etc::netrcparts": place / "empty",
            "Dir::Etc::sourcelist": place / "sources.list",
            "Dir::State": place,
            "Dir::State::lists": place / "lists",
            "Dir::State::status": place / "status",
            "Dir::Cache": place / "cache",
            "Dir::Log": place / "log",
        }
        dumped = run(("apt-config", "dump"), env=_environment()).stdout
        proxies = [line for line in dumped.splitlines() if _PROXY.fullmatch(line)]
        settings = [f'{key} "{value}";' for key, value in {**paths, **_SETTINGS}.items()]
        return "\n".join([*settings, f'APT::Architectures {{ "{ARCHITECTURE}"; }};', *proxies, ""])

    def _call(self, *argv: str, cwd: Path | None = None) -> str:
        env = {**_environment(), "APT_CONFIG": str(self._folder / "apt.conf")}
        return run(("apt-get", "-q", *argv), cwd=cwd, env=env, log=self._log).stdout

    def indexes(self) -> list[tuple[Suite, str, bytes]]:
        """Each suite with the text of its Release (apt keeps it in its signature's wrapping) and its index,
        both verified by apt. DebianError where apt cannot have them, with what apt said."""
        self._asked("update", "--error-on=any")
        format_ = "$(SITE) $(RELEASE) $(FILENAME)"
        targets = self._call("indextargets", "--format", format_, "Created-By: Packages").splitlines()
        files = {line.split(" ", 2)[1]: Path(line.split(" ", 2)[2]) for line in targets}
        found = []
        for suite in self._suites:
            file = files[suite.name]
            release = file.with_name(file.name.partition(f"_main_binary-{ARCHITECTURE}_")[0] + "_InRelease")
            found.append((suite, release.read_text("utf-8", "replace"), file.read_bytes()))
        return found

    def fetch(self, debs: Sequence[Deb]) -> Mapping[Deb, Path]:
        """The packages' files in the cache. DebianError where apt delivers something else than its
        lists announced."""
        files = {deb: self._cache.find(deb.sha256, self._log) for deb in debs}
        missing = [deb for deb, file in files.items() if file is None]
        if missing:
            mebibytes = sum(deb.size for deb in missing) >> 20
            self._log.progress(f"fetching {len(missing)} Debian packages, {mebibytes} MiB")
            self._asked("download", *(f"{deb.name}={deb.version}" for deb in missing))
        came = {sha256_of(path): path for path in (self._folder / "debs").glob("*.deb")}
        for deb in missing:
            if deb.sha256 not in came:
                raise DebianError(f"apt delivered another {deb.name} than Debian's list announces")
            partial = self._cache.partial() / deb.sha256
            came[deb.sha256].replace(partial)
            files[deb] = self._cache.adopt(partial, deb.sha256)
        return {deb: file for deb, file in files.items() if file is not None}

    def _asked(self, *argv: str) -> None:
        try:
            self._call(*argv, cwd=self._folder / "debs")
        except ProgramError as error:
            said = [line for line in error.tail.splitlines() if line.startswith(("E:", "W:"))]
            text = "\n".join(said[-6:]) or error.tail
            raise AptFailedError(f"apt cannot have Debian's packages:\n{text}") from error


class AptFailedError(DebianError):
    """What apt could not have, in its words."""


def is_missing(error: UserError) -> bool:
    """Whether the mirror answered that it has no such file."""
    return isinstance(error, AptFailedError) and _NOT_THERE.search(error.message) is not None


def _environment() -> dict[str, str]:
    return clean_environment(**proxy_settings())
