"""A package list such as a release's feeds hold together, made up: for benchmarks."""

from __future__ import annotations

import hashlib
import random

WORDS = ("the", "of", "router", "package", "library", "support", "module", "network", "driver", "client", "a")
KERNEL = "6.6.110~cb6f5ee3cf5dc7f9c8fd0c3d7e1f6a2b-r1"
KINDS = ("kmod-", "lib", "luci-app-", "python3-", "perl-", "", "", "")


def index_text(count: int, seed: int = 1) -> str:
    """`Packages` of so many packages: kernel modules, libraries with an ABI version that provide their plain
    names, programs that need them, alternatives, conflicts, descriptions of up to some lines."""
    rng = random.Random(seed)
    plain = [f"{rng.choice(KINDS)}{rng.choice(WORDS)}{number:x}" for number in range(count)]
    plain[:2] = "libc", "kernel"
    return "".join(_paragraph(rng, number, plain) + "\n" for number in range(count))


def _paragraph(rng: random.Random, number: int, plain: list[str]) -> str:
    name = plain[number]
    abi = f"{rng.randint(2018, 2024)}{rng.randint(1, 12):02}10" if name.startswith("lib") and number else ""
    version = (
        KERNEL
        if name == "kernel"
        else f"{rng.randint(0, 9)}.{rng.randint(0, 30)}.{rng.randint(0, 9)}-r{rng.randint(1, 9)}"
    )
    earlier = [plain[int(rng.random() ** 4 * number)] for _ in range(rng.randint(0, 5))]
    depends = [*dict.fromkeys(["libc", *earlier])] if number else []
    if name.startswith("kmod-"):
        depends.insert(0, f"kernel (={KERNEL})")
    elif rng.random() < 0.2:
        depends.append(f"{rng.choice(plain)} (>= 0.0.0)")
    fields = {"Package": name + abi, "Version": version, "Depends": ", ".join(depends)}
    if rng.random() < 0.02:
        fields["Conflicts"] = rng.choice(plain)
    if abi or rng.random() < 0.05:
        fields["Provides"] = name if abi else f"{name}-any"
    if rng.random() < 0.03:
        fields["Alternatives"] = f"300:/usr/bin/{name}:/usr/libexec/{name}-full"
    fields["License"] = rng.choice(["GPL-2.0", "MIT", "Apache-2.0", "BSD-3-Clause"])
    fields["Section"] = rng.choice(["net", "libs", "kernel", "utils", "lang"])
    if rng.random() < 0.3:
        fields["CPE-ID"] = f"cpe:/a:{name}:{name}"
    fields["URL"] = f"https://example.org/{name}"
    if abi:
        fields["ABIVersion"] = abi
    fields["Architecture"] = rng.choice(["all", "mips_24kc", "mips_24kc"])
    fields["Installed-Size"] = str(rng.randint(500, 900_000))
    fields["Filename"] = f"{name}{abi}_{version}_{fields['Architecture']}.ipk"
    fields["Size"] = str(rng.randint(500, 400_000))
    fields["SHA256sum"] = hashlib.sha256(fields["Filename"].encode()).hexdigest()
    lines = [" ".join(rng.choices(WORDS, k=rng.randint(4, 14))) for _ in range(rng.randint(1, 4))]
    fields["Description"] = "\n ".join(lines)
    return "".join(f"{key}: {value}\n" for key, value in fields.items())
