"""The demo's two promises, measured as a user meets them: `python -m tests.bench.demo`.

First list: from `make demo` in a fresh clone, which sets up an environment of its own, to the first
list that it prints. Click to list: from just before the send to the receipt of the list whose cause
is that click, by one clock; each click is a `freshet send ... --wait` of its own, pasted from what
the demo prints, on an item of the newest list. Needs nothing but Python, git and make; `--browser`,
which clicks in the page as well, takes playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[2]
FIRST_LIST_WITHIN_S = 60.0
CLICK_TO_LIST_WITHIN_MS = 100.0  # every click, not their median

CLICKS = 20
USER = "by-hand"
GIVE_UP_S = 600.0  # on the first list: a cold package cache on a slow line
STOP_WITHIN_S = 10.0
TAIL_LINES = 15

HINT = re.compile(r"^  (\S.* send click) --user you --item (\S+) (--bootstrap \S+)$")
PAGE = re.compile(r"page     (http://[\w.:]+/)")
LIST = re.compile(r"new list in [0-9.]+ ms$")
# What would lead the demo to another broker, other code or another environment.
NOT_PASSED_ON = ("FRESHET_", "PYTHON", "VIRTUAL_ENV", "MAKE", "MFLAGS")


class NotMeasuredError(Exception):
    """Something is missing, or did not do its part; the message says what."""


class Demo:
    """A demo that runs: its lines as they come, and the end by Ctrl-C."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.folder = folder
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(NOT_PASSED_ON)}
        self.started_s = time.monotonic()
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C reaches a whole process group: this one, not ours
        )
        self._lines: Queue[tuple[float, str] | None] = Queue()
        self._seen: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put((time.monotonic(), line.rstrip("\n")))
        self._lines.put(None)

    def wait_for(self, pattern: re.Pattern[str]) -> tuple[float, re.Match[str]]:
        """Return the next line that `pattern` is found in, and when it came."""
        while True:
            left_s = self.started_s + GIVE_UP_S - time.monotonic()
            try:
                came = self._lines.get(timeout=max(0.0, left_s))
            except Empty:
                self._fail(f"printed no {pattern.pattern!r} within {GIVE_UP_S:g} s")
            if came is None:
                self._fail(f"ended with status {self._process.wait()} before its first list")
            self._seen.append(came[1])
            if found := pattern.search(came[1]):
                return came[0], found

    def _fail(self, what: str) -> NoReturn:
        raise NotMeasuredError(
            "\n".join([f"the demo {what}; it printed:", *self._seen[-TAIL_LINES:]])
        )

    def end(self) -> None:
        """Ctrl-C; when that does not end it in time, kill what is left of its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGINT)
            try:
                self._process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


@contextlib.contextmanager
def running(here: bool) -> Iterator[Demo]:
    """Start the demo, in a fresh clone unless `here`; end it and remove the clone."""
    with contextlib.ExitStack() as stack:
        command, folder = [sys.executable, "-m", "stream.cli", "demo"], ROOT
        if not here:
            for program in ("git", "make"):
                if shutil.which(program) is None:
                    raise NotMeasuredError(f"{program} is not on the PATH; --here does without")
            temporary = tempfile.TemporaryDirectory(prefix="freshet-", ignore_cleanup_errors=True)
            command, folder = ["make", "demo"], Path(stack.enter_context(temporary)) / "freshet"
            clone = ["git", "clone", "--quiet", str(ROOT), str(folder)]
            done = subprocess.run(clone, capture_output=True, text=True, check=False)
            if done.returncode:
                raise NotMeasuredError(f"no clone of {ROOT}: {done.stderr.strip()}")
        demo = Demo(command, folder)
        stack.callback(demo.end)
        yield demo


def click(demo: Demo, command: list[str], item_id: str) -> tuple[float, list[str]]:
    """Send one click and wait for its list; answers the milliseconds and the list's item_ids."""
    words = [*command, "--user", USER, "--item", item_id, "--wait", "--json"]
    run = subprocess.run(
        words, cwd=demo.folder, env=demo.environ, capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise NotMeasuredError(f"{shlex.join(words)}\n{run.stdout}{run.stderr}".rstrip())
    answer = json.loads(run.stdout.splitlines()[-1])
    return answer["event_to_list_ms"], [i["item_id"] for i in answer["lists"]["home"]["items"]]


@contextlib.contextmanager
def browsing() -> Iterator[Browser]:
    """A Chromium, open before the demo starts, as a visitor's is."""
    try:
        from tests.support.browser import found, launched
    except ImportError as error:
        raise NotMeasuredError(f"--browser needs the extra `dev`: {error}") from error
    program = found()
    if program is None:
        raise NotMeasuredError("--browser needs a Chromium on the PATH (Debian: chromium)")
    with launched(program) as browser:
        yield browser


def click_in_page(demo: Demo, browser: Browser) -> dict[str, float]:
    """Open the page as soon as its address is printed, and click; seconds are since the start."""
    from playwright.sync_api import Error

    from tests.bench.demo_page import first_click

    _, address = demo.wait_for(PAGE)
    try:
        found = first_click(browser, address[1])
    except Error as error:
        raise NotMeasuredError(f"the demo's page: {error}") from error
    return {
        "page_s": round(found.page_at_s - demo.started_s, 2),
        "first_click_s": round(found.list_at_s - demo.started_s, 2),
        "list_changed_ms": round(found.list_changed_ms, 1),
    }


def measure(here: bool, clicks: int, browser: Browser | None = None) -> dict[str, Any]:
    with running(here) as demo:
        in_page = {} if browser is None else click_in_page(demo, browser)
        _, hint = demo.wait_for(HINT)
        at_s, _ = demo.wait_for(LIST)
        program, item_id, broker = hint.groups()
        command = [*shlex.split(program), *shlex.split(broker)]
        clicked: list[str] = []
        took_ms, lists = [], []
        for _ in range(clicks):
            clicked.append(item_id)
            one_ms, listed = click(demo, command, item_id)
            took_ms.append(one_ms)
            lists.append(listed)
            item_id = next((other for other in listed if other not in clicked), clicked[0])
    return {
        "fresh_clone": not here,
        "first_list_s": round(at_s - demo.started_s, 2),
        "clicks": clicks,
        "lists_changed": sum(
            now != before for before, now in zip([[], *lists], lists, strict=False)
        ),
        "click_to_list_p50_ms": round(statistics.median(took_ms), 1),
        "click_to_list_max_ms": round(max(took_ms), 1),
        "clicks_too_late": sum(one_ms >= CLICK_TO_LIST_WITHIN_MS for one_ms in took_ms),
        **in_page,
    }


def report(found: dict[str, Any]) -> str:
    where = "a fresh clone and environment" if found["fresh_clone"] else "this checkout"
    in_page = (
        ""
        if "page_s" not in found
        else f"page           {found['page_s']:.1f} s to its lists in a browser\n"
        f"first click    {found['first_click_s']:.1f} s to the list that it rearranged, "
        f"{found['list_changed_ms']:.0f} ms after the click\n"
    )
    return in_page + (
        f"first list     {found['first_list_s']:.1f} s from {where} "
        f"(promised: {FIRST_LIST_WITHIN_S:g} s with a warm package cache)\n"
        f"click to list  p50 {found['click_to_list_p50_ms']:.1f} ms, max "
        f"{found['click_to_list_max_ms']:.1f} ms (promised: {CLICK_TO_LIST_WITHIN_MS:g} ms); "
        f"{found['lists_changed']} of {found['clicks']} clicks changed the list, "
        f"{found['clicks_too_late']} took too long"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--here", action="store_true", help="this checkout and its environment")
    parser.add_argument("--clicks", type=int, default=CLICKS)
    parser.add_argument("--browser", action="store_true", help="click in the page, too (Chromium)")
    parser.add_argument("--json", action="store_true", help="one JSON line")
    options = parser.parse_args(arguments)
    if options.clicks < 1:
        parser.error("--clicks: at least 1")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: leave nothing behind
    try:
        with browsing() if options.browser else contextlib.nullcontext() as browser:
            found = measure(options.here, options.clicks, browser)
    except NotMeasuredError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    kept = found["first_list_s"] <= FIRST_LIST_WITHIN_S and not found["clicks_too_late"]
    kept = kept and found["lists_changed"] == found["clicks"]
    print(json.dumps({**found, "kept": kept}) if options.json else report(found))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
