"""What would make an image smaller, and by how much: moves, each tried by resolving and predicting this very
plan anew, and ranked. Pure but for the two functions that it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from imagebuilder.errors import UserError
from imagebuilder.model.budget import Advice, AdviceKind, ConfigChange, FlashBudget
from imagebuilder.model.package import Selected, Wish
from imagebuilder.model.size import human_size
from imagebuilder.packages.hardware import HARDWARE

# from all of CPython to its smallest part; auto is what the apps import, somewhere between
CPYTHON = ("full", "light", "auto", "base")
PYTHON2 = ("python2-full", "python2-light", "python2-base")
MICROPYTHON = "micropython"
# without these a device does not start, or nobody can reach it any more
NEVER = frozenset(
    (
        *("base-files", "libc", "libgcc", "libgcc1", "busybox", "kernel", "procd", "procd-ujail", "ubox"),
        *("ubus", "ubusd", "fstools", "mtd", "uci", "netifd", "dropbear", "swconfig", "ca-bundle"),
        *(
            "kmod-gpio-button-hotplug",
            "urandom-seed",
            "urngd",
            "libustream-mbedtls",
            "nand-utils",
            "e2fsprogs",
        ),
        *("block-mount", "ubi-utils", "partx-utils", "mkf2fs", "fwtool", "usign"),
    )
)
# default packages that many devices do without: how much they are missed (1: hardly), what goes with them
REMOVABLE: Mapping[str, tuple[int, str]] = {
    "ppp-mod-pppoe": (1, "dial-up by PPPoE"),
    "ppp": (1, "dial-up by PPP"),
    "kmod-pppoe": (1, "dial-up by PPPoE"),
    "rssileds": (1, "signal strength on LEDs"),
    "kmod-usb-ledtrig-usbport": (1, "LEDs that show USB ports"),
    "odhcpd": (2, "addresses for other devices over IPv6"),
    "odhcpd-ipv6only": (2, "addresses for other devices over IPv6"),
    "odhcp6c": (2, "an IPv6 address of its own"),
    "ip6tables": (2, "the firewall for IPv6"),
    "ip6tables-nft": (2, "the firewall for IPv6"),
    "opkg": (2, "installing packages on the device"),
    "apk-mbedtls": (2, "installing packages on the device"),
    "uclient-fetch": (2, "downloads by the device (wget)"),
    "logd": (2, "the system's log"),
    "uboot-envtools": (3, "changes to the boot loader's settings"),
    "dnsmasq": (3, "DHCP and DNS for other devices"),
    "firewall": (3, "the firewall: for a node behind a router only"),
    "firewall4": (3, "the firewall: for a node behind a router only"),
    "nftables": (3, "the firewall: for a node behind a router only"),
    "iptables": (3, "the firewall: for a node behind a router only"),
    "kmod-nft-offload": (3, "the firewall's offloading"),
    "wpad-mini": (12, "encrypted WiFi"),
    "wpad-basic": (12, "encrypted WiFi"),
    "wpad-basic-wolfssl": (12, "encrypted WiFi"),
    "wpad-basic-mbedtls": (12, "encrypted WiFi"),
}
_HARM: Mapping[AdviceKind, int] = {"source": 1, "drop": 3, "micropython": 8, "release": 8, "files": 3}
_DRIVER = (4, "drivers of devices that may not be there")
_ABOUT = 80  # characters of a package's description that are shown
_BACK = 8  # how many packages that bring one back are dropped with it, at most


@dataclass(frozen=True)
class Situation:
    """What the config asks for, and what else could be asked for.

    wish: what make would ask for (Plan.wanted). added: the config's own packages.add; keep: packages that
    apps import or overlays need. variants: for each variant that the release has, the names that it asks for;
    sources: names of -src packages that are asked for. files: bytes of the overlays' files by their paths.
    older: for older releases that know the board, the bytes by which the same image would be smaller there;
    None where nobody has planned it. disk: for an image that is a disk, the bytes that its root file system's
    partition may have at most. hardware: for drivers among the packages, what they drive (packages.hardware).
    """

    wish: Wish
    added: frozenset[str] = frozenset()
    keep: frozenset[str] = frozenset()
    variant: str = "none"
    variants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    files: Mapping[str, int] = field(default_factory=dict)
    older: Mapping[str, int | None] = field(default_factory=dict)
    disk: int | None = None
    hardware: Mapping[str, str] = field(default_factory=dict)


# both are the caller's: the packages for what is asked for (UserError where that cannot be), and the flash
# that they take
Resolve = Callable[[Wish], Sequence[Selected]]
Predict = Callable[[Sequence[Selected]], FlashBudget]


@dataclass(frozen=True)
class Move:
    """One change. drops: names that are no longer asked for; takes: names that are asked for instead. harm:
    how much it is missed, 1 hardly."""

    kind: AdviceKind
    harm: int
    words: str
    drops: frozenset[str] = frozenset()
    takes: tuple[str, ...] = ()
    variant: str | None = None
    source: bool | None = None

    def change(self, situation: Situation) -> ConfigChange:
        """How the config has to change for it. What a variant asks for is not said twice."""
        if self.kind in ("variant", "micropython"):
            return ConfigChange(variant=self.variant)
        if self.kind == "source":
            return ConfigChange(source=False)
        return ConfigChange(
            remove=tuple(sorted(self.drops - situation.added)),
            unadd=tuple(sorted(self.drops & situation.added)),
        )


@dataclass(frozen=True)
class Tried:
    """A set of moves, and what came of it."""

    moves: tuple[Move, ...]
    wish: Wish
    packages: Sequence[Selected]
    budget: FlashBudget

    @property
    def fits(self) -> bool:
        """Whether the image fits then."""
        return self.budget.verdict == "fits"

    @property
    def bytes(self) -> int:
        """Of the root file system."""
        return self.budget.rootfs.bytes


class Trying:
    """Tries moves on one situation."""

    def __init__(self, situation: Situation, resolve: Resolve, predict: Predict) -> None:
        self.situation, self._resolve, self._predict = situation, resolve, predict
        packages = resolve(situation.wish)
        names = {each.name for each in packages}
        # what is not there now cannot be lost
        self._keep = situation.keep & names
        self.start = Tried((), situation.wish, packages, predict(packages))

    def droppable(self, name: str) -> bool:
        """Whether a name that was asked for may be dropped at all."""
        python = self.situation.variants.get(self.situation.variant, ())
        return name not in NEVER and name not in self.situation.keep and name not in python

    def after(self, before: Tried, move: Move) -> Tried | None:
        """A situation with one move more; None where that changes nothing or cannot be. A package that
        another brings back is dropped together with what asks for it."""
        drops = move.drops
        for _ in range(_BACK):
            left = before.wish.without(drops).add
            removed = tuple(sorted({*before.wish.remove, *(() if move.takes else drops)}))
            wish = Wish({**left, **{name: left.get(name, "") for name in move.takes}}, removed)
            try:
                packages = self._resolve(wish)
            except UserError:
                return None
            back = next((each for each in packages if each.name in move.drops), None)
            if back is None or move.takes:
                return self._tried(before, replace(move, drops=drops), wish, packages)
            asked = _asked(back, wish)
            if asked is None or not self.droppable(asked):
                return None
            drops |= {asked}
        return None

    def _tried(
        self,
        before: Tried,
        done: Move,
        wish: Wish,
        packages: Sequence[Selected],
    ) -> Tried | None:
        if not {each.name for each in packages} >= self._keep:
            return None
        budget = self._predict(packages)
        if budget.rootfs.bytes >= before.bytes:
            return None
        return Tried((*before.moves, done), wish, packages, budget)


def _asked(package: Selected, wish: Wish) -> str | None:
    """The name on the way to a package that was asked for."""
    return next((name for name in package.why if name in wish.add), None)


def moves(situation: Situation) -> Iterator[Move]:
    """All single moves that the config can make."""
    if situation.sources:
        yield Move(
            "source",
            _HARM["source"],
            "without the sources of Python's modules (-src)",
            drops=frozenset(situation.sources),
            source=False,
        )
    yield from _variant_moves(situation)
    python = situation.variants.get(situation.variant, ())
    for name in situation.wish.add:
        if name in NEVER or name in situation.keep or name in python or name in situation.sources:
            continue
        if name in situation.added:
            yield Move("drop", _HARM["drop"], f"without {name}, which the config adds", frozenset({name}))
        elif name in REMOVABLE or name.startswith("kmod-"):
            yield Move("drop default", _harm_of(name, situation), f"without {name}", frozenset({name}))


def _harm_of(name: str, situation: Situation) -> int:
    kind = HARDWARE.get(situation.hardware.get(name, ""))
    if name in REMOVABLE:
        return REMOVABLE[name][0]
    return kind.harm if kind is not None else _DRIVER[0]


def _use_of(name: str, situation: Situation, descriptions: Mapping[str, str]) -> str:
    """What a device is not used for any more without a package."""
    if name in REMOVABLE:
        return REMOVABLE[name][1]
    kind = HARDWARE.get(situation.hardware.get(name, ""))
    about = " ".join(descriptions.get(name, "").split())[:_ABOUT]
    if kind is not None:
        return kind.words
    return f"{name} ({about})" if about else f"what {name} is for"


def _costs(situation: Situation, start: Tried, tried: Tried) -> tuple[str, ...]:
    """The uses of the device that the last move costs."""
    move = tried.moves[-1]
    if move.kind == "micropython":
        return ("programs for CPython, and its library",)
    if move.kind == "source":
        return ("reading the library's sources on the device",)
    left = {each.name for each in tried.packages}
    if move.kind == "variant":
        gone = [each.name for each in start.packages if each.name not in left]
        return (f"what programs use of {', '.join(gone)}",) if gone else ()
    about = {each.name: each.package.description for each in start.packages}
    return tuple(dict.fromkeys(_use_of(name, situation, about) for name in sorted(move.drops)))


def _variant_moves(situation: Situation) -> Iterator[Move]:
    ladder = PYTHON2 if situation.variant in PYTHON2 else CPYTHON
    here = situation.variants.get(situation.variant, ())
    if situation.variant in ladder:
        position = ladder.index(situation.variant)
        for step, variant in enumerate(ladder[position + 1 :], start=1):
            if variant in situation.variants:
                yield Move(
                    "variant",
                    1 if variant == "auto" else step + 1,
                    f'python.variant = "{variant}" in place of "{situation.variant}"',
                    drops=frozenset(here) - set(situation.variants[variant]),
                    takes=situation.variants[variant],
                    variant=variant,
                )
    if situation.variant not in ("none", MICROPYTHON) and MICROPYTHON in situation.variants:
        yield Move(
            "micropython",
            _HARM["micropython"],
            f'MicroPython in place of CPython (python.variant = "{MICROPYTHON}"): another language level',
            drops=frozenset(here),
            takes=situation.variants[MICROPYTHON],
            variant=MICROPYTHON,
        )


_BIG_FILE = 16 << 10
_LEAST_GAIN = 2 << 10  # less is no help


def advise(situation: Situation, resolve: Resolve, predict: Predict) -> tuple[Advice, ...]:
    """Ranked: first what alone is enough, the least missed first, then the rest by what it gains.

    resolve, predict: of Trying. Nothing that an app imports is ever advised away; another family of
    interpreter is marked (changes_interpreter). Raises what resolve() raises for the plan as it is.
    """
    trial = Trying(situation, resolve, predict)
    return advice_of(trial, trial.start)


def advice_of(trial: Trying, start: Tried) -> tuple[Advice, ...]:
    """Advice from a point that some moves have led to, ranked as advise() ranks it."""
    asked = set(start.wish.add)
    ranked: list[tuple[tuple[bool, int, int], Advice]] = []
    for move in moves(trial.situation):
        if move.drops and not move.drops & asked:
            continue
        tried = trial.after(start, move)
        if tried is None or start.bytes - tried.bytes < _LEAST_GAIN:
            continue
        advice = told_advice(trial.situation, start, tried)
        ranked.append(((not advice.fits, move.harm if advice.fits else 0, -advice.gain), advice))
    for advice in _beside_the_config(trial.situation, start.budget):
        ranked.append(((not advice.fits, 9 if advice.fits else 0, -advice.gain), advice))
    # the same packages may go by more than one name
    found: dict[tuple[str, ...], Advice] = {}
    for _, advice in sorted(ranked, key=lambda each: each[0]):
        found.setdefault(advice.gone or (advice.text,), advice)
    return tuple(found.values())


def told_advice(situation: Situation, start: Tried, tried: Tried) -> Advice:
    move = tried.moves[-1]
    left = {each.name for each in tried.packages}
    gone = tuple(sorted(each.name for each in start.packages if each.name not in left))
    gain = start.bytes - tried.bytes
    costs = _costs(situation, start, tried)
    words = move.words
    if move.kind in ("drop", "drop default"):
        also = sorted(move.drops - set(words.replace(",", "").split()))
        words += f" (and {', '.join(also)}, which need{'s' if len(also) == 1 else ''} it)" if also else ""
        words += f": {', '.join(costs)}"
    return Advice(
        kind=move.kind,
        text=f"{words}: {human_size(gain)} less",
        gain=gain,
        fits=tried.fits,
        gone=gone,
        costs=costs,
        changes_interpreter=move.kind == "micropython",
        change=move.change(situation),
    )


def _beside_the_config(situation: Situation, budget: FlashBudget) -> Iterator[Advice]:
    """What no key of the config's own lists says: large files of overlays, and older releases."""
    share = budget.rootfs.bytes and next((part.bytes for part in budget.parts if part.name == "files"), 0)
    total = sum(situation.files.values())
    for path, size in sorted(situation.files.items(), key=lambda each: -each[1])[:5]:
        gain = round(share * size / total) if total else 0
        if size >= _BIG_FILE:
            yield Advice(
                kind="files",
                text=f"without the overlay's file {path}: about {human_size(gain)} less",
                gain=gain,
                fits=0 < budget.excess <= gain,
            )
    room = (budget.used or 0) + budget.rootfs.uncertainty + budget.wanted_free
    mebibytes = -(-room // (1 << 20))
    if situation.disk is not None and budget.used is not None and mebibytes << 20 <= situation.disk:
        text = f"image.rootfs_partsize = {mebibytes}, in MiB: a larger partition"
        yield Advice(kind="partition", text=text, gain=0, fits=True)
    for release, less in situation.older.items():
        if less is None or less >= _LEAST_GAIN:
            planned = f"`plan --release {release}` says how much less"
            how_much = f"{human_size(less)} less" if less is not None else planned
            yield Advice(
                kind="release",
                text=f"release {release}, which knows this board too: {how_much}; without security fixes",
                gain=less or 0,
                fits=less is not None and 0 < budget.excess <= less,
            )
