"""`deploy/systemd/`: the workers' unit and its drop-ins."""

from __future__ import annotations

import shutil
from pathlib import Path

from stream.config import load_settings
from stream.kafka.transport import STOP_WITHIN_S
from tests.support.deployed import SYSTEMD, UNIT, assignments, verify


def install(folder: Path, *more: str, replace: tuple[str, str] = ("", "")) -> Path:
    """The unit with drop-ins in a folder, its program one that is there; the unit's instance."""
    text = UNIT.read_text(encoding="utf-8").replace("/opt/freshet/bin/freshet", "/bin/true")
    instance = folder / "freshet-worker@9464.service"
    instance.write_text(text.replace(*replace) if replace[0] else text)
    drops = folder / "freshet-worker@9464.service.d"
    drops.mkdir()
    for name in more:
        shutil.copy(SYSTEMD / name, drops)
    return instance


def test_the_unit_and_its_drop_ins_are_systemds(tmp_path: Path) -> None:
    names = sorted(path.name for path in SYSTEMD.glob("*.conf"))
    assert names == ["gpu.conf", "secured.conf"]
    assert verify(install(tmp_path, *names)) == ""


def test_a_unit_with_a_slip_is_none(tmp_path: Path) -> None:
    slipped = install(tmp_path, replace=("TimeoutStopSec", "TimeoutStopSecs"))
    assert "TimeoutStopSecs" in verify(slipped)


def test_the_unit_gives_a_worker_its_time_and_starts_it_again() -> None:
    told = assignments(UNIT)
    settings = load_settings(SYSTEMD / "freshet.toml", environ={})
    assert float(told["TimeoutStopSec"][0]) > settings.broker.recovery_timeout_s + STOP_WITHIN_S
    assert told["Restart"] == ["always"]
    # 2 is a wrong setting; 70, by which a worker keeps its states right, must start again.
    assert told["RestartPreventExitStatus"] == ["2"]
    assert told["User"] == ["freshet"]
    given = dict(word.split("=", 1) for line in told["Environment"] for word in line.split())
    assert given["FRESHET_CONFIG"] == "/etc/freshet/freshet.toml"
    assert given["NUMBA_CACHE_DIR"] == f"/var/cache/{told['CacheDirectory'][0]}"
    assert told["CacheDirectoryMode"] == ["0700"]


def test_the_units_secrets_are_those_that_it_loads() -> None:
    told = assignments(SYSTEMD / "secured.conf")
    loaded = {line.split(":")[0] for line in told["LoadCredential"]}
    given = dict(word.split("=", 1) for line in told["Environment"] for word in line.split())
    used = {value.removeprefix("%d/") for name, value in given.items() if name.endswith("_FILE")}
    assert used == loaded
