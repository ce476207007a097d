"""The boards of configs as jobs of a CI: those that have a tree in common in one job, where it is fetched and
unpacked once."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from imagebuilder.config.config import load_config
from imagebuilder.config.releases import profile_for_release, resolve_release, shipped_releases
from imagebuilder.errors import UserError
from imagebuilder.fleet.job import BoardJob
from imagebuilder.log import Log
from imagebuilder.model.release import is_embedded

MatrixFormat = Literal["github", "gitlab", "json"]
# of a matrix on GitHub (docs.github.com, Actions limits). GitLab bounds a pipeline as its server is set up
MOST_JOBS = 256
TEMPLATE = ".gitlab/firmware.yml"  # of the project, with the job `.firmware`, which docs/many-boards.md shows
_LONG = 80


@dataclass(frozen=True)
class CiJob:
    """Boards of one tree. name: for people; key: the same as a word, for names of caches and artifacts; both
    are unique. arguments: what follows `build`, quoted as shells and xargs read words. configs, boards: what
    they name. release, target: of the tree; "" where an ImageBuilder is given, and where nobody could tell,
    since files have faults or the release lacks the board: such a board is a job by itself, whose build says
    what is wrong."""

    name: str
    key: str
    arguments: str
    configs: tuple[str, ...]
    boards: tuple[str, ...]
    release: str = ""
    target: str = ""


@dataclass(frozen=True)
class _Tree:
    """What boards have in common. given: an ImageBuilder. alone: a board that shares nothing."""

    release: str = ""
    target: str = ""
    given: str = ""
    alone: str = ""

    def words(self) -> str:
        given = self.given.rstrip("/").rsplit("/", 1)[-1]
        return self.alone or given or f"{self.release} {self.target}".strip()


def ci_jobs(jobs: Iterable[BoardJob], *, most: int = MOST_JOBS) -> list[CiJob]:
    """A job for each tree, in the order of their first boards. Nothing is fetched: a release that is named by
    its series is the newest that this program knows. UserError for more than `most`."""
    grouped: dict[_Tree, list[BoardJob]] = {}
    for job in jobs:
        grouped.setdefault(_tree_of(job), []).append(job)
    if len(grouped) > most:
        raise UserError(
            f"these boards take {len(grouped)} trees, and a matrix may have {most} jobs",
            hint="name fewer configs, and have a workflow for each part",
        )
    names: set[str] = set()
    return [_ci_job(tree, boards, names) for tree, boards in grouped.items()]


def _tree_of(job: BoardJob) -> _Tree:
    alone = _Tree(alone="/".join(filter(None, (job.config, job.board))))
    request = job.request
    try:
        config = load_config(request.library, request.config, request.board or None).config
        given = request.imagebuilder if request.release else request.tree_given(config)
        release = request.release or config.release
        if given is not None:
            return _Tree(given=given)
        if release is None or not job.board:
            return alone
        known = shipped_releases()
        version = resolve_release(release, known, Log())
        target = profile_for_release(request.library.board(request.board), version, known).target
    except UserError:  # whoever builds it is told
        return alone
    return _Tree(version, "" if is_embedded(version) else target)


def _ci_job(tree: _Tree, jobs: Sequence[BoardJob], names: set[str]) -> CiJob:
    """names: those of other jobs."""
    configs = tuple(dict.fromkeys(job.request.config for job in jobs))
    boards = tuple(dict.fromkeys(job.board for job in jobs if job.board))
    whole = len(jobs) == len(configs) * len(boards)  # each config is built for each board
    named = boards if whole else [f"{job.config}/{job.board}" for job in jobs if job.board]
    words = [*configs, *(word for board in named for word in ("--board", board))]
    if jobs[0].request.release is not None:
        words += ["--release", jobs[0].request.release]
    odd = next((word for word in words if "\n" in word), None)
    if odd is not None:
        raise UserError(f"{odd!r} has a line's end in it, which xargs cannot be given", hint="rename it")
    name = base = tree.words()
    number = 1
    while _key(name) in names:
        number += 1
        name = f"{base} ({number})"
    names.add(_key(name))
    return CiJob(
        name,
        _key(name),
        shlex.join(words),
        tuple(dict.fromkeys(job.config for job in jobs)),
        boards,
        tree.release,
        tree.target,
    )


def _key(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")[:_LONG] or "tree"


def matrix_text(jobs: Sequence[CiJob], form: MatrixFormat) -> str:
    """The jobs as a CI reads them: one line for `$GITHUB_OUTPUT`, a child pipeline for GitLab, or a list.

    Lists are words with blanks between for GitHub, whose expressions know no more.
    """
    if form == "json":
        return json.dumps([asdict(job) for job in jobs], indent=2)
    if form == "github":
        rows = [
            {**asdict(job), "configs": " ".join(job.configs), "boards": " ".join(job.boards)} for job in jobs
        ]
        return json.dumps({"include": rows}, separators=(",", ":"))
    lines = ["include:", f"  - local: {json.dumps(TEMPLATE)}"]
    for job in jobs:
        lines += [
            "",
            f"{_quoted(f'firmware {job.name}')}:",
            "  extends: .firmware",
            "  variables:",
            # GitLab takes `$` for the beginning of a variable's name
            f"    ARGUMENTS: {_quoted(job.arguments.replace('$', '$$'))}",
            f"    KEY: {_quoted(job.key)}",
        ]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """A scalar of YAML that is these characters, of which YAML prints some only escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return re.sub(r"[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]", _escaped, quoted)


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\u{number:04x}" if number < 1 << 16 else f"\\U{number:08x}"
