"""What an image needs of flash and RAM, what a board has, and what would help. All figures in bytes."""

from __future__ import annotations

from typing import Literal

from imagebuilder.model.base import Many, Model

PartName = Literal["kernel", "base", "python", "apps", "files", "records"]
# too little left: the image fits, but not what the config wants to stay free; unknown: a limit is not known
Verdict = Literal["fits", "too big", "too little left", "unknown"]
AdviceKind = Literal[
    "drop", "drop default", "variant", "source", "release", "files", "partition", "micropython"
]


class Amount(Model):
    """A figure: bytes, by how many it may be wrong either way, and where it is from."""

    bytes: int
    uncertainty: int = 0
    source: str


class PackageCost(Model):
    """What one package adds to the squashfs. kind: the kind of content by which it was estimated."""

    name: str
    bytes: int
    uncertainty: int
    kind: str


class FlashPart(Model):
    """One segment of the flash: the kernel, or the part of the squashfs that these packages or files take."""

    name: PartName
    bytes: int


class ImageBudget(Model):
    """One image file. bytes: None where its recipe has a step that nobody here knows. limit: what the recipe
    itself accepts. end: where kernel and root file system end in the flash's firmware partition."""

    type: str
    bytes: int | None
    end: int | None
    limit: int | None
    limit_source: str
    excess: int


class FlashBudget(Model):
    """The flash. measured: after the packages were fetched, by the tree's own mksquashfs.

    partition: what the image may fill (None: unknown); used: of it, in whole erase blocks; free: what stays
    of it. settings: bytes of a partition of their own for the device's settings; None where they get what is
    free. excess: how much must go for it to fit, 0 if it does. packages: largest first. baked: the config
    says that the device need not keep what changes.
    """

    measured: bool
    kernel: Amount | None
    rootfs: Amount
    parts: Many[FlashPart]
    packages: Many[PackageCost]
    images: Many[ImageBudget]
    partition: int | None
    partition_source: str
    used: int | None
    free: int | None
    wanted_free: int
    excess: int
    verdict: Verdict
    settings: int | None = None
    notes: Many[str] = ()
    baked: bool = False

    @property
    def for_settings(self) -> int | None:
        """Bytes that the device has for its settings; None where nobody knows."""
        return self.free if self.settings is None else self.settings

    @property
    def spare(self) -> int | None:
        """Bytes by which the image may grow before it is too big, or leaves less than is wanted; None where
        nobody knows."""
        return self.free if self.free is None or self.settings is not None else self.free - self.wanted_free

    @property
    def too_much(self) -> bool:
        """Whether more is too much than the figures may be wrong by: such an image is not built."""
        sure = self.verdict == "too little left" and self.settings is not None  # no matter what is in it
        return self.excess > (0 if sure else self.rootfs.uncertainty)


class RamNeed(Model):
    """One thing that takes RAM."""

    name: str
    amount: Amount


class RamBudget(Model):
    """The RAM. free: what is left when all of needs is there (None: the board's RAM is unknown); uncertainty:
    of that. excess: how much is missing, 0 if nothing is."""

    ram: int | None
    needs: Many[RamNeed]
    used: int
    uncertainty: int
    free: int | None
    wanted_free: int
    excess: int
    verdict: Verdict

    @property
    def too_much(self) -> bool:
        """Whether the config wants more to stay free than the figures, however wrong, may leave."""
        return bool(self.wanted_free) and self.excess > self.uncertainty


class ConfigChange(Model):
    """How a config would have to change. None, or nothing: it stays as it is."""

    remove: Many[str] = ()
    unadd: Many[str] = ()
    variant: str | None = None
    source: bool | None = None


class Advice(Model):
    """One thing that would make the image smaller. gain: bytes of flash; fits: whether that alone is enough;
    gone: the packages that would no longer be there; costs: the uses of the device that go with them.
    changes_interpreter: another family than CPython's (or
    MicroPython's) that the config asks for. change: None where the config alone cannot do it."""

    kind: AdviceKind
    text: str
    gain: int
    fits: bool
    gone: Many[str] = ()
    costs: Many[str] = ()
    changes_interpreter: bool = False
    change: ConfigChange | None = None


class Fit(Model):
    """The least change that makes an image fit, or none that was found. diff: of the config file, unified;
    text: the file as it would be; alternatives: what else would help, best first."""

    fits: bool
    advice: Many[Advice]
    diff: str
    text: str
    budget: FlashBudget
    alternatives: Many[Advice]


class Budgets(Model):
    """The budgets of one plan. flash: None where the tree does not say how large its images are (see
    notes)."""

    flash: FlashBudget | None = None
    ram: RamBudget | None = None
    advice: Many[Advice] = ()
    notes: Many[str] = ()
