"""Whether KVM is of use is told by a machine that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuilder.host import kvm


@pytest.mark.boot
def test_what_runs_instructions_is_known_from_what_does_not() -> None:
    assert kvm.seconds_with("tcg") is not None
    assert kvm.seconds_with("no-such-accelerator") is None
    assert kvm.seconds_with("tcg", 0.001) is None


def test_kvm_has_to_be_there_run_and_be_worth_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kvm.os, "uname", lambda: type("Uname", (), {"machine": "x86_64"}))
    took: dict[str, float | None] = {"tcg": 0.3, "kvm": 0.2}

    def seconds_with(accelerator: str, limit: float = 20.0) -> float | None:
        seconds = took[accelerator]
        return seconds if seconds is not None and seconds <= limit else None

    monkeypatch.setattr(kvm, "seconds_with", seconds_with)
    monkeypatch.setattr(kvm, "KVM", tmp_path / "kvm")
    works = kvm.works.__wrapped__
    assert not works()
    (tmp_path / "kvm").touch()
    assert works()
    took["kvm"] = 5.0
    assert not works()
    took["kvm"] = None
    assert not works()
