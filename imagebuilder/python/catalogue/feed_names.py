"""Which package of OpenWrt's feeds brings a third-party module. Names are those of lang/python in
openwrt/packages (branches openwrt-19.07 to master)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

_PREFIX = "python3-"
# where the package is not called as the module is: what follows `python3-`, the newer name first
DIFFERENT: Mapping[str, tuple[str, ...]] = {
    "Crypto": ("cryptodome", "crypto"),
    "Cryptodome": ("cryptodomex",),
    "MySQLdb": ("mysql",),
    "OpenSSL": ("pyopenssl",),
    "PIL": ("pillow",),
    "attr": ("attrs",),
    "corsheaders": ("django-cors-headers",),
    "elftools": ("pyelftools",),
    "google.protobuf": ("protobuf",),
    "jwt": ("pyjwt",),
    "nacl": ("pynacl",),
    "paho.mqtt": ("paho-mqtt",),
    "pubsub": ("pypubsub",),
    "pycurl": ("curl",),
    "pylibmodbus": ("libmodbus",),
    "rest_framework": ("django-restframework",),
    "rtslib": ("rtslib-fb",),
    "ruamel.yaml": ("ruamel-yaml",),
    "serial": ("pyserial",),
    "socks": ("pysocks",),
    "usb": ("pyusb",),
    "websocket": ("websocket-client",),
    "yaml": ("yaml", "pyyaml"),
    "zope.interface": ("zope-interface",),
}


def _candidates(module: str) -> Iterator[str]:
    """Package names to look for, the likeliest first: by the table, for the longest part of the name that is
    in it, then by the rule that `_` becomes `-` and capitals small letters."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        yield from (_PREFIX + name for name in DIFFERENT.get(".".join(parts[:end]), ()))
    yield _PREFIX + parts[0].lower().replace("_", "-")
    yield _PREFIX + parts[0]  # python3-et_xmlfile


def feed_package(module: str, packages: Collection[str]) -> str | None:
    """The one of these packages that brings a module, by its name alone; None if none is called so."""
    return next((name for name in _candidates(module) if name in packages), None)
