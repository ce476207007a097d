"""`publish`: result folders as a static site."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagebuilder.called import typed
from imagebuilder.cli.guard import guarded
from imagebuilder.cli.options import Root, Shown, open_library
from imagebuilder.cli.terminal import harmless

if TYPE_CHECKING:
    from imagebuilder.config.model_project import PublishSettings
    from imagebuilder.site.publish import Published, PublishOptions

_CLOCK = "SOURCE_DATE_EPOCH"


@guarded
def publish(
    shown: Shown,
    out: Annotated[Path, typer.Argument(help="Results: a folder of them (out/), a config's, or one.")],
    site: Annotated[Path, typer.Argument(help="The site's folder, for a web server; it need not be there.")],
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep-builds", min=1, help="Of how many builds of each config of a board images stay."
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Where the site will be found: https://firmware.example.org.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="The site's heading.")] = None,
    project: Root = None,
) -> None:
    """Put results on a static site of nightly builds: boards, history, differences, checksums, a feed, and
    what OpenWrt's firmware selector, owut and LuCI read. The site changes in one step."""
    from imagebuilder.cli import show
    from imagebuilder.site.publish import publish as publish_results

    settings = open_library(project, quiet=shown.quiet, verbose=shown.verbose).settings().publish
    options = _options(settings, keep, url, title)
    with shown.reporter() as log:
        done = publish_results(out, site, options, _now(), log)
    if shown.as_json:
        show.as_json(done)
        return
    print(harmless(_told(done)))
    if done.new and not shown.quiet:
        print(f"look at it: {typed(f'serve {site}')}")


def _options(
    settings: PublishSettings, keep: int | None, url: str | None, title: str | None
) -> PublishOptions:
    """What is asked for, and else what firmware.toml says. UserError for a url that is none."""
    from imagebuilder.config.model_project import check_site_url
    from imagebuilder.errors import UserError
    from imagebuilder.site.publish import PublishOptions

    if url is not None:
        try:
            url = check_site_url(url)
        except ValueError as error:
            raise UserError(f"--url: {error}") from error
    return PublishOptions(
        keep=settings.keep if keep is None else keep,
        title=title or settings.title,
        url=url or settings.url or "",
    )


def _now() -> int:
    """Seconds since 1970: what SOURCE_DATE_EPOCH says, if it is set, as reproducible-builds.org has it."""
    from imagebuilder.errors import UserError

    said = os.environ.get(_CLOCK, "")
    if not said:
        return int(time.time())
    if not (said.isascii() and said.isdigit() and int(said) < 1 << 34):
        raise UserError(f"{_CLOCK} is {said[:40]!r}, no number of seconds since 1970")
    return int(said)


def _told(done: Published) -> str:
    lines = [f"new: {config} for {board}, build {number}" for number, config, board in done.new]
    gone = f"; {done.removed} old ones lost their files" if done.removed else ""
    lines.append(
        f"{len(done.new)} new, {done.unchanged} unchanged{gone}: {done.boards} on the site in {done.site}"
    )
    return "\n".join(lines)
