"""What a guest's kernel and services say, and what is made of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.trial.guest_checks import kernel_check, listened_ports, services_check

QUIET = "<6>[    0.000000] Linux version 6.6.73\n<5>[    0.1] random: crng init done\n"


def test_ordinary_messages_are_no_faults() -> None:
    check = kernel_check(QUIET + "[    1.2] without a level: I/O ports\n")
    assert (check.outcome, check.found) == ("ok", "3 messages")


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("<6>[    9.1] meter[812]: segfault at 0 ip 0000 sp 0000 error 4 in meter[400000+1000]", "error"),
        ("[    9.1] Oops: 0002 [#1] SMP", "error"),
        ("<1>[    9.1] BUG: kernel NULL pointer dereference, address: 0000000000000000", "error"),
        ("<3>[    9.1] Buffer I/O error on dev vda2, logical block 0, async page read", "error"),
        ("<3>[    9.1] SQUASHFS error: xz decompression failed, data probably corrupt", "error"),
        ("<0>[    9.1] anything", "error"),
        ("<4>[    9.1] WARNING: CPU: 0 PID: 1 at net/core/dev.c:10", "warning"),
        ("<3>[    9.1] print_req_error: I/O error, dev loop0, sector 0", "note"),
        ("<3>[    9.1] print_req_error: I/O error, dev loop0, sector 96", "error"),
        ("<3>[    9.1] tsc: Fast TSC calibration failed", "note"),
    ],
)
def test_faults_of_the_kernel_are_told_by_their_gravity(line: str, level: str) -> None:
    check = kernel_check(f"{QUIET}{line}\n")
    (found,) = check.findings
    assert found.level == level
    assert "[    9.1]" not in found.text
    assert check.outcome == {"error": "failed", "warning": "warned", "note": "ok"}[level]


def procd(**services: dict[str, object]) -> str:
    facts = {name: {"instances": {"instance1": one}} for name, one in services.items()}
    return f"procd\n{json.dumps(facts)}\n"


RUNS: dict[str, object] = {
    "running": True,
    "pid": 812,
    "respawn": {"threshold": 3600, "timeout": 5, "retry": 5},
}


def test_services_that_run_on_are_ok() -> None:
    said = procd(log=RUNS, once={"running": False, "exit_code": 0}) + ""
    check = services_check(said, said)
    assert (check.outcome, check.found) == ("ok", "2 services")
    assert services_check("procd\n{}\n", 'procd\n{"gpio": {}}\n').found == "0 services"


def test_a_service_that_dies_is_named_with_its_code() -> None:
    said = procd(log=RUNS, mine={**RUNS, "running": False, "exit_code": 7})
    check = services_check(said, said)
    assert (check.outcome, check.found) == ("failed", "mine dies with 7: it waits to be started again")


def test_a_service_that_runs_as_another_process_dies() -> None:
    check = services_check(procd(mine=RUNS), procd(mine={**RUNS, "pid": 900}))
    assert check.outcome == "failed"
    assert "mine dies and is started again" in check.found


def test_a_service_that_ended_with_an_error_is_worth_knowing() -> None:
    said = procd(mine={"running": False, "exit_code": 1})
    assert (services_check(said, said).outcome, services_check(said, said).found) == (
        "warned",
        "mine ended with 1",
    )


NTPD = {**RUNS, "running": False, "exit_code": 1, "command": ["/usr/sbin/ntpd", "-n", "-p", "0.pool.ntp.org"]}
NTPD_LOOP = "Instance sysntpd::instance1 s in a crash loop 6 crashes, 0 seconds since last crash\n"


@pytest.mark.parametrize("code", [1, None])
def test_what_wants_a_network_outside_is_not_held_against_the_image(code: int | None) -> None:
    said = procd(
        sysntpd={key: value for key, value in {**NTPD, "exit_code": code}.items() if value is not None}
    )
    check = services_check(said, said + NTPD_LOOP)
    told = "" if code is None else f" with {code}"
    assert check.outcome == "ok"
    assert [each.text for each in check.findings] == [f"sysntpd dies{told}: it reaches no time server here"]


@pytest.mark.parametrize(
    "fact",
    [
        {"exit_code": 127},  # its program is not there, or a library of it
        {"exit_code": 128 + 11},  # a crash
        {"command": ["/usr/bin/own-clock"]},  # a service of the config's own that is called so
    ],
)
def test_the_want_of_a_network_excuses_no_other_fault_of_the_time_service(fact: dict[str, object]) -> None:
    said = procd(sysntpd={**NTPD, **fact})
    check = services_check(said, said + NTPD_LOOP)
    assert check.outcome == "failed"
    assert [each.level for each in check.findings] == ["error", "error"]


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (
            "<6>[    9.0] EXT4-fs (loop0): mounted filesystem with ordered data mode\n",
            "I/O error, dev loop0, sector 0",
        ),
        (
            "<5>[    9.0] F2FS-fs (loop0): Mounted with checkpoint version = 2b\n",
            "I/O error, dev loop0, sector 0",
        ),
        ("", "blk_update_request: I/O error, dev loop0, sector 0 op 0x0:(READ) flags 0x0"),
    ],
)
def test_an_overlay_that_cannot_be_read_or_was_there_is_a_fault(before: str, line: str) -> None:
    check = kernel_check(f"{QUIET}{before}<3>[    9.1] {line}\n")
    assert check.outcome == "failed"


def test_another_overlay_that_is_there_makes_no_fault_of_the_usual_error() -> None:
    other = "<6>[    9.0] EXT4-fs (loop1): mounted filesystem with ordered data mode\n"
    usual = "<3>[    9.1] blk_update_request: I/O error, dev loop0, sector 0 op 0x1:(WRITE) flags 0x800\n"
    assert kernel_check(QUIET + other + usual).outcome == "ok"


def test_procds_own_words_on_crash_loops_count() -> None:
    loop = "Mon daemon.info procd: Instance mine::instance1 s in a crash loop 6 crashes, 0 seconds since last"
    check = services_check(procd(), f"{procd()}{loop}\n")
    assert (check.outcome, check.found) == ("failed", loop)


KEPT = "supervise\nservice mine.instance1 {alive} {again}\n{child}\n"


@pytest.mark.parametrize(
    ("alive", "again", "child", "found"),
    [
        (1, 1, "child mine.instance1 90 /usr/bin/mine a ", "1 service"),
        (1, 1, "child mine.instance1 90 sleep 5 ", "mine dies: it waits to be started again"),
        (1, 1, "child mine.instance1 90 logger -t mine ", "mine dies: it waits to be started again"),
        (0, 1, "", "mine dies: it was given up"),
        (0, 0, "", "1 service"),
    ],
)
def test_the_kits_services(alive: int, again: int, child: str, found: str) -> None:
    said = KEPT.format(alive=alive, again=again, child=child)
    assert services_check(said, said).found == found


def test_ports_that_are_listened_at() -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue\n"
    listens = "   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000\n"
    connected = "   1: 0F02000A:1F90 0202000A:A1B2 01 00000000:00000000 00:00000000\n"
    six = f"   0: {'0' * 32}:0016 {'0' * 32}:0000 0A 00000000:00000000 00:00000000\n"
    assert listened_ports(head + listens + connected + head + six) == {80, 22}
    assert listened_ports("") == frozenset()
    assert listened_ports(f"{listens}Main:\n   |-- 127.0.0.1\n") == frozenset()
    assert listened_ports(f"{listens}Main:\n   |-- 127.0.0.1\n   |-- 192.168.1.1\n") == {80}


def test_a_guest_that_says_nothing_of_services_is_not_judged() -> None:
    assert services_check("none\n", "none\n").outcome == "not run"
    assert services_check("procd\n[]\n", "procd\n[]\n").outcome == "not run"


@given(st.text(), st.text(), st.sampled_from(["procd", "supervise"]))
def test_any_answer_gives_a_check(first: str, second: str, kind: str) -> None:
    assert services_check(f"{kind}\n{first}", f"{kind}\n{second}").name == "services"
    assert kernel_check(first).name == "kernel"


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.dictionaries(st.sampled_from(["a", "instances", "running", "pid"]), inner),
    )
)
def test_any_json_gives_a_check(value: object) -> None:
    said = f"procd\n{json.dumps(value)}\n"
    assert services_check(said, said).name == "services"
