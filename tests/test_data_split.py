"""No sample of one split shares or neighbours a slice of the other."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crh_train.config import Mni152Config, NiftiConfig
from crh_train.data import split
from crh_train.data.volume import Segment
from crh_train.errors import ConfigError

# Of patient0 to patient9, the four with the lowest SHA-256 of "0:id".
GOLDEN = {"patient0", "patient3", "patient4", "patient7"}


def slab_config(validation: list[float], gap: int, extent: list[float]) -> Mni152Config:
    return Mni152Config(
        name="mni152",
        axis="axial",
        downsample=2,
        shape=[96, 112],
        slices=1,
        stride=1,
        extent=extent,
        validation=validation,
        gap=gap,
    )


def files_config(fraction: float, seed: int = 0) -> NiftiConfig:
    return NiftiConfig(
        name="nifti",
        axis="axial",
        downsample=1,
        shape=[8, 8],
        slices=1,
        stride=1,
        extent=[0.25, 0.75],
        validation_fraction=fraction,
        split_seed=seed,
    )


def slices_of(segments: Iterable[Segment], name: str) -> set[int]:
    return {index for segment in segments if segment.split == name for index in range(segment.first, segment.stop)}


@given(
    slices=st.integers(20, 400),
    bounds=st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4).map(sorted),
    gap=st.integers(0, 12),
)
def test_training_slices_stay_further_than_the_gap_from_validation(slices: int, bounds: list[float], gap: int) -> None:
    config = slab_config(bounds[1:3], gap, [bounds[0], bounds[3]])
    try:
        segments = split.slab("v", slices, config)
    except ConfigError:
        return  # no slice in the slab
    train, validation = slices_of(segments, "train"), slices_of(segments, "validation")
    extent = range(round(bounds[0] * slices), round(bounds[3] * slices))
    assert validation == set(range(round(bounds[1] * slices), round(bounds[2] * slices)))
    assert all(abs(one - other) > gap for one, other in itertools.product(train, validation))
    assert train == {index for index in extent if all(abs(index - held_out) > gap for held_out in validation)}


@pytest.mark.parametrize(
    ("validation", "extent", "says"),
    [
        ([0.6, 0.45], [0.1, 0.9], "data.validation must be two ascending fractions"),
        ([0.45], [0.1, 0.9], "data.validation must be two ascending fractions"),
        ([0.45, 0.6], [0.9, 0.9], "data.extent must be two ascending fractions"),
        ([0.05, 0.6], [0.1, 0.9], "must hold at least one slice and lie within"),
        ([0.45, 0.95], [0.1, 0.9], "must hold at least one slice and lie within"),
        ([0.45, 0.4501], [0.1, 0.9], "must hold at least one slice"),
    ],
)
def test_a_slab_that_cannot_be_cut_is_refused(validation: list[float], extent: list[float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        split.slab("v", 94, slab_config(validation, 3, extent))


@given(
    names=st.sets(st.text(min_size=1, max_size=4), min_size=2, max_size=12),
    fraction=st.floats(0.0, 1.0),
    seed=st.integers(0, 9),
)
def test_volumes_are_whole_in_one_split_and_neither_is_empty(names: set[str], fraction: float, seed: int) -> None:
    segments = split.by_volume(dict.fromkeys(sorted(names), 10), files_config(fraction, seed))
    assert [segment.volume for segment in segments] == sorted(names)
    assert {(segment.first, segment.stop) for segment in segments} == {(2, 8)}
    held_out = sum(segment.split == "validation" for segment in segments)
    assert held_out == min(max(1, round(fraction * len(names))), len(names) - 1)


def test_the_split_depends_on_ids_and_seed_alone() -> None:
    def held_out(names: list[str], seed: int) -> set[str]:
        segments = split.by_volume(dict.fromkeys(names, 10), files_config(0.4, seed))
        return {segment.volume for segment in segments if segment.split == "validation"}

    names = [f"patient{number}" for number in range(10)]
    assert held_out(names, 0) == held_out(names[::-1], 0) == GOLDEN
    assert held_out(names, 1) != GOLDEN


@given(
    patients=st.dictionaries(st.text("abc", min_size=1), st.sampled_from("pqrst"), min_size=2, max_size=12),
    fraction=st.floats(0.0, 1.0),
)
def test_a_patient_is_whole_in_one_split_with_all_volumes(patients: dict[str, str], fraction: float) -> None:
    segments = split.by_patient(dict.fromkeys(patients, 10), patients, files_config(fraction))
    held_out = {patients[segment.volume] for segment in segments if segment.split == "validation"}
    trained = {patients[segment.volume] for segment in segments if segment.split == "train"}
    assert not held_out & trained
    count = len(set(patients.values()))
    assert len(held_out) == min(max(1, round(fraction * count)), count - 1)
    assert [segment.volume for segment in segments] == list(patients)


def test_volumes_that_are_patients_of_their_own_are_split_as_by_volume() -> None:
    slices = {f"patient{number}": 10 for number in range(10)}
    alone = {volume: volume for volume in slices}
    assert split.by_patient(slices, alone, files_config(0.4)) == split.by_volume(slices, files_config(0.4))
