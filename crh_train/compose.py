"""From `conf/` and the command line to a typed `RunConfig`. The only importer of Hydra and OmegaConf.

Configurations are looked up in the user's own `./conf` first, then in the packaged one. Hydra composes, OmegaConf
converts to the schema's types; a configuration is data and can run no code, so resolvers and `_target_` are refused.
"""

import contextlib
import dataclasses
import re
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_type_hints

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from crh_train import scratch
from crh_train.config import PARTS, SECTIONS, RunConfig, check_ranges, nearest
from crh_train.configuration_files import MAX_INTERPOLATIONS, opened, stems, without
from crh_train.errors import ConfigError
from crh_train.overrides import as_text, first_line, parse_overrides
from crh_train.overrides import expand_sweep as expand_sweep
from crh_train.plain_yaml import interpolations

_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # neither a file's name nor UTF-8 can hold these


def packaged_conf() -> Path:
    """The `conf/` that came with the package: inside it when installed, beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def search_path(working_folder: Path) -> list[Path]:
    """Folders in which configurations are looked up, the user's own first."""
    own = working_folder / "conf"
    return [own, packaged_conf()] if own.is_dir() and own.resolve() != packaged_conf() else [packaged_conf()]


def choices(folders: Sequence[Path], group: str = "") -> list[str]:
    """Names that can stand for `group`, or after `conf=` where no group is given."""
    return [name for name in stems(folders, group) if name != "base"]


def one_conf(arguments: Sequence[str], folders: Sequence[Path]) -> tuple[str, list[str]]:
    """The NAME of the one `conf=NAME` in `arguments`, and the other words. Raises `ConfigError`."""
    names = [argument.removeprefix("conf=") for argument in arguments if argument.startswith("conf=")]
    if len(names) != 1:
        raise ConfigError(f"give exactly one conf=NAME, one of: {', '.join(choices(folders))}")
    return names[0], [argument for argument in arguments if not argument.startswith("conf=")]


def compose(name: str, overrides: Sequence[str], folders: Sequence[Path]) -> RunConfig:
    """The configuration `conf/<name>.yaml` with `overrides`, typed and checked.

    What its files set for a part goes on to another one that `overrides` pick, if that one can take all of it; if not,
    all of it was meant for the part that was replaced, and falls away with it.

    Raises `ConfigError` naming the key and the nearest valid one for an unknown configuration, choice or key, a wrong
    type, a value out of range, or a sweep.
    """
    known = choices(folders)
    if name not in known:
        raise ConfigError(f"conf={name:.80} is unknown: {nearest(name, known)}")
    parsed = parse_overrides(overrides)
    for text, override in zip(overrides, parsed, strict=True):
        _check_override(text, override, folders)
    picked = {override.key_or_group: str(override.value()) for override in parsed if override.key_or_group in PARTS}
    files, interpolated = opened(name, picked, folders)
    interpolated += sum(interpolations(text, "the command line") for text in overrides)
    if interpolated > MAX_INTERPOLATIONS:
        raise ConfigError(f"conf={name}: expected at most {MAX_INTERPOLATIONS} interpolations, found {interpolated}")
    document = _composed(name, parsed, files)
    if outgrown := _outgrown(name, document, picked, folders):
        document = _composed(name, parsed, without(files, outgrown))
    return parse(document)


def parse(document: Mapping[str, Any]) -> RunConfig:
    """`document` (of all groups and sections) with the schema's types. Raises `ConfigError` naming the key."""
    expected = [*PARTS, *SECTIONS]
    for key in document:
        if key not in expected:
            raise ConfigError(f"unknown key {key!r:.80}: {nearest(key, expected)}")
    parts = {}
    for key in expected:
        if key not in document or not isinstance(document[key], dict):
            missing = "- base" if key in SECTIONS else f"- {key}: CHOICE"
            raise ConfigError(f"the configuration has no '{key}'; add '{missing}' to its defaults list")
        schema = SECTIONS[key] if key in SECTIONS else part_schema(key, document[key])
        parts[key] = _typed(schema, document[key], key)
    return RunConfig(**parts)


def override_runtime(recorded: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The `runtime` section `recorded` with `overrides`, which may name no other section (`ConfigError`)."""
    changed = dict(recorded)
    for text, override in zip(overrides, parse_overrides(overrides), strict=True):
        section, _, key = override.key_or_group.partition(".")
        if section != "runtime":
            raise ConfigError(f"{text!r:.80} would make another run; only runtime.KEY=VALUE can change here")
        _check_override(text, override, [])
        _check_key({"runtime": changed}, override.key_or_group)
        changed[key] = override.value()
    return changed


def part_schema(group: str, document: Mapping[str, Any]) -> type:
    """The dataclass for the part that `document['name']` picks: built in, or a third party's.

    A third party registers, under the entry point group `crh_train.<group>`, an object with `Config` (a dataclass) and
    `make` (the factory that `assemble.py` calls).
    """
    if "name" not in document:
        raise ConfigError(f"{group}.name is missing: it says which {group} this is ({', '.join(PARTS[group])})")
    name = document["name"]
    if not isinstance(name, str):
        raise ConfigError(f"{group}.name={name!r:.80} must be text, one of: {', '.join(PARTS[group])}")
    if name in PARTS[group]:
        return PARTS[group][name]
    plugins = entry_points(group=f"crh_train.{group}")
    if name in plugins.names:
        schema = plugins[name].load().Config
        if not (isinstance(schema, type) and dataclasses.is_dataclass(schema)):
            raise ConfigError(f"the installed {group} '{name}' has no dataclass `Config`")
        return schema
    raise ConfigError(f"{group}.name={name!r:.80} is unknown: {nearest(name, [*PARTS[group], *plugins.names])}")


def _check_override(text: str, override: Override, folders: Sequence[Path]) -> None:
    if override.is_add() or override.is_delete() or override.is_force_add():
        raise ConfigError(f"{text!r:.80} adds or deletes a key; a configuration's keys are fixed, so give KEY=VALUE")
    if override.is_sweep_override():
        value = override.value()
        texts = isinstance(value, ChoiceSweep) and value.simple_form and any(isinstance(v, str) for v in value.list)
        one = f"; for one text write {as_text(text)}" if texts and override.key_or_group not in PARTS else ""
        raise ConfigError(f"{text!r:.80} gives several values; add -m to run each of them{one}")
    if override.package is not None:
        raise ConfigError(
            f"{text!r:.80} names a package; a choice fills the section of its own group, so give KEY=VALUE"
        )
    group = override.key_or_group
    if group in PARTS:
        pick, known = override.value(), choices(folders, group)
        if pick not in known:
            raise ConfigError(f"{group}={pick!s:.80} is unknown: {nearest(str(pick), known)}")


def _check_key(document: Any, path: str) -> None:
    node = document
    parts = path.split(".")
    for depth, key in enumerate(parts):
        if not isinstance(node, dict) or key not in node:
            inside = ".".join(parts[:depth])
            known = [f"{inside}.{k}" if inside else str(k) for k in node] if isinstance(node, dict) else []
            hint = nearest(".".join(parts[: depth + 1]), known) if known else f"'{inside}' has no keys"
            raise ConfigError(f"unknown key {path!r:.80}: {hint:.400}")
        node = node[key]
    if isinstance(node, dict):
        raise ConfigError(f"'{path}' is a section, not a value; its keys: {', '.join(node)}")


def _composed(name: str, overrides: Sequence[Override], files: Mapping[str, str]) -> dict[str, Any]:
    """What Hydra composes, once each of `overrides` is known to change a key that its picks left there."""
    picks = [override for override in overrides if override.key_or_group in PARTS]
    plain = _hydra(name, picks, files)
    for override in overrides:
        if override.key_or_group not in PARTS:
            _check_key(plain, override.key_or_group)
    return plain if len(picks) == len(overrides) else _hydra(name, overrides, files)


def _outgrown(name: str, document: Mapping[str, Any], picked: Mapping[str, str], folders: Sequence[Path]) -> list[str]:
    """The groups of `picked` whose part in `document` is unfit, though it is fit where the files pick their own: by
    what these set for it. What is wrong in the files themselves stays there to be refused."""
    unfit = [group for group in picked if not _fits(group, document)]
    if not unfit:
        return []
    files, _ = opened(name, {}, folders)
    own = _hydra(name, [], files)
    return [group for group in unfit if f"{group}/{picked[group]}" not in files and _fits(group, own)]


def _fits(group: str, document: Mapping[str, Any]) -> bool:
    section = document[group] if group in document else None
    try:
        return isinstance(section, dict) and _typed(part_schema(group, section), section, group) is not None
    except ConfigError:
        return False


def _hydra(name: str, overrides: Sequence[Override], files: Mapping[str, str]) -> dict[str, Any]:
    """What Hydra composes of `files`, in a folder that holds nothing else."""
    try:
        with contextlib.ExitStack() as stack:
            with scratch.named():
                alone = stack.enter_context(tempfile.TemporaryDirectory())
                for path, text in files.items():
                    copy = Path(alone, f"{path}.yaml")
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_bytes(text.encode())
            with initialize_config_dir(version_base="1.3", config_dir=alone):
                composed = hydra_compose(name, [str(override.input_line) for override in overrides])
        _refuse_code(OmegaConf.to_container(composed, resolve=False), "")
        document = OmegaConf.to_container(composed, resolve=True)
    except RecursionError as error:
        raise ConfigError(f"conf={name}: an interpolation leads back to itself; write the value out") from error
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, ArithmeticError) as error:
        raise ConfigError(f"conf={name}: {first_line(error)}") from error
    assert isinstance(document, dict)
    return {str(key): value for key, value in document.items()}


def _refuse_code(node: Any, path: str) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "_target_":
                raise ConfigError(f"{path:.80}_target_ is refused: a configuration is data and cannot run code")
            _refuse_code(value, f"{path}{key}.")
    elif isinstance(node, list):
        for value in node:
            _refuse_code(value, path)
    elif isinstance(node, str):
        interpolations(node, f"{path.rstrip('.'):.80}")


def _typed(schema: type, document: Mapping[str, Any], path: str) -> Any:
    fields = [spec.name for spec in dataclasses.fields(schema)]
    for key in document:
        if key not in fields:
            raise ConfigError(f"unknown key {f'{path}.{key}'!r:.80}: {nearest(str(key), fields)}")
    for key in fields:
        if key not in document:
            raise ConfigError(f"{path}.{key} is missing; every choice is written out in conf/{path}/*.yaml")
    types, typed = get_type_hints(schema), OmegaConf.structured(schema)
    OmegaConf.set_readonly(typed, False)
    for key in fields:
        if types[key] in (str, str | None) and not isinstance(document[key], str | None):
            # A folder named 2024_01 would silently become 202401.
            raise ConfigError(f"{path}.{key}={document[key]!r:.80} must be text; quote it: {path}.{key}=\"'TEXT'\"")
        _check_value(document[key], f"{path}.{key}")
        try:
            typed[key] = document[key]
        except OmegaConfBaseException as error:
            raise ConfigError(f"{path}.{key}={document[key]!r:.80}: {first_line(error)}") from error
        if OmegaConf.is_missing(typed, key):
            raise ConfigError(f"{path}.{key} has no value; add {path}.{key}=VALUE")
    values = OmegaConf.to_container(typed)
    assert isinstance(values, dict)
    part = schema(**{str(key): value for key, value in values.items()})
    check_ranges(part, path)
    return part


def _check_value(value: Any, where: str) -> None:
    """Raise `ConfigError` for what no field of a schema could hold, whatever its type."""
    if isinstance(value, list):
        for element in value:
            _check_value(element, where)
    elif isinstance(value, int) and abs(value) >= 2**64:
        raise ConfigError(f"{where} must be a number of 64 bits, got one of {value.bit_length()}")
    elif isinstance(value, str) and ("${" in value or _NO_TEXT.search(value)):
        raise ConfigError(f"{where}={value!r:.80} must be plain text, without '${{' and NUL, in UTF-8")
