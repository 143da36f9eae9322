"""The schema, its ranges, and what of a configuration is its identity."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest
from training_samples import configured, written

from crh_train.compose import choices, packaged_conf, parse
from crh_train.config import PARTS, SECTIONS, RunConfig, check_ranges, nearest, semantic
from crh_train.digest import digest_json
from crh_train.errors import ConfigError

CHOICES = [(group, name) for group in PARTS for name in choices([packaged_conf()], group)]
FIELDS = [
    (group, name, field.name)
    for group in PARTS
    for name, schema in PARTS[group].items()
    for field in dataclasses.fields(schema)
]


def config_hash(config: RunConfig) -> str:
    return digest_json(semantic(config))


def changed(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [changed(value[0]), *value[1:]]
    return value + "x" if isinstance(value, str) else value + 1


def replaced(config: RunConfig, section: str, field: str) -> RunConfig:
    part = getattr(config, section)
    value = "elsewhere" if getattr(part, field) is None else changed(getattr(part, field))
    return dataclasses.replace(config, **{section: dataclasses.replace(part, **{field: value})})


# --- identity ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "name", "field"), FIELDS, ids=map(".".join, FIELDS))
def test_every_field_of_every_part_is_inside_the_config_hash(group: str, name: str, field: str) -> None:
    config = configured(**{group: name})
    assert config_hash(replaced(config, group, field)) != config_hash(config)


@pytest.mark.parametrize("field", ["epochs", "batch_size", "micro_batches", "learning_rate"])
def test_what_training_does_is_inside_the_config_hash(field: str) -> None:
    assert config_hash(replaced(configured(), "engine", field)) != config_hash(configured())


OUTSIDE = [("engine", "seed"), *(("runtime", field.name) for field in dataclasses.fields(SECTIONS["runtime"]))]


@pytest.mark.parametrize(("section", "field"), OUTSIDE, ids=map(".".join, OUTSIDE))
def test_the_seed_and_where_and_how_it_runs_are_outside_the_config_hash(section: str, field: str) -> None:
    config = replaced(configured(), section, field)
    assert config != configured()
    assert config_hash(config) == config_hash(configured())


def test_every_field_of_the_engine_is_spoken_for() -> None:
    fields = {field.name for field in dataclasses.fields(SECTIONS["engine"])}
    assert fields == {"seed", "epochs", "batch_size", "micro_batches", "learning_rate"}


@pytest.mark.parametrize("text", ["1e-3", "0.001", "0.0010", "1.0e-03"])
def test_a_value_has_one_hash_however_it_is_written(text: str) -> None:
    document = {**dataclasses.asdict(configured()), "engine": {**written("", "base")["engine"], "learning_rate": text}}
    assert config_hash(parse(document)) == config_hash(configured())


def test_the_semantic_part_reads_back_as_the_configuration() -> None:
    """So that a run can be done again from the document that its hash is of."""
    config = configured()
    document = semantic(config)
    engine = {**document["engine"], "seed": config.engine.seed}
    outside = {name: dataclasses.asdict(getattr(config, name)) for name in ("diagnostics", "runtime")}
    assert parse({**document, "engine": engine, **outside}) == config


def test_diagnostics_are_part_of_a_run_that_acts_on_them_and_of_no_other() -> None:
    config = configured()
    patient = dataclasses.replace(config.diagnostics, patience=config.diagnostics.patience + 1)
    assert "diagnostics" not in semantic(config)
    assert config_hash(dataclasses.replace(config, diagnostics=patient)) == config_hash(config)
    acts = [
        dataclasses.replace(config, diagnostics=dataclasses.replace(each, act=True))
        for each in (config.diagnostics, patient)
    ]
    assert len({config_hash(each) for each in [config, *acts]}) == 3


# --- schema and conf/ ----------------------------------------------------------------------------------------------


def test_conf_has_a_file_for_every_part_and_no_other() -> None:
    for group, parts in PARTS.items():
        assert {written(group, name)["name"] for where, name in CHOICES if where == group} == set(parts)


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=map("/".join, CHOICES))
def test_a_file_of_conf_writes_out_every_field_in_the_order_of_the_schema(group: str, name: str) -> None:
    values = written(group, name)
    assert list(values) == [field.name for field in dataclasses.fields(PARTS[group][values["name"]])]


def test_no_field_has_a_default() -> None:
    """Every default stands in `conf/`."""
    for schema in [*SECTIONS.values(), *(schema for parts in PARTS.values() for schema in parts.values())]:
        for field in dataclasses.fields(schema):
            assert field.default is dataclasses.MISSING
            assert field.default_factory is dataclasses.MISSING


# --- ranges --------------------------------------------------------------------------------------------------------


def bounds() -> Iterator[tuple[str, str, str, Any]]:
    """Each bound of each field with the nearest value outside it."""
    schemas = {**{(group, name): schema for group in PARTS for name, schema in PARTS[group].items()}}
    schemas |= {(section, ""): schema for section, schema in SECTIONS.items()}
    for (group, name), schema in schemas.items():
        for field in dataclasses.fields(schema):
            step = 1 if get_type_hints(schema)[field.name] in (int, list[int]) else 1e-9
            if "minimum" in field.metadata:
                yield group, name, field.name, field.metadata["minimum"] - step
            if "maximum" in field.metadata:
                yield group, name, field.name, field.metadata["maximum"] + step
            if "choices" in field.metadata:
                yield group, name, field.name, field.metadata["choices"][0] + "x"


@pytest.mark.parametrize(("group", "name", "field", "outside"), list(bounds()))
def test_the_first_value_outside_a_range_is_refused_by_its_key(group: str, name: str, field: str, outside: Any) -> None:
    config = configured(**{group: name}) if name else configured()
    part = getattr(config, group)
    value = [*getattr(part, field), outside] if isinstance(getattr(part, field), list) else outside
    with pytest.raises(ConfigError, match=rf"^{group}\.{field}(=| must be)") as raised:
        check_ranges(dataclasses.replace(part, **{field: value}), group)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3.5e38, -3.5e38])
def test_a_number_that_is_no_finite_float32_is_refused(value: float) -> None:
    part = dataclasses.replace(configured().tokenizer, mean=value)
    with pytest.raises(ConfigError, match=r"tokenizer.mean must be a finite float32 number, got"):
        check_ranges(part, "tokenizer")


def test_the_largest_float32_is_in_range() -> None:
    check_ranges(dataclasses.replace(configured().tokenizer, mean=float.fromhex("0x1.fffffep127")), "tokenizer")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("window", [240.0, -160.0], "must be two ascending numbers such as [-160, 240], got [240.0, -160.0]"),
        ("window", [1.0, 1.0 + 1e-9], "must be two ascending numbers"),  # the same float32
        ("window", [-3e38, 3e38], "must be two ascending numbers"),  # their difference is infinite
        ("window", [1.0], "must be 2 numbers, got [1.0]"),
        ("spacing", [1.0, 1.0], "must be 3 numbers, got [1.0, 1.0]"),
        ("spacing", [1.0, 1.0, 0.0], "must be at least 0.001, got 0.0"),
    ],
)
def test_a_window_and_a_spacing_are_pairs_and_triples_that_make_sense(
    field: str, value: list[float], says: str
) -> None:
    part = dataclasses.replace(configured(data="dicom").data, **{field: value})
    with pytest.raises(ConfigError, match=re.escape(f"data.{field} {says}")):
        check_ranges(part, "data")
    check_ranges(dataclasses.replace(part, **{field: [-1.5, 1.5] if field == "window" else [0.5, 1.0, 2.0]}), "data")


def test_an_integer_that_canonical_json_cannot_hold_is_refused() -> None:
    part = dataclasses.replace(configured().engine, epochs=2**53)
    with pytest.raises(ConfigError, match=r"engine.epochs must be at most 9007199254740991 in magnitude"):
        check_ranges(part, "engine")
    check_ranges(dataclasses.replace(part, epochs=2**53 - 1), "engine")


def test_the_nearest_name_is_offered_and_otherwise_all_of_them() -> None:
    assert nearest("unett", ["mlp", "unet", "cnn"]) == "did you mean 'unet'?"
    assert nearest("transformer", ["mlp", "unet", "cnn"]) == "known: cnn, mlp, unet"
