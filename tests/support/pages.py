"""The blocks of the pages: what a reader copies. In: Markdown. Out: blocks, each with its kind."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.commands import words_of

ROOT: Final = Path(__file__).parents[2]

# What a shell's block may begin its lines with; a new program is added here.
PROGRAMS: Final = frozenset(
    {
        *("(cd", "acl", "acl()", "curl", "docker", "export", "freshet", "freshet-export", "gcc"),
        *("install", "kubectl", "make", "npm", "openssl", "pip", "prometheus", "promtool"),
        *("python", "sh", "sha256sum", "source", "spin", "systemctl", "useradd"),
    }
)
# Why lines of these programs are not run as they stand; those of all others are, by `runner_of`.
NOT_RUN: Final = {
    "(cd": "writes sums into the checkout, of jars that not every machine has",
    "acl": "wants brokers with rights: integration/test_wire.py gives it to one",
    "acl()": "a name for what the lines after it call",
    "docker": "wants an engine",
    "install": "writes to /etc",
    "kubectl": "wants a cluster",
    "make": "takes minutes, or makes an environment: unit/test_pages.py has make plan each",
    "pip": "installs packages from afar",
    "python": "takes minutes, or wants a Prometheus: unit/test_pages.py looks its options up",
    "spin": "takes long: model/test_takeover.py has the same run",
    "systemctl": "wants systemd",
    "useradd": "makes a user",
}
# The pages that speak of a broker, in the order in which a reader comes to them.
READ: Final = ("README.md", "stream/RECORDS.md", "stream/cli/README.md")
# What stands for something of the reader's: in a synopsis, and as a word in capitals.
SYNOPSIS: Final = re.compile(r"\[--|\.\.\.\]| \| ")
_PLACE: Final = re.compile(r"(?<= )(?:LOG|DIR|FILE|FOLDER|OVERLAY|[A-Z])(?= |$)")
# Why some lines of programs that are run are not.
_LEFT_OUT: Final = {
    "--format online-retail": "wants a log of half a million lines",
    "online_retail_sample": "trains on the whole sample, and writes the demo's bundle",
    "bundles/shop freshet worker": "the embedded broker has room for one worker",
}
_FENCE: Final = re.compile(r"^(```|~~~)(\w*)\n(.*?)^\1 *$\n?", re.MULTILINE | re.DOTALL)
_INDENTED: Final = re.compile(r"(?:(?<=\n\n)|\A)((?:    [^\n]*\n(?:\n(?=    ))?)+)")
_ASSIGNED: Final = re.compile(r"^\w+=\S*$")
_SHELLS: Final = {"sh", "bash", "shell", "console"}


class Block(NamedTuple):
    """A block of a page.

    Attributes
    ----------
    kind : the fence's language; of an indented block `shell`, or empty
    before : the page's text up to it
    """

    page: Path
    kind: str
    text: str
    before: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text.splitlines()[0][:60]}"


@cache
def pages() -> tuple[Path, ...]:
    """Every tracked page."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [ROOT / name for name in listed.stdout.split("\0") if name]
    return tuple(sorted(found or ROOT.glob("*.md")))  # a copy without git: at least these


@cache
def blocks() -> tuple[Block, ...]:
    """Every block of every page."""
    return tuple(block for page in pages() for block in _blocks(page))


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        kind = "shell" if found[2] in _SHELLS else found[2]
        yield Block(page, kind, found[3], text[: found.start()])
    # Fences are blanked: what is indented in them is no block of its own.
    rest = _FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    for found in _INDENTED.finditer(rest):
        lines = re.sub(r"^    ", "", found[1], flags=re.MULTILINE)
        kind = "shell" if program_of(lines) in PROGRAMS else ""
        yield Block(page, kind, lines, rest[: found.start()])


def program_of(line: str) -> str:
    """The name of the program that a shell's line runs first."""
    words = [word for word in line.split() if not _ASSIGNED.match(word)]
    if not words:
        return ""
    return Path(words[0]).name if "/" in words[0] else words[0]


def command_lines(block: Block) -> list[str]:
    """A shell block's commands, each on a line of its own, without comments."""
    joined = re.sub(r"\\\n\s*", " ", block.text)
    return [line for line in joined.splitlines() if words_of(line)]


def runner_of(block: Block) -> str:
    """The test that runs those of a shell's lines that are run."""
    read = str(block.page.relative_to(ROOT)) in READ
    return "integration/test_pages_typed.py" if read else "unit/test_pages.py"


def why_not_run(line: str) -> str | None:
    """Why a shell's line is not run as it stands; None: it is."""
    program, bare = program_of(line), line.split(" # ", maxsplit=1)[0].strip()
    if program in NOT_RUN:
        return NOT_RUN[program]
    if SYNOPSIS.search(bare) or _PLACE.search(bare):
        return "has words that stand for the reader's own"
    return next((why for part, why in _LEFT_OUT.items() if part in bare), None)
