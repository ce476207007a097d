"""What was built, or need not be: said alike whether it was made now or read from result.json, and without
loading what builds."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagebuilder.cli.screen import say_lines, table
from imagebuilder.model.size import human_size

if TYPE_CHECKING:
    from imagebuilder.unchanged import Standing, State


def built(place: Path, found: Mapping[str, Any], state: State = "built") -> None:
    """What is in a result's folder. found: as result.json says it; state: what had to be done for it."""
    packages, images = found["packages"], found["images"]
    said = "" if state == "built" else f": {state}"
    say_lines(f"{found['config']} for {found['board']}: {len(packages)} packages, in {place}{said}")
    rows = (
        (image["type"], image["file"], human_size(image["size"]), image["sha256"][:16]) for image in images
    )
    table(("image", "file", "size", "sha256"), rows)
    trial = found.get("trial")
    if trial is not None and trial["why"]:
        say_lines(f"NOT TRIED: no program of the image was run, because {trial['why']}")
    elif trial is not None:
        for check in trial["checks"]:
            if check["outcome"] == "warned":
                say_lines(f"trial: {check['what']}: {check['found']}")
    for file in found["unchecked"]:
        say_lines(f"UNCHECKED: nothing but the size of {file} could be checked")


def facts(
    place: Path, found: Mapping[str, Any], state: State = "built", rebuilt: Sequence[str] = ()
) -> dict[str, Any]:
    """The same for machines. rebuilt: why what was there did not do."""
    return {"folder": str(place), **found, "state": state, "rebuilt": list(rebuilt)}


def up_to_date(found: Sequence[Standing], *, as_json: bool, began: float) -> bool:
    """Say of results that all of them are up to date; False, and nothing said, where one is gone by now.
    began: when the command did, by time.monotonic()."""
    try:
        results = [each.result() for each in found]
    except (OSError, ValueError):
        return False
    seconds = (time.monotonic() - began) / len(found)
    if as_json:
        entries = [
            {
                "config": result["config"],
                "board": result["board"],
                "seconds": round(seconds, 3),
                **facts(each.asked.place, result, "up to date"),
            }
            for each, result in zip(found, results, strict=True)
        ]
        print(json.dumps(entries, indent=2))
        return True
    for each, result in zip(found, results, strict=True):
        built(each.asked.place, result, "up to date")
    if len(found) > 1:
        several = len({result["config"] for result in results}) > 1
        print()
        names = (f"{each['config']}/{each['board']}" if several else each["board"] for each in results)
        rows = (
            (name, "up to date", f"{seconds:.1f}", str(each.asked.place))
            for name, each in zip(names, found, strict=True)
        )
        table(("board", "state", "seconds", ""), rows)
    return True
