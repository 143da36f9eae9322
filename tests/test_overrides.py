"""Words of a command line: what is too much of them, and the runs that a sweep makes."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import given
from hypothesis import strategies as st

from crh_train.errors import ConfigError
from crh_train.overrides import MAX_CHARACTERS, MAX_DEPTH, MAX_RUNS, as_text, expand_sweep, first_line, parse_overrides

WRITTEN = st.text(st.one_of(st.sampled_from(" ()[]{}'\"\\\\,$=~#:;ü2ax."), st.characters()), max_size=12)


@pytest.mark.parametrize(
    ("overrides", "runs"),
    [
        ([], [[]]),
        (["engine.epochs=3"], [["engine.epochs=3"]]),
        (
            ["conf=mri_step", "engine.seed=0,1", "engine.epochs=3", "model=cnn,mlp"],
            [
                ["conf=mri_step", f"engine.seed={seed}", "engine.epochs=3", f"model={model}"]
                for seed in (0, 1)
                for model in ("cnn", "mlp")
            ],
        ),
        (["engine.seed=range(2,5)"], [[f"engine.seed={seed}"] for seed in (2, 3, 4)]),
        (["conf=mri_step,mri_cosine"], [["conf=mri_step"], ["conf=mri_cosine"]]),
        (["data.shape=[48,48],[96,96]"], [["data.shape=[48,48]"], ["data.shape=[96,96]"]]),
        (["runtime.data_root='a,b'"], [["runtime.data_root='a,b'"]]),
    ],
    ids=["nothing", "no sweep", "product", "range", "configurations", "lists", "a quoted comma"],
)
def test_a_sweep_is_the_product_in_the_order_given(overrides: list[str], runs: list[list[str]]) -> None:
    assert expand_sweep(overrides) == runs


@pytest.mark.parametrize("override", ["model=glob(*)", "engine.learning_rate=interval(0,1)", "engine.seed=[0,1"])
def test_a_sweep_that_cannot_be_listed_is_refused(override: str) -> None:
    with pytest.raises(ConfigError) as raised:
        expand_sweep(["engine.epochs=3", override])
    assert repr(override) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("engine.seed=choice(1,2)", ["1", "2"]),
        ("engine.seed=sort(3,1,2)", ["1", "2", "3"]),
        ("engine.seed=sort(range(3),reverse=true)", ["2", "1", "0"]),
        ("engine.seed=tag(a,choice(1,2))", ["1", "2"]),
        ("engine.learning_rate=range(0,1,0.5)", ["0.0", "0.5"]),
        ("engine.learning_rate=float(range(2))", ["0.0", "1.0"]),
    ],
)
def test_hydras_functions_give_their_values_in_order(override: str, values: list[str]) -> None:
    key = override.partition("=")[0]
    assert expand_sweep([override]) == [[f"{key}={value}"] for value in values]


def test_the_most_runs_are_allowed_and_one_more_is_not() -> None:
    assert len(expand_sweep([f"engine.seed=range({MAX_RUNS})"])) == MAX_RUNS
    assert refusal([f"engine.seed=range({MAX_RUNS + 1})"]).startswith("expected at most 10000 runs in a sweep, ")
    assert len(expand_sweep([f"engine.seed=range({MAX_RUNS // 2})", "model=cnn,mlp"])) == MAX_RUNS
    assert refusal([f"engine.seed=range({MAX_RUNS // 2})", "model=cnn,mlp,gru"]).endswith(
        "found more at 'model=cnn,mlp,gru'; give it in parts"
    )


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["a=" + "x" * (MAX_CHARACTERS - 1)], "expected at most 8192 characters of KEY=VALUE, found 8193; "),
        (["a=1"] * 3000, "expected at most 8192 characters of KEY=VALUE, found 9000; "),
        (["a=" + "[" * 1_000_000], "expected at most 8192 characters of KEY=VALUE, "),
        (["a=" + "[" * (MAX_DEPTH + 1)], "'a=[[["),
        (["a=" + "int(" * 17 + "1" + ")" * 17], "'a=int("),
        (["a=" + "{b:" * 17 + "1" + "}" * 17], "'a={b:"),
        (["a=" + "9" * 5000], "cannot read 'a=999"),
        (["a=${oc.env:HOME}"], "the command line: 'a=${oc.env:HOME}' is refused: resolvers reach outside"),
        (["a=[1,'${oc.env:HOME}']"], "the command line: "),
        (["${a:b}=1"], "the command line: "),
        (["a=${b}" + "x" * 256], "the command line: expected at most 256 characters in a text with an interpolation"),
        (["a=shuffle(1,2)"], "cannot read 'a=shuffle(1,2)' as KEY=VALUE: HydraException while evaluating "),
        (["a=shuffle([1,2])"], "cannot read 'a=shuffle([1,2])' as KEY=VALUE: "),
        (["a=shuffle(range(0,1000000000000))"], "cannot read 'a=shuffle(range("),
        (["a=\x1b[2J"], r"cannot read 'a=\x1b[2J' as KEY=VALUE: "),
        (["a=range(0,1000000000000)"], "expected at most 10000 runs in a sweep, "),
        (["a=range(0," + "9" * 30 + ")"], "expected at most 10000 runs in a sweep, "),
        (["a=float(range(0,1000000000000))"], "expected at most 10000 runs in a sweep, "),
        (["a=range(1.0,2.0,1e-300)"], "expected at most 10000 runs in a sweep, "),
        (["a=range(0,1e999)"], "expected at most 10000 runs in a sweep, "),
        (["a=0,1"] * 30, "expected at most 10000 runs in a sweep, "),
        (["a=range(0,nan)"], "'a=range(0,nan)' cannot be enumerated; "),
        (["a=range(0,9,0)"], "'a=range(0,9,0)' cannot be enumerated; "),
        (["a=range(9,0)"], "'a=range(9,0)' gives no value; "),
    ],
    ids=range(24),
)
def test_too_much_is_refused_at_once_and_in_few_words(overrides: list[str], says: str) -> None:
    assert refusal(overrides).startswith(says)


def test_the_limits_themselves_are_allowed() -> None:
    (override,) = parse_overrides(["a=" + "[" * MAX_DEPTH + "]" * MAX_DEPTH])
    assert override.value() == eval("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert len(parse_overrides(["a=" + "x" * (MAX_CHARACTERS - 2)])) == 1


# --- what Hydra's grammar cannot read ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "t/Studie_Müller",
        "t/Mu\u0308ller",
        "研究/第二",
        "t/kopie (2)",
        "Studie (2)",
        "(2)",
        "t/x)",
        "a#b",
        "#",
        "=",
        "a=b",
        "~/x",
        "a;b&c|d<e>f!g^h`i",
        "  ü ",
        "shuffle (3)",
        "int (abc)",
    ],
)
def test_what_hydra_cannot_read_is_text_as_it_stands(value: str) -> None:
    for key in ("runtime.data_root", "model", "a-b.c_1"):
        (override,) = parse_overrides([f"{key}={value}"])
        assert (override.key_or_group, override.value(), override.is_sweep_override()) == (key, value, False)
        assert OverridesParser.create().parse_override(str(override.input_line)).value() == value
        assert expand_sweep([f"{key}={value}", "b=1,2"]) == [[f"{key}={value}", f"b={each}"] for each in (1, 2)]


@pytest.mark.parametrize(
    "word",
    [
        "a=[ü",
        "a={ü",
        "a=ü]",
        "a=ü}",
        "a='ü",
        'a=ü"',
        "a=ü'b'",
        "a=ü\\",
        "a=$ü",
        "a=ü,b",
        "a=rnage(3)",
        "a=shuffle(3)",
        "a=choice(ü)",
        "a=ü\x1b",
        "a=ü\n",
        "a=\udcff",
        "a=\u202eü",
    ],
)
def test_what_may_mean_structure_or_does_not_print_stays_refused_and_is_told_how_to_be_text(word: str) -> None:
    message = refusal([word])
    assert message.startswith("cannot read ")
    advice = as_text(word)
    assert f"; for one text write {advice}" in message
    if word.isprintable():
        (written,) = shlex.split(advice)
        (override,) = parse_overrides([written])
        assert override.value() == word.removeprefix("a=")
    else:
        assert advice == "'KEY=\"VALUE\"'"


@pytest.mark.parametrize(
    "word", ["+a=ü", "++a=ü", "~a=ü", "a@b=ü", "ä=1", "a/b=ü", "$a=ü", "=ü", ".a=ü", "a..b=ü", "ü"]
)
def test_only_the_value_of_a_plain_key_is_taken_as_text(word: str) -> None:
    assert refusal([word]).startswith("cannot read ")


def test_a_word_too_long_to_be_shown_is_advised_in_general() -> None:
    assert as_text("a=" + "ü" * 150) == f"'a=\"{'ü' * 150}\"'"
    assert as_text("a=" + "ü" * 160) == "'KEY=\"VALUE\"'"


@given(WRITTEN)
def test_a_value_is_what_hydra_reads_or_the_text_itself_or_refused(value: str) -> None:
    hydra = OverridesParser.create()
    try:
        expected = hydra.parse_override(f"a.b={value}")
    except (HydraException, ValueError):
        expected = None
    try:
        (found,) = parse_overrides([f"a.b={value}"])
    except ConfigError:
        return
    if expected is None:
        assert (found.value(), found.is_sweep_override()) == (value, False)
        assert not set(value) & set("'\"[]{}$\\\\,")
        assert value.isprintable()
    else:
        assert found == expected


# --- errors ------------------------------------------------------------------------------------------------------


def test_an_error_is_told_by_its_first_line_without_what_a_terminal_obeys() -> None:
    assert first_line(ValueError("one:\n two\nthree")) == "one: two"
    assert first_line(ValueError("\x1b[2J\x07é")) == r"\x1b[2J\x07é"
    assert first_line(ValueError()) == "ValueError"
    assert len(first_line(ValueError("x" * 1_000_000))) == 200
    wrapping = KeyError()
    wrapping.__cause__ = ValueError("why\n")
    assert first_line(wrapping) == "why"


def refusal(overrides: list[str]) -> str:
    with pytest.raises(ConfigError) as raised:
        expand_sweep(overrides)
    message = str(raised.value)
    assert message.isprintable()
    assert len(message) < 400
    return message
