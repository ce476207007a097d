"""Jobs on a real Dask scheduler with real workers: results, deaths, and what cannot travel."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import dask
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from imagebuilder.build import build_image
from imagebuilder.config.request import Request, requests
from imagebuilder.errors import HostError, UserError
from imagebuilder.fleet import cluster as cluster_module
from imagebuilder.fleet.cluster import Cluster
from imagebuilder.fleet.job import BoardJob, Ended, HandedOver
from imagebuilder.fleet.worker import Identity
from imagebuilder.log import Event, Log, Progress, StepStarted, Warned
from tests.support.dask_cluster import SECONDS, DaskCluster, dask_cluster

BOARD = "tplink-tl-wr740n-v4"
SECRET = "correct horse battery staple"
WIFI = """extends = "base"
[[overlay]]
name = "wifi-client"
variables = { ssid = "office", key = { secret = "WIFI_KEY" } }
"""

Ask = Callable[..., Request]


@pytest.fixture(autouse=True)
def never_for_ever() -> Iterator[None]:
    """What waits for another process that does not answer fails, and does not stop all tests."""

    def late(_number: int, _frame: object) -> None:
        raise TimeoutError("somebody does not answer")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path / "cluster") as made:
        yield made


@pytest.fixture
def ask(project: Path, small_tree: Path, tmp_path: Path, add_config: Callable[[str, str], str]) -> Ask:
    def asked(text: str = 'extends = "base"\n', name: str = "mine") -> Request:
        add_config(name, text)
        (request,) = requests(
            project,
            name,
            board=BOARD,
            imagebuilder=str(small_tree),
            output=tmp_path / "out",
            cache=tmp_path / "cache",
        )
        return request

    return asked


def jobs_of(*asked: Request) -> list[BoardJob]:
    return [BoardJob(number, each, each.config_name()) for number, each in enumerate(asked, 1)]


def run(
    address: str, jobs: list[BoardJob], tell: Callable[[BoardJob, Event], None] = lambda *_: None
) -> dict[int, Ended[HandedOver]]:
    with Cluster(address) as there:
        return {ended.job.number: ended for ended in there.run(jobs, tell)}


def content(folder: Path) -> dict[str, bytes]:
    """All of a result but what says when and where, how long it took, and the sums of that."""
    left_out = ("result.json", "build.log", "report.html", "inputs.json", "sha256sums")
    return {each.name: each.read_bytes() for each in sorted(folder.iterdir()) if each.name not in left_out}


def images(found: dict[str, bytes]) -> dict[str, bytes]:
    named = {name: data for name, data in found.items() if name.endswith(".bin")}
    assert named
    return named


def built_here(request: Request, place: Path) -> dict[str, bytes]:
    return content(build_image(replace(request, output=place), Log())[0])


def jobs_left(cluster: DaskCluster) -> list[Path]:
    return list(cluster.work.glob("cache-*/cluster/.work-*/job-*"))


def wait_until(holds: Callable[[], object]) -> None:
    until = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_worker_gives_what_a_build_here_gives_and_is_sent_nothing_twice(
    cluster: DaskCluster, ask: Ask, tmp_path: Path
) -> None:
    request = ask()
    cluster.start_worker("-j", "1")
    events: list[Event] = []
    for state in ("built", "from the cache"):  # that of the worker
        (ended,) = run(cluster.address, jobs_of(request), lambda _, event: events.append(event)).values()
        assert ended.state == "done", ended
        assert ended.where.startswith("tcp://127.0.0.1")
        assert ended.found is not None
        assert ended.found.state == state
        assert ended.found.folder == tmp_path / "out/mine" / BOARD
        assert content(ended.found.folder) == built_here(request, tmp_path / "local")
    assert events.count(StepStarted("build")) == 1
    sent = [each for each in events if isinstance(each, Progress) and each.text.startswith("sending to ")]
    assert len([each for each in sent if each.done == each.total]) == 2  # the project and the tree, once each
    assert jobs_left(cluster) == []


def test_a_failed_build_tells_in_the_clients_words_and_leaves_its_log(
    cluster: DaskCluster, ask: Ask, small_tree: Path, tmp_path: Path
) -> None:
    good, bad = ask(), ask('extends = "base"\nhostnam = "x"\n', "wrong")
    (small_tree / "behaviour-fails").touch()
    cluster.start_worker("-j", "1")
    ended = run(cluster.address, jobs_of(good, bad))
    assert [each.state for each in ended.values()] == ["failed", "failed"]
    broken, wrong = (ended[number].failure for number in (1, 2))
    assert broken is not None
    assert wrong is not None
    assert "make: *** " in (tmp_path / "out/mine" / f"{BOARD}.failed.log").read_text()
    assert str(cluster.work) not in f"{broken}"
    assert wrong.faults[0].file == str(tmp_path / "project/configs/wrong.toml")
    assert jobs_left(cluster) == []


def test_what_a_killed_worker_had_is_built_by_another(
    cluster: DaskCluster, ask: Ask, small_tree: Path, tmp_path: Path
) -> None:
    asked = [ask(name=f"config-{number}") for number in range(6)]
    (small_tree / "behaviour").write_text("sleep 1\n")
    first = cluster.start_worker("-j", "1")
    killed: list[str] = []
    cluster.start_worker("-j", "1")

    def tell(job: BoardJob, event: Event) -> None:
        if event == StepStarted("build") and not killed:
            os.killpg(first.pid, signal.SIGKILL)
            killed.append(job.config)

    ended = run(cluster.address, jobs_of(*asked), tell)
    assert killed
    assert [ended[number].state for number in sorted(ended)] == ["done"] * 6, ended
    (small_tree / "behaviour").write_text("\n")  # the tree is another one now, and gives the same
    for each in ended.values():
        assert each.found is not None
        assert images(content(each.found.folder)) == images(built_here(each.job.request, tmp_path / "local"))


def test_an_interrupted_client_leaves_nothing_running_on_workers(
    cluster: DaskCluster, ask: Ask, small_tree: Path, tmp_path: Path
) -> None:
    (small_tree / "behaviour").write_text("exec sleep 1234.5\n")
    cluster.start_worker("-j", "1")

    def tell(_: BoardJob, event: Event) -> None:
        if event == StepStarted("build"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(cluster.address, jobs_of(ask()), tell)

    def sleeping() -> bool:
        return (
            "sleep 1234.5" in subprocess.run(("ps", "ax"), capture_output=True, text=True, check=True).stdout
        )

    wait_until(lambda: not sleeping() and not jobs_left(cluster))
    assert not (tmp_path / "out").exists()
    (small_tree / "behaviour").unlink()
    assert run(cluster.address, jobs_of(ask()))[1].state == "done"  # and the worker goes on


def test_a_job_that_is_cancelled_ends_and_others_go_on(
    cluster: DaskCluster, ask: Ask, small_tree: Path
) -> None:
    first, second, third = jobs_of(ask(), ask(name="second"), ask(name="third"))
    (small_tree / "behaviour").write_text("sleep 1\n")
    cluster.start_worker("-j", "1")
    with Cluster(cluster.address) as there:

        def tell(job: BoardJob, event: Event) -> None:
            if event == StepStarted("build") and job.number == 1:
                there.cancel(first)
                there.cancel(third)

        ended = {each.job.number: each.state for each in there.run([first, second, third], tell)}
    assert ended == {1: "interrupted", 2: "done", 3: "not run"}
    assert jobs_left(cluster) == []


def test_secrets_travel_where_nobody_listens_and_stay_nowhere(
    cluster: DaskCluster, ask: Ask, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "secrets.toml").write_text(f'WIFI_KEY = "{SECRET}"\nOTHER = {{ command = ["false"] }}\n')
    request = ask(WIFI)
    cluster.start_worker("-j", "1")
    (ended,) = run(cluster.address, jobs_of(request)).values()
    assert ended.state == "done", ended
    assert ended.found is not None
    assert content(ended.found.folder) == built_here(request, tmp_path / "local")
    left = [
        path for path in cluster.work.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()
    ]
    assert left == []

    monkeypatch.setattr(cluster_module, "is_private", lambda _: False)
    (refused,) = run(cluster.address, jobs_of(request)).values()
    assert refused.failure is not None
    assert "the image holds secrets (WIFI_KEY)" in refused.failure.message
    assert "tls://" in str(refused.failure.hint)


def test_who_hears_what_goes_to_a_scheduler() -> None:
    heard = {"tcp://10.0.0.7:8786": False, "tcp://farm:8786": False, "tcp://127.0.0.1:1": True}
    heard |= {"tcp://localhost:1": True, "tcp://[::1]:1": True, "tls://farm:8786": True}
    assert {address: cluster_module.is_private(address) for address in heard} == heard


def test_what_lies_outside_of_the_project_is_told_before_anything_runs(
    cluster: DaskCluster, ask: Ask, tmp_path: Path, project: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    outside = ask(f'extends = "base"\n[[overlay]]\npath = "{tmp_path}/elsewhere"\n')
    (project / "files").mkdir()
    (project / "files/hello").write_text("hello")
    inside = ask('extends = "base"\n[[overlay]]\npath = "files"\n', "inside")
    (project / "linked").symlink_to(tmp_path / "elsewhere")
    cluster.start_worker()
    ended = run(cluster.address, jobs_of(outside, inside))
    assert ended[1].failure is not None
    assert (
        f"the overlay {tmp_path}/elsewhere: a worker does not have what lies outside"
        in ended[1].failure.message
    )
    assert ended[2].failure is not None
    assert f"{project}/linked is a link that leads out of the project" in ended[2].failure.message
    (project / "linked").unlink()
    assert run(cluster.address, jobs_of(inside))[1].state == "done"


def test_another_version_is_refused_by_name(cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.start_worker()
    monkeypatch.setattr(cluster_module, "own_identity", lambda: Identity("9.9", "f" * 64))
    with pytest.raises(HostError, match="another program than this one, 9.9") as raised:
        Cluster(cluster.address)
    assert "runs 0.1.0 (code " in raised.value.message


def test_a_worker_of_another_program_that_comes_later_is_not_asked(
    cluster: DaskCluster, ask: Ask, small_tree: Path
) -> None:
    (small_tree / "behaviour").write_text("sleep 2\n")
    cluster.start_worker("-j", "1")
    plain: list[subprocess.Popen[bytes]] = []
    events: list[Event] = []

    def tell(_: BoardJob, event: Event) -> None:
        events.append(event)
        if event == StepStarted("build") and not plain:
            argv = (sys.executable, "-m", "distributed.cli.dask_worker", "--no-dashboard", cluster.address)
            environment = {**cluster.environment, "PYTHONPATH": os.pathsep.join(sys.path)}
            plain.append(
                subprocess.Popen(argv, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
            )

    try:
        ended = run(cluster.address, jobs_of(*(ask(name=f"config-{number}") for number in range(4))), tell)
        assert [each.state for each in ended.values()] == ["done"] * 4
        with pytest.raises(HostError, match="none of this program's"):
            Cluster(cluster.address)
    finally:
        for each in plain:
            # killed, its nanny would leave the semaphores of two queues in /dev/shm
            each.terminate()
            each.wait(SECONDS)
    told = [each.text for each in events if isinstance(each, Warned)]
    assert all("is not asked: it runs none of this program's" in text for text in told)


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 1)
    with pytest.raises(HostError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        Cluster("tcp://127.0.0.1:9")
    with pytest.raises(UserError, match="http://x is no address of a Dask scheduler"):
        Cluster("http://x")
    with (
        dask_cluster(tmp_path / "cluster") as empty,
        pytest.raises(HostError, match="no worker is connected to") as raised,
    ):
        Cluster(empty.address)
    assert f"worker {empty.address}" in str(raised.value.hint)


def test_certificates(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = self_signed(tmp_path)
    pair = {"cert": certificate, "key": key}
    roles = ("scheduler", "worker", "client")
    tls = {"distributed.comm.tls.ca-file": certificate}
    tls |= {f"distributed.comm.tls.{who}.{what}": path for who in roles for what, path in pair.items()}
    names = {"DASK_" + name.upper().replace("-", "_").replace(".", "__"): path for name, path in tls.items()}
    with dask_cluster(tmp_path / "cluster", protocol="tls", environment=names) as cluster:
        assert cluster.address.startswith("tls://")
        cluster.start_worker()
        with (
            monkeypatch.context() as patch,
            pytest.raises(HostError, match="no Dask scheduler answers at tls:"),
        ):
            patch.setattr(cluster_module, "CONNECT_SECONDS", 2)
            Cluster(cluster.address)
        with dask.config.set(tls):
            assert run(cluster.address, jobs_of(ask()))[1].state == "done"


def self_signed(folder: Path) -> tuple[str, str]:
    """A certificate that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster")])
    now = datetime.datetime.now(datetime.UTC)
    here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([here]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*pem))
    return str(folder / "cert.pem"), str(folder / "key.pem")


def test_build_with_a_scheduler(cluster: DaskCluster, ask: Ask, tmp_path: Path, project: Path) -> None:
    request = ask()
    ask('extends = "base"\nhostnam = "x"\n', "wrong")
    cluster.start_worker("-j", "1")
    argv = [sys.executable, "-m", "imagebuilder", "build", "mine", "wrong", "--board", BOARD]
    argv += ["--imagebuilder", str(request.imagebuilder), "--project", str(project)]
    argv += ["--output", str(tmp_path / "out"), "--scheduler", cluster.address, "--json"]
    argv += ["--cache", str(tmp_path / "cache")]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    said = json.loads(ended.stdout)["found"]
    assert [(each["config"], each["state"]) for each in said] == [("mine", "built"), ("wrong", "failed")]
    assert (tmp_path / "out/mine" / BOARD / "result.json").is_file()
    both = subprocess.run([*argv, "-j", "3"], capture_output=True, text=True, check=False)
    assert both.returncode == 2
    assert "--scheduler has others build" in both.stdout + both.stderr
