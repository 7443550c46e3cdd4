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
