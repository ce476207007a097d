"""Services that a root file system starts: whether the init scripts in it are linked for that.

make links them by the tree's own grep and bash, and does not fail where these do not run: the image then has
every service, and starts none of them, not even `boot`, which sets up all that comes later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from imagebuilder.model.init_script import INIT, RC, RC_COMMON, started
from imagebuilder.model.trial import TrialCheck, TrialFinding
from imagebuilder.rootfs.files import content, content_size
from imagebuilder.rootfs.tree import FileTree
from imagebuilder.trial.judged import Question, counted, finding

SERVICES = Question("services", "services start", "a link in /etc/rc.d for each init script that has a START")
_MOST_BYTES = 1 << 20


def service_check(
    tree: FileTree, owners: Mapping[str, str], off: Collection[str] | None = None
) -> TrialCheck | None:
    """Whether all init scripts of a root file system that ImageBuilder enables are linked for the start; None
    for a root of another kind. owners: the packages of files, by their paths; off: services that the config
    disables, None where nobody knows: it is then only said which are not linked, if any is."""
    scripts = {
        path.rpartition("/")[2]: content(entry)
        for path, entry in ((path, tree[path]) for path in tree.children(INIT))
        if entry.kind == "file" and content_size(entry) <= _MOST_BYTES
    }
    if RC_COMMON not in tree or not scripts:
        return None
    links = [path.rpartition("/")[2] for path in tree.children(RC)]
    found = started(scripts, links, off or ())
    findings = list(_findings(found.none, found.lacking, owners, known=off is not None))
    return SERVICES.answered(counted(len(found.surely) - len(found.lacking), "service"), findings)


def _findings(
    none: bool, lacking: tuple[str, ...], owners: Mapping[str, str], *, known: bool
) -> Iterator[TrialFinding]:
    if none:
        text = (
            f"nothing in it is linked for the start, not one of {counted(len(lacking), 'init script')}: the"
            " device would start no service; a program of the ImageBuilder did not run when make enabled them"
            " (build.log)"
        )
        yield finding(RC, owners, text, "error")
        return
    for name in lacking:
        text = "it has a START and no link in /etc/rc.d, so that it does not start"
        if known:
            text += "; services.disabled would say that it is not to"
        yield finding(f"{INIT}/{name}", owners, text, "error" if known else "note")
