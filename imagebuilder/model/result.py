"""What a build handed over: the content of `result.json`."""

from __future__ import annotations

from imagebuilder.model.base import Many, Model
from imagebuilder.model.budget import FlashBudget, RamBudget
from imagebuilder.model.filespec import FilespecRecord
from imagebuilder.model.trial import TrialReport

RESULT_SCHEMA = 1


class InstalledPackage(Model):
    """A line of the manifest."""

    name: str
    version: str


class ImageFile(Model):
    """An image that was handed over. size: bytes. type: the end of its name, as the board file says it."""

    file: str
    type: str
    size: int
    sha256: str
    required: bool


class PackageSize(Model):
    """What a package takes of a root file system. stored: bytes in the image, compressed; size: unpacked.
    name: "" for files that no package owns."""

    name: str
    version: str
    stored: int
    size: int
    files: int


class RootfsSizes(Model):
    """The root file system of an image, measured. tables: bytes that no file takes; with those of all
    packages they sum to `stored`."""

    image: str
    stored: int
    tables: int
    packages: Many[PackageSize]


class Start(Model):
    """What starting a program takes, run in the built root file system. modules: that its Python had in the
    end; look_ups: how often its import system went to the file system; seconds: on the building machine."""

    command: str
    modules: int
    look_ups: int
    seconds: float


class LoadedBytecode(Model):
    """Bytecode of an image that was loaded before the image was handed over. files: all that it holds, each
    unmarshalled; modules: those that were imported too; by: which interpreter did it; lacking: modules of
    packages made here that need one that is not in the image."""

    files: int
    modules: int
    by: str
    lacking: Many[str] = ()


class TreeFacts(Model):
    """The ImageBuilder that made the images. source: what was given, of a path of the machine that built its
    last name. trust: why it was trusted."""

    source: str
    distribution: str
    version: str
    target: str
    arch: str
    package_manager: str
    trust: str


class DeviceTitle(Model):
    """What a device is called: in parts, or as one text where nobody says which part is what."""

    vendor: str = ""
    model: str = ""
    variant: str = ""
    title: str = ""


class ProfileFacts(Model):
    """What download servers tell of a device beside its images, as make's profiles.json has it (19.07 and
    later), or else the tree and the board's file. default_packages: of the target; device_packages: added by
    the profile, or with `-` taken away. revision: VERSION_CODE, `r23630-842932a63d`, "" where the tree has
    none; epoch: SOURCE_DATE_EPOCH, in seconds since 1970; kernel: its version, "" where nothing says it.
    filesystems: of images, by their files.
    """

    titles: Many[DeviceTitle]
    supported_devices: Many[str]
    default_packages: Many[str]
    device_packages: Many[str]
    revision: str
    epoch: int
    kernel: str
    filesystems: dict[str, str]


class StepTime(Model):
    """How long a step took, in seconds."""

    step: str
    seconds: float


class ShakenPackage(Model):
    """What python.shake left of a package. kept, dropped: numbers of modules; saved: bytes, unpacked;
    saved_compressed: about so many bytes of an image, packed with xz."""

    name: str
    kept: int
    dropped: int
    saved: int
    saved_compressed: int


class TrimmedDistribution(Model):
    """What stayed out of a requirement's wheel. files: how many, those of dist-info apart; saved: bytes,
    unpacked; kinds: of these bytes, by the words of `trim`."""

    name: str
    files: int
    saved: int
    kinds: dict[str, int]


class Result(Model):
    """One image build.

    feeds: why each feed is trusted. checks: how many checks each image passed, all that there are.
    unchecked: files of images of which nothing but the size could be checked, because nobody knows their
    format, or it is a vendor's that is not opened. rootfs: what fills it, measured. view: whether make saw
    the tree through an overlay mount or a copy;
    sandboxed: whether it saw nothing else and had no network. flash: as the real root file system fills it,
    None where the tree does not say how its images are made; ram: as planned. filespecs: what their rules
    did. trimmed: what stayed out of requirements' wheels. shaken: what python.shake left of the standard
    library. starts: of the interpreter, and of the
    commands of python.trace, run in the image; none where this machine cannot run its programs. bytecode:
    how it was loaded; None without CPython, and where this machine has nothing that loads it. uncompiled:
    Python sources without bytecode, programs among them, which the device compiles whenever they start.
    secrets: the names of overlay variables whose secret values the images hold. signed: the images that end
    with a signature of the user's own key, by their files, and its number. device: None in
    results of before it was known. trial: what trying the root file system showed, None in results of before
    there was one.
    """

    schema_version: int = RESULT_SCHEMA
    builder: str
    config: str
    board: str
    profile: str
    python: str
    tree: TreeFacts
    feeds: dict[str, str]
    view: str
    sandboxed: bool
    make: Many[str]
    packages: Many[InstalledPackage]
    images: Many[ImageFile]
    checks: dict[str, int]
    unchecked: Many[str]
    rootfs: RootfsSizes | None
    flash: FlashBudget | None
    ram: RamBudget | None
    overlays: Many[str]
    filespecs: Many[FilespecRecord]
    trimmed: Many[TrimmedDistribution]
    shaken: Many[ShakenPackage]
    starts: Many[Start]
    bytecode: LoadedBytecode | None
    uncompiled: Many[str]
    secrets: Many[str]
    signed: dict[str, str]
    disabled_services: Many[str]
    warnings: Many[str]
    steps: Many[StepTime]
    device: ProfileFacts | None = None
    trial: TrialReport | None = None
