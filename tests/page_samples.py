"""An HTML page taken apart by Python's own parser, and a browser to open it in."""

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from crh_train.replay_report import ReplayReport

VOID = {"meta", "img", "br", "link", "input", "hr"}
LIMIT = 120  # seconds after which a browser hangs


class Page(HTMLParser):
    """What stands in a page. Fails where an element is not closed by its own end tag."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []  # element, name, value
        self.words: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}  # id, or the label of the box around it -> rows of cells
        self.style = ""
        self._label = ""
        self._rows: list[list[str]] = []
        self.feed(data.decode())
        self.close()
        assert self.open == [], "elements left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert len(given) == len(attrs), f"an attribute twice in {tag}: {attrs}"
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if given.get("role") == "region":
            self._label = given["aria-label"] or ""
        if tag == "table":
            self._rows = self.tables[given.get("id") or self._label] = []
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
            return
        self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self._rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, name: str) -> list[str]:
        return [value for _, found, value in self.attributes if found == name]


def browser() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if found is None:
        pytest.skip("no Chromium here")
    return found


def browse(path: Path, *options: str, profile: Path) -> subprocess.CompletedProcess[str]:
    """Open a file in a browser that can reach no other machine, and tell what it logs."""
    words = [browser(), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    words += ["--enable-logging=stderr", "--log-level=0", f"--user-data-dir={profile}", "--no-first-run"]
    words += ["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND", *options, path.as_uri()]
    return subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=True)


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What the page made the browser write to its console."""
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def replayed_whole(run_hash: str, steps: int, fingerprint: dict[str, Any]) -> ReplayReport:
    """The verdict of a replay of every step that found no difference."""
    return ReplayReport(
        run_hash=run_hash,
        first_step=0,
        last_step=steps,
        steps_compared=steps,
        checkpoints_compared=1,
        segments=1,
        identical=True,
        program="archived",
        program_differs=(),
        promised=True,
        promise="the same bits are promised",
        difference=None,
        arrays=(),
        final_state="0" * 64,
        fingerprint=fingerprint,
        version="0.1.0",
    )
