"""What a terminal is shown is text: brackets, colons and control characters in a name are only themselves."""

from pathlib import Path

import numpy as np
import pytest
from command_line import crh, refused

from crh_train.cli.output import fields, following, say, table
from crh_train.hooks import progress_display
from crh_train.run_folder import environment_bytes
from crh_train.run_store import RunFolder
from crh_train.visible import visible

MARKED = ("study[bold]", "d[/x]", "[grey,white]", ":smile:", "[link=http://x]here[/link]")
OBEYED = "\x1b]0;owned\x07\x9b31m\r\n\x08\u202e"  # a title, a colour, a line begun anew, letters from right to left
SHOWN = r"\x1b]0;owned\x07\x9b31m\r\n\x08\u202e"


def test_what_is_printable_is_as_it_is_and_the_rest_is_spelled_out() -> None:
    assert visible("".join(MARKED) + "Größe 4 µm · 頭") == "".join(MARKED) + "Größe 4 µm · 頭"
    assert visible(OBEYED) == SHOWN
    assert visible("\udcff") == r"\udcff"  # of a file's name that is no UTF-8


@pytest.mark.parametrize("terminal", [False, True])
def test_cells_are_text(terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm-256color")
    for cell in (*MARKED, "12.5 None http://x", OBEYED):
        table(["name", cell], [[cell, "x"], ["x", cell]])
        said = capsys.readouterr().out
        shown = visible(cell)
        assert said.count(shown) == 3
        head, *rows = said.splitlines()
        assert ("\x1b[1m" in head) == terminal
        assert len(rows) == 2
        assert "\x1b" not in "".join(rows), "only the names of the columns are bold"


def test_lines_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    for text in (*MARKED, OBEYED):
        say(text)
        fields([("a", text), ("name", "x")])
        following(text)
        shown = visible(text)
        assert capsys.readouterr().out == f"{shown}\na     {shown}\nname  x\nnext: {shown}\n"
    say(OBEYED, err=True)
    assert capsys.readouterr().err == f"{SHOWN}\n"


def test_the_progress_bar_shows_its_title() -> None:
    with progress_display(True) as display:
        display.add_task("d[/x] :smile:", loss="–", lr="–", saved=0)
        (line,) = display.console.render_lines(display.get_renderable(), pad=False)
        assert "d[/x] :smile:" in "".join(segment.text for segment in line)


@pytest.mark.parametrize("word", MARKED)
def test_a_run_is_listed_with_its_words(word: str, store: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    session = store.sessions()[0]
    session["command"]["overrides"] = [f"runtime.data_root={word}"]
    (store.path / "environment.json").write_bytes(environment_bytes([session]))
    for command in (["list"], ["show", store.name]):
        said = crh(*command, env=env, cwd=tmp_path)
        assert (said.returncode, said.stderr) == (0, "")
        assert f" mri_step runtime.data_root={word}" in said.stdout


def test_files_of_any_name_are_named(env: dict[str, str], tmp_path: Path) -> None:
    study = tmp_path / "study[bold]"
    names = ("b[/c].npy", ":smile:.npy")
    for name in names:
        (study / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(study / name, np.zeros((48, 48), np.float32))
    words = ["conf=mri_denoise", "data=images", "data.table=null", "runtime.data_root='study[bold]'"]
    said = crh("data", "check", *words, env=env, cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, ""), said.stdout
    assert all(f"{name} " in said.stdout for name in names)
    (study / "d\x1b[31m.npy").touch()
    said = crh("data", "check", *words, env=env, cwd=tmp_path)
    assert r"problem: study[bold]/d\x1b[31m.npy: " in said.stdout
    assert "\x1b" not in said.stdout
    assert refused(crh("run", *words, env=env, cwd=tmp_path), 3).startswith(r"study[bold]/d\x1b[31m.npy: ")
