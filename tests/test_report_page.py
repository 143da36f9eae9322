"""`crh-train report`: the page is whole, says what the run's files say, and a browser has nothing to complain about."""

import base64
import dataclasses
import hashlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import EPOCHS, STEPS_PER_EPOCH, contents, copied, crh, document, refused
from conftest import Made
from page_samples import Page, browse, complaints, replayed_whole
from PIL import Image
from store_samples import flip

from crh_train.cli.replay import _recorded
from crh_train.errors import CorruptRun
from crh_train.page import Contents, read, render
from crh_train.page.contents import Panel
from crh_train.page.pictures import draw
from crh_train.replay_records import record
from crh_train.replay_report import ReplayReport
from crh_train.reports.documents import indented_json
from crh_train.reports.numbers import written
from crh_train.run_store import RunFolder
from crh_train.validator.statistics import mean_over, subgroups
from crh_train.validator.volumes import HeldOutVolume

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>\u202e\x07{{ 7 * 7 }}"


@pytest.fixture(scope="module")
def said(finished: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """Of a copy, beside which no other test leaves the verdict of a replay."""
    return read(copied(finished, tmp_path_factory.mktemp("page") / "runs"))


@pytest.fixture(scope="module")
def data(said: Contents) -> bytes:
    return render(said)


@pytest.fixture(scope="module")
def page(data: bytes) -> Page:
    return Page(data)


@pytest.fixture
def replay_report(finished: RunFolder) -> ReplayReport:
    return replayed_whole(finished.run_hash, EPOCHS * STEPS_PER_EPOCH, finished.sessions()[0]["fingerprint"])


# --- the page as a file --------------------------------------------------------------------------------------------


def test_same_run_same_bytes_wherever_it_lies_and_the_run_is_not_touched(
    store: RunFolder, env: dict[str, str], tmp_path: Path, data: bytes
) -> None:
    before = contents(store.path), {path: path.stat().st_mtime_ns for path in store.path.rglob("*")}
    elsewhere = {**env, "LC_ALL": "C", "TZ": "Pacific/Apia", "PYTHONHASHSEED": "7", "COLUMNS": "40"}
    done = crh("report", store.name[:6], env=elsewhere, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"report    runs/{store.name}.html"
    assert done.stdout.splitlines()[-1] == f"next: crh-train replay {store.name}"
    assert store.path.with_name(f"{store.name}.html").read_bytes() == data
    found = document(crh("report", store.name, "-o", "a/b.html", "--json", env=env, cwd=tmp_path))
    assert found == {
        "run": store.name,
        "path": "a/b.html",
        "bytes": len(data),
        "status": "finished",
        "verified": True,
    }
    assert (tmp_path / "a" / "b.html").read_bytes() == data
    assert (contents(store.path), {path: path.stat().st_mtime_ns for path in store.path.rglob("*")}) == before
    inside = refused(crh("report", store.name, "-o", store.path / "x.html", env=env, cwd=tmp_path), 2)
    assert "outside the run" in inside


def test_the_page_refers_to_nothing_outside_it(page: Page) -> None:
    sources = [
        (tag, name, value) for tag, name, value in page.attributes if name in ("src", "href", "srcset", "action")
    ]
    assert sources
    for tag, name, value in sources:
        assert value.startswith("data:image/png;base64," if (tag, name) == ("img", "src") else "#"), (tag, name, value)
    assert not any("http:" in value or "https:" in value for value in page.style.split())
    assert not re.search(r"url\(|@import", page.style)
    assert {tag for tag, _, _ in page.attributes}.isdisjoint({"script", "link", "iframe", "object", "base", "form"})
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name == "style"]
    ids = page.all("id")
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in page.all("href")} <= set(ids)
    named = " ".join(page.all("aria-labelledby")).split()
    assert set() < set(named) <= set(ids)
    (policy,) = [value for value in page.all("content") if "default-src" in value]
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_every_number_is_the_runs(finished: RunFolder, page: Page) -> None:
    metrics = json.loads((finished.path / "reports" / "validation_metrics.json").read_bytes())["metrics"]
    rows = {row[0]: row[1:] for row in page.tables["Metrics"]}
    measured = {name: entry for name, entry in metrics.items() if entry["value"] is not None}
    names = [name for name in measured if not name.startswith("baseline_")]
    assert len(rows) == len(names) + 1, "and the head"
    for name in names:
        (row,) = [cells for head, cells in rows.items() if head.endswith(measured[name]["convention"])]
        assert row[0].replace("−", "-") == written(name, measured[name]["value"])
        if f"baseline_{name}" in measured:
            before, after = measured[f"baseline_{name}"]["value"], measured[name]["value"]
            assert row[1].replace("−", "-") == written(name, before)
            change = float(row[2].replace("−", "-").split()[0])
            assert change == pytest.approx(100 * (after / before - 1) if "%" in row[2] else after - before, abs=0.051)
    training = json.loads((finished.path / "reports" / "training_metrics.json").read_bytes())
    fields = ("mean_loss", "loss_ema", "mean_grad_norm", "mean_coherence")
    assert page.tables["epochs"][1:] == [
        [str(epoch["epoch"] + 1), str(epoch["last_step"]), *(f"{epoch[f]:#.4g}" for f in fields), f"{epoch['lr']:.4g}"]
        for epoch in training["per_epoch"]
    ]
    assert len(page.tables["epochs"]) == EPOCHS + 1
    lines = finished.chronicle()
    for field in ("loss", "lr", "grad_norm"):
        numbers = [float(getattr(line, field)) for line in lines]
        found = {"smallest": numbers.index(min(numbers)), "largest": numbers.index(max(numbers)), "last": -1}
        for kind, index in found.items():
            assert f"{kind} {numbers[index]:.4g} at step {lines[index].step}" in page.text


def test_the_proof_and_the_commands_are_there(finished: RunFolder, said: Contents, page: Page) -> None:
    run = said.run
    for name in ("run_hash", "config_hash", "dataset_state", "program", "chronicle_head", "checkpoint_hash"):
        assert run[name] in page.text
    assert said.manifest["files"][0]["sha256"] in page.text
    for command in ("replay", "verify", "report"):
        assert f"crh-train {command} {finished.name}" in page.text
    assert f"crh-train run conf=mri_step {' '.join(run['overrides'][:1])}" in page.text
    assert "Synthetic, without clinical meaning." in page.text
    assert "✓ good" in page.text
    assert f"not replayed yet : do it with crh-train replay {finished.name}." in page.text


def test_each_shown_case_has_its_pictures(said: Contents, page: Page) -> None:
    assert said.held is not None
    assert said.held.panels
    alts = [value for value in page.all("alt") if value]
    assert alts == [
        f"{name} of {panel.case}, slice {panel.slice}"
        for panel in said.held.panels
        for name in ("input", "output", "target", "absolute error")
    ]


# --- what others may put into a run --------------------------------------------------------------------------------


def test_hostile_text_is_text(said: Contents, page: Page) -> None:
    assert said.held is not None
    panel = said.held.panels[0]._replace(case=HOSTILE, chosen=[HOSTILE])
    spread = {"value": 20.0, "n": 1, "mean": 20.0, "sd": None, "interval": [19.0, 21.5]}
    group = {"group": HOSTILE, "n": 1, "metrics": {"psnr": spread}}
    subgroups = [{"column": HOSTILE, "missing": 1, "groups": [group, group], "gaps": {"psnr": {"gap": 0.5}}}]
    changed = dataclasses.replace(
        said,
        run={**said.run, "conf": HOSTILE, "overrides": [HOSTILE], "status": "unfinished"},
        manifest={**said.manifest, "source": HOSTILE, "preprocessing": {HOSTILE: HOSTILE}},
        held=said.held._replace(panels=[panel], subgroups=subgroups, bias=HOSTILE),
    )
    found = Page(render(changed))
    assert {tag for tag, _, _ in found.attributes} <= {tag for tag, _, _ in page.attributes} | {"tfoot", "circle"}
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    shown = HOSTILE.replace("\u202e", "\\u202e").replace("\x07", "\\x07")
    assert found.text.count(shown) >= 9
    assert f"{shown}: 1 volume" in found.text
    assert ["largest gap", "", "0.50 dB"] in found.tables[f"By {shown}"]
    assert [shown, "1", "20.00 dB 19.00 dB to 21.50 dB"] in found.tables[f"By {shown}"]


def _saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cases.json", b"[]"),
        ("cases.json", b'{"arrays":"cases.npy","images":["input"],"classes":0,"panels":[]}'),
        ("cases.npy", b"\x93NUMPY\x01\x00"),
        ("cases.npy", b""),
        ("cases.npy", _saved(np.zeros((1, 4, 8, 8), np.float32))),
        ("cases.npy", _saved(np.zeros((3, 4, 8, 8), np.float64))),
        ("cases.npy", _saved(np.zeros((3, 4, 0, 8), np.float32))),
        ("validation_metrics.json", b'{"metrics":{"psnr":{"value":[],"convention":"x"}}}'),
        ("validation_metrics.json", b'{"metrics":{"psnr":{"value":1,"convention":"x","interval":[1]}}}'),
        ("validation_metrics.json", b'{"metrics":{},"subgroups":[1],"conventions":{},"bias":"","cases":1}'),
    ],
)
def test_a_report_that_cannot_be_shown_ends_in_a_line(store: RunFolder, name: str, content: bytes) -> None:
    (store.path / "reports" / name).write_bytes(content)
    with pytest.raises(CorruptRun, match=name.partition(".")[0]) as refusal:
        read(store)
    assert "\n" not in str(refusal.value)


def test_damage_is_told_on_the_page_and_by_the_exit_code(store: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    flip(store.checkpoints()[0].path, 300)
    done = crh("report", store.name, env=env, cwd=tmp_path)
    assert done.returncode == 1
    found = Page(store.path.with_name(f"{store.name}.html").read_bytes())
    assert "✗ DAMAGED" in found.text
    assert store.checkpoints()[0].path.name in found.text


def test_an_unfinished_run_has_a_page_that_says_so(interrupted: Made, tmp_path: Path) -> None:
    run = copied(interrupted.run("term-stopped"), tmp_path / "runs")
    found = Page(render(read(run)))
    steps = len(run.chronicle())
    assert 0 < steps < EPOCHS * STEPS_PER_EPOCH
    assert f"not finished : {steps} of {EPOCHS * STEPS_PER_EPOCH} steps are done" in found.text
    assert "Metrics" not in found.tables
    assert len(found.tables["epochs"]) == 1 + -(-len(run.chronicle()) // STEPS_PER_EPOCH)


def test_a_run_from_before_cases_and_intervals_is_shown(store: RunFolder) -> None:
    reports = store.path / "reports"
    document = json.loads((reports / "validation_metrics.json").read_bytes())
    for entry in document["metrics"].values():
        for name in ("n", "mean", "sd", "interval"):
            del entry[name]
    for name in ("subgroups", "conventions", "bias", "cases"):
        del document[name]
    (reports / "validation_metrics.json").write_text(json.dumps(document))
    (reports / "cases.json").unlink()
    found = Page(render(read(store)))
    assert len(found.tables["Metrics"][0]) == 4
    assert not [value for value in found.all("alt") if value]


def test_the_groups_that_a_run_compares_are_shown(store: RunFolder) -> None:
    scores = [np.float32(score) for score in (20.0, 21.0, 25.0)]
    held_out = [
        HeldOutVolume(name, (0,), (0,), (1.0, 1.0, 1.0), None, {"site": name[0]}, (slice(8), slice(8)))
        for name in ("a1", "a2", "b1")
    ]
    compared = subgroups({"psnr": (mean_over(scores), scores)}, held_out, ["p1", "p2", "p3"])
    path = store.path / "reports" / "validation_metrics.json"
    path.write_bytes(indented_json({**json.loads(path.read_bytes()), "subgroups": compared}))
    rows = Page(render(read(store))).tables["By site"]
    assert ["a", "2", "20.50 dB 20.00 dB to 21.00 dB"] in rows
    assert ["b", "1", "25.00 dB –"] in rows
    assert ["largest gap", "", "4.50 dB"] in rows


# --- replays -------------------------------------------------------------------------------------------------------


def test_a_replay_is_on_the_page(store: RunFolder, env: dict[str, str], tmp_path: Path) -> None:
    words = ("replay", store.name, "--from", "2", "--json")
    done = [document(crh(*words, env=env, cwd=tmp_path)) for _ in range(2)]
    assert done[0]["record"] == done[1]["record"], "the same finding is the same file"
    found = Page(render(read(store)))
    total = EPOCHS * STEPS_PER_EPOCH
    part = f"teps {total - STEPS_PER_EPOCH + 1} to {total} ({STEPS_PER_EPOCH} of {total})."
    assert f"✓ identical S{part}" in found.text
    assert f"identical : s{part}" in found.text
    (_, row) = found.tables["Replays"]
    assert row[:2] == [f"{(EPOCHS - 1) * STEPS_PER_EPOCH + 1}–{EPOCHS * STEPS_PER_EPOCH}", "identical"]
    # One that differs outweighs it.
    (kept,) = read(store).replays
    record(store, dataclasses.replace(kept, identical=False, arrays=("state after step 18: 'root key' differs",)))
    found = Page(render(read(store)))
    assert "✗ DIFFERENT" in found.text
    assert f"DIFFERENT : steps {total - STEPS_PER_EPOCH + 1} to {total}: state after step 18: 'root key'" in found.text
    whole = dataclasses.replace(read(store), replays=[kept, dataclasses.replace(kept, first_step=0, steps_compared=14)])
    assert f"identical : all {total} steps." in Page(render(whole)).text


def test_a_record_that_is_none_is_named_and_a_verdict_that_cannot_be_kept_is_no_failure(
    store: RunFolder, said: Contents, replay_report: ReplayReport
) -> None:
    path = record(store, replay_report)
    assert path == record(store, replay_report)
    assert list(read(store).replays) == [replay_report]
    path.write_bytes(path.read_bytes().replace(b'"identical":true', b'"identical":false'))
    with pytest.raises(CorruptRun, match=path.name):
        read(store)
    other = dataclasses.replace(replay_report, run_hash="0" * 64)
    path.rename(record(store, other).with_suffix(".old"))
    with pytest.raises(CorruptRun, match=f"and run {store.name}"):
        read(store)
    shutil.rmtree(path.parent)
    path.parent.touch()
    kept, why = _recorded(store, replay_report)
    assert kept is None
    assert why is not None
    assert path.parent.name in why


# --- pictures ------------------------------------------------------------------------------------------------------


def _decoded(png: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")).astype(int)


def _panel(**images: list[list[float]]) -> Panel:
    return Panel("a", 0, "psnr", ["best case"], {}, {}, {name: np.array(v, np.float32) for name, v in images.items()})


def test_pictures_show_the_values_on_one_scale() -> None:
    first = _panel(input=[[0, 1, 9]], output=[[2, 4, 3]], target=[[0, 2, 4]], error=[[2, 2, 1]])
    second = _panel(input=[[0, 0, 0]], output=[[1, 2, np.nan]], target=[[0, 0, 1]], error=[[0, 0, np.nan]])
    drawn = draw([first, second], 0)
    assert (drawn.intensity.low, drawn.intensity.high) == (0, 4), "the range of the targets"
    assert drawn.not_finite
    assert _decoded(drawn.images[0]["target"])[0, :, 0].tolist() == [0, 128, 255]
    assert _decoded(drawn.images[0]["input"])[0, :, 0].tolist() == [0, 64, 255], "what lies beyond is the end"
    assert _decoded(drawn.images[1]["output"])[0, :2, 0].tolist() == [64, 128]
    assert _decoded(drawn.images[1]["output"])[0, 2].tolist() == [255, 0, 255]
    assert drawn.error is not None
    assert _decoded(drawn.images[1]["error"])[0, 0].tolist() == _decoded(drawn.error.bar)[0, 0].tolist()
    assert _decoded(drawn.images[0]["error"])[0, 0].tolist() == _decoded(drawn.error.bar)[0, -1].tolist()


def test_classes_have_the_colours_of_the_legend() -> None:
    shown = _panel(input=[[0, 1, 2]], output=[[0, 1, 2]], target=[[0, 2, 2]], error=[[0, 1, 0]])
    drawn = draw([shown], 3)
    assert len(set(drawn.classes)) == 3
    colours = ["#{:02x}{:02x}{:02x}".format(*pixel) for pixel in _decoded(drawn.images[0]["target"])[0]]
    assert colours == [drawn.classes[0], drawn.classes[2], drawn.classes[2]]
    assert _decoded(drawn.images[0]["error"])[0, 1].tolist() == [213, 94, 0]
    assert drawn.error is None


# --- in a browser --------------------------------------------------------------------------------------------------

MEASURE = """<script>addEventListener("load", () => parent.postMessage([innerWidth,
document.documentElement.scrollWidth, [...document.images].every(image => image.naturalWidth)].join(), "*"))</script>"""
AROUND = """<!DOCTYPE html><script>addEventListener("message",
event => document.documentElement.dataset.said = event.data)</script>
<iframe src="inside.html" style="width:{width}px;height:800px;border:0"></iframe>"""


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_a_page_is_as_wide_as_its_window(data: bytes, tmp_path: Path, width: int) -> None:
    """A window cannot be so narrow, a frame can. The script that measures is the test's; the page allows none."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", data.decode())
    (tmp_path / "inside.html").write_text(text.replace("</body>", f"{MEASURE}</body>"))
    (tmp_path / "around.html").write_text(AROUND.format(width=width))
    options = ("--window-size=1400,900", "--virtual-time-budget=5000", "--dump-dom")
    done = browse(tmp_path / "around.html", *options, profile=tmp_path / "profile")
    assert re.findall(r'data-said="([^"]*)"', done.stdout) == [f"{width},{width},true"]


@pytest.mark.parametrize(("scheme", "dark"), [("1", False), ("0", True)])
def test_a_browser_shows_it_light_and_dark_and_has_nothing_to_say(
    data: bytes, tmp_path: Path, scheme: str, dark: bool
) -> None:
    (tmp_path / "page.html").write_bytes(data)
    options = (f"--blink-settings=preferredColorScheme={scheme}", "--window-size=1280,3000")
    shot = f"--screenshot={tmp_path / 'page.png'}"
    assert complaints(browse(tmp_path / "page.html", *options, shot, profile=tmp_path / "profile")) == []
    pixels = np.asarray(Image.open(tmp_path / "page.png").convert("L"))
    assert pixels.shape == (3000, 1280)
    assert (pixels[5, 5] < 40) == dark
    assert (pixels[5, 5] > 240) != dark
    assert np.ptp(pixels) > 200, "there is something on it"


def test_a_browser_would_say_so(data: bytes, tmp_path: Path) -> None:
    worse = data.replace(b"</body>", b'<img src="https://example.invalid/x.png"><p style="color:red">x</p></body>')
    (tmp_path / "page.html").write_bytes(worse)
    said = complaints(browse(tmp_path / "page.html", "--dump-dom", profile=tmp_path / "profile"))
    assert len(said) >= 2
    assert all("Content Security Policy" in line for line in said)
