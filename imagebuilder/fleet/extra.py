"""What only a cluster needs is no part of every installation."""

from __future__ import annotations

import importlib.util

from imagebuilder.errors import HostError


def require_dask() -> None:
    """HostError where Dask is not installed."""
    if importlib.util.find_spec("distributed") is None:
        raise HostError(
            "a cluster needs Dask, which is not installed here",
            hint='install the program with its extra: pip install "openwrt-python-imagebuilder[dask]"',
        )
