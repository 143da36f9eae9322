"""The page: a run's contents put into the template. Contents in, bytes out."""

import base64
import hashlib
import json
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from crh_train import __version__
from crh_train.digest import digest_json
from crh_train.page import words
from crh_train.page.contents import Contents
from crh_train.page.result_part import cases, result
from crh_train.page.training_part import training
from crh_train.promises import sentence
from crh_train.reports.numbers import label

_MOST_FILES = 20


def render(contents: Contents) -> bytes:
    """One HTML document in UTF-8 that refers to nothing outside it. The same contents give the same bytes with the same
    versions of crh-train, Jinja, NumPy, matplotlib and Pillow."""
    templates = Environment(
        loader=PackageLoader("crh_train.page", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (files("crh_train.page") / "page.css").read_text("utf-8")
    page = templates.get_template("page.html").render(
        style=Markup(style),  # ours; its hash lets no other style in
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        run=contents.run,
        words=words,
        versions={name: version(name) for name in ("jinja2", "matplotlib", "numpy", "pillow")},
        crh_train=__version__,
        **_summary(contents),
        **_trained(contents),
        **result(contents),
        **cases(contents),
        **training(contents),
        **_proof(contents),
    )
    return page.encode()


def _visible(value: Any) -> Any:
    """Names may hold any character, and one that is not printed must not change how the others are read."""
    if isinstance(value, Markup):
        return value
    text = str(value)
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _summary(contents: Contents) -> dict[str, Any]:
    samples = contents.manifest["samples"]
    name = words.headline(contents)
    held = contents.held
    return {
        "aim": words.aim(contents),
        "synthetic": words.synthetic(contents),
        "parameters": words.parameters(contents.program),
        "trained_on": sum(sample["split"] == "train" for sample in samples),
        "splits": {
            split: sum(sample["split"] == split for sample in samples)
            for split in sorted({sample["split"] for sample in samples})
        },
        "headline": None if name is None or held is None else _headline(contents, name),
        "verified": words.verified(contents),
        "replayed": words.replayed(contents),
        "findings": contents.verification.findings,
        "replays": words.replay_rows(contents),
    }


def _headline(contents: Contents, name: str) -> dict[str, Any]:
    assert contents.held is not None
    metrics = contents.held.metrics
    metric = metrics[name]
    baseline = metrics[words.BASELINE + name].value if words.BASELINE + name in metrics else None
    return {
        "name": label(name),
        "definition": metric.convention,
        "value": words.value(name, metric.value),
        "baseline": None if baseline is None else words.value(name, baseline),
        "change": words.change(name, metrics),
        "cases": contents.held.cases,
        "interval": None if metric.interval is None else words.ends(name, metric.interval),
    }


def _trained(contents: Contents) -> dict[str, Any]:
    manifest, config = contents.manifest, contents.run["config"]
    rows = []
    for part in [*contents.run["config"]]:
        section = config[part] if isinstance(config[part], dict) else {"": config[part]}
        settings = {key: words.setting(value) for key, value in section.items()}
        rows.append((part, settings.pop("name") if "name" in settings else "", settings))
    patients = {str(volume["patient"]) for volume in manifest["volumes"] if "patient" in volume}
    return {
        "parts": rows,
        "source": manifest["source"],
        "volumes": len(manifest["volumes"]),
        "patients": len(patients),
        "preprocessing": {  # beyond what the configuration says
            key: words.setting(value)
            for key, value in manifest["preprocessing"].items()
            # The version of the code that prepared is no setting, and stands in manifest.json.
            if key != "version" and not (key in config["data"] and config["data"][key] == value)
        },
        "files": manifest["files"][:_MOST_FILES],
        "more_files": max(0, len(manifest["files"]) - _MOST_FILES),
        "input_name": words.input_name(contents),
    }


def _proof(contents: Contents) -> dict[str, Any]:
    run = contents.run
    level = run["config"]["determinism"]["name"]
    last = contents.checkpoints[-1] if contents.checkpoints else None
    return {
        "identity": [
            (
                "run hash",
                run["run_hash"],
                "of configuration, data, seed and semantics version together: what names the run",
            ),
            ("configuration", run["config_hash"], "of config.json, the resolved configuration"),
            ("data", run["dataset_state"], "of manifest.json: every sample, the SHA-256 of its source, the split"),
            ("program", run["program"], "of program.json, which names the archived functions that the steps ran"),
            (
                "chronicle head",
                run["chronicle_head"] or words.NONE,
                f"of the chain over {words.counted(run['steps'], 'line')}, timestamps left out"
                if run["chronicle_head"] is not None
                else "of a chain that is damaged",
            ),
            (
                "last checkpoint",
                words.NONE if last is None else last.hash,
                "of model, optimizer and random state after the last step saved",
            ),
            ("environment", digest_json(list(contents.sessions)), "of the sessions below"),
        ],
        "checkpoints": len(contents.checkpoints),
        "level": level,
        "promise": sentence(level),
        "sessions": [
            {
                "first": session["first_step"] + 1,
                "version": session["version"],
                "machine": words.machine(session["fingerprint"]),
                "fingerprint": json.dumps(session["fingerprint"], indent=2, sort_keys=True, ensure_ascii=False),
                "digest": digest_json(session["fingerprint"]),
            }
            for session in contents.sessions
        ],
        "train_command": words.train_command(contents),
        "packaged": contents.packaged,
    }
