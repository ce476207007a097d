"""What pip and package managers say when they cannot fetch or install, in one sentence.

Needs nothing but Python's standard library: build.py uses it before there is anything else. The words are
those of pip 22 to 25 (urllib3's), apt 2, dnf 4 and 5 (libcurl's), pacman 6, zypper 1 and apk 2, in the C
locale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Refusal:
    """Why it did not work, and what to do. no_network: the servers cannot be reached from here."""

    message: str
    hint: str
    no_network: bool = False


PROXY_HINT = "correct http_proxy, https_proxy, all_proxy and no_proxy in the environment, or unset them"
_NO_SPACE = re.compile(
    r"No space left on device|enough free space|more space needed|Disk quota exceeded|not enough space",
    re.IGNORECASE,
)
_NO_PROXY = re.compile(
    r"(?:407 |Cannot connect to proxy|connect to proxy|from proxy|resolve proxy|CONNECT tunnel"
    r"|Tunnel connection failed)[^\n'\"]*",
    re.IGNORECASE,
)
_NO_NETWORK = re.compile(
    r"(?:Temporary failure|Could not resolve|Name or service not known|Name does not resolve"
    r"|No address associated|Network is unreachable|No route to host|Connection refused|timed out"
    r"|Failed to establish a new connection|Could not connect to|Couldn't connect"
    r"|Cannot initiate the connection|Connection reset"
    r"|network error|temporary error|Curl error|Failed to retrieve)[^\n'\"]*",
    re.IGNORECASE,
)
_NO_TRUST = re.compile(r"CERTIFICATE_VERIFY_FAILED|certificate verif|SSL certificate problem", re.IGNORECASE)
_NO_COMPILER = re.compile(
    r"(?:Failed building wheel for|Failed to build|Could not build wheels for) '?([\w.-]+)"
)
_NO_VERSION = re.compile(r"No matching distribution found for ([^\n]+)")
_NO_RIGHT = re.compile(r"(?:Permission denied|Read-only file system)[^\n]*")


def explain_refusal(output: str, environment: Mapping[str, str]) -> Refusal | None:
    """The reason in what a program printed; None where nothing in it is known. environment: whose proxies it
    used."""
    proxies = used_proxies(environment)
    if _NO_SPACE.search(output):
        return Refusal("there is no space left on the disk", "free some space")
    if _NO_TRUST.search(output):
        return Refusal(
            "the server's certificate is not trusted here",
            "install ca-certificates; behind a proxy that opens TLS, PIP_CERT names its certificate for pip",
        )
    through, network = _first_reason(_NO_PROXY, output), _first_reason(_NO_NETWORK, output)
    if through or (proxies and network):
        named = " and ".join(proxies) or "the proxy"
        return Refusal(
            f"the network cannot be reached through {named}: {through or network}",
            PROXY_HINT,
            no_network=True,
        )
    if network:
        return Refusal(
            f"the network cannot be reached: {network}",
            "connect this machine; behind a proxy, set http_proxy and https_proxy in the environment",
            no_network=True,
        )
    return _local(output)


def _first_reason(pattern: re.Pattern[str], output: str) -> str:
    """What the first line that matches says last: errors wrap each other, and the innermost tells most."""
    for line in output.splitlines():
        reasons = pattern.findall(line)
        if reasons:
            return str(reasons[-1]).strip(" .)")
    return ""


def _local(output: str) -> Refusal | None:
    """Reasons that have nothing to do with the network."""
    found = _NO_COMPILER.search(output)
    if found:
        return Refusal(
            f"'{found[1]}' has no ready-made package for this Python and machine, and could not be built",
            "use CPython 3.11 to 3.14 on Linux with glibc, or install a C compiler and Python's headers",
        )
    found = _NO_VERSION.search(output)
    if found:
        return Refusal(
            f"the package index has no version for this Python of {found[1]}",
            "use CPython 3.11 to 3.14, or another package index (PIP_INDEX_URL)",
        )
    found = _NO_RIGHT.search(output)
    return Refusal(found[0].strip(), "run it as somebody who may write there") if found else None


def used_proxies(environment: Mapping[str, str]) -> list[str]:
    """The proxies of an environment, each once, as `https_proxy=http://host:port`, without passwords."""
    shown: dict[str, str] = {}
    for name in ("https_proxy", "http_proxy", "all_proxy"):
        value = environment.get(name) or environment.get(name.upper())
        if value:
            shown.setdefault(_without_password(value), name)
    return [f"{name}={value}" for value, name in shown.items()]


def _without_password(address: str) -> str:
    try:
        parts = urlsplit(address if "//" in address else f"//{address}")
        place = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:  # no address at all: it may still hold a password
        return "(no proper address)"
    return f"{parts.scheme}://{place}{port}" if parts.scheme else f"{place}{port}"
