"""Configurations, words and sweeps made to cost time or memory, or to reach outside: each ends in one line at once.

All of them run in one process that may use 1 GiB and a minute of processor time, and some through the command line.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from command_line import crh, environment
from test_compose import DEFAULTS, TINY, own
from training_samples import outputs, start_python

ALIASES = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)
TEXTS = (
    "runtime:\n" + "".join(f"  i{i}: ${{runtime.i{i + 1}}}${{runtime.i{i + 1}}}\n" for i in range(26)) + "  i26: x\n"
)
SECTIONS = "".join(f"s{i}: {{a: '${{s{i + 1}}}', b: '${{s{i + 1}}}'}}\n" for i in range(17)) + "s17: {a: 1}\n"
MOST_SECTIONS = (
    "".join(f"s{i}: {{a: '${{s{i + 1}}}', b: '${{s{i + 1}}}', c: '${{s{i + 1}}}'}}\n" for i in range(5))
    + f"s5: {{{', '.join(f'k{i}: 1' for i in range(300))}}}\n"
)
TREE = {
    f"t{level}_{i}": "# @package _global_\n" + f"defaults: [{', '.join(f't{level + 1}_{j}' for j in range(8))}]\n"
    for level in range(8)
    for i in range(8)
} | {f"t8_{i}": "{}\n" for i in range(8)}

CONFIGURATIONS: Mapping[str, tuple[dict[str, str], str]] = {
    "aliases": ({"mine": DEFAULTS + ALIASES}, "anchors and aliases are refused"),
    "aliases in a choice": ({"mine": DEFAULTS, "model__unet": TINY + ALIASES}, "anchors and aliases are refused"),
    "texts that double": ({"mine": DEFAULTS + TEXTS}, "expected at most 16 interpolations in all, found more"),
    "sections that double": ({"mine": DEFAULTS + SECTIONS}, "expected at most 16 interpolations in all, found more"),
    "as many as may be": ({"mine": DEFAULTS + MOST_SECTIONS}, "unknown key 's0': "),
    "a text in itself": ({"mine": DEFAULTS + "engine: {epochs: '${engine.epochs}'}\n"}, "Recursive interpolation"),
    "two in each other": (
        {"mine": DEFAULTS + "runtime: {cache: '${runtime.data_root}', data_root: '${runtime.cache}'}\n"},
        "Recursive interpolation",
    ),
    "a section in itself": ({"mine": DEFAULTS + "model: '${model}'\n"}, "Recursive interpolation"),
    "a section within itself": ({"mine": DEFAULTS + "a: {b: '${a}', c: '${a}'}\n"}, "Interpolation to parent node"),
    "an unfinished one": ({"mine": DEFAULTS + "runtime: {cache: '${a'}\n"}, "conf=mine: "),
    "many unfinished": ({"mine": DEFAULTS + f"runtime: {{cache: '{'${' * 120}'}}\n"}, "expected at most 16 interpolat"),
    "deep": ({"mine": DEFAULTS + "a: " + "[" * 60_000}, "expected at most 16 levels"),
    "many items": ({"mine": DEFAULTS + f"a: [{'1,' * 30_000}]\n"}, "expected at most 4096 keys and values"),
    "10 MB": ({"mine": DEFAULTS + f"a: [{'1,' * 5_000_000}]\n"}, "expected at most 65536 bytes, found "),
    "defaults in a tree": (
        {"mine": DEFAULTS.replace("- base", "- base\n  - t0_0"), **TREE},
        "expected at most 64 files",
    ),
    "5,000 digits": ({"mine": DEFAULTS + f"engine: {{epochs: {'9' * 5000}}}\n"}, "expected at most 1024 characters"),
    "1,000 digits": (
        {"mine": DEFAULTS + f"engine: {{epochs: {'9' * 1000}}}\n"},
        "engine.epochs must be a number of 64",
    ),
    "hexadecimal": (
        {"mine": DEFAULTS + f"engine: {{epochs: 0x{'f' * 1000}}}\n"},
        "engine.epochs must be a number of 64",
    ),
    "no float": ({"mine": DEFAULTS + f"engine: {{learning_rate: {'9' * 400}}}\n"}, "must be a number of 64 bits"),
    "infinity": ({"mine": DEFAULTS + "engine: {learning_rate: 1e999}\n"}, "must be a finite float32 number, got inf"),
    "NUL": ({"mine": DEFAULTS + 'runtime: {cache: "a\\0b"}\n'}, "must be plain text"),
    "half a character": ({"mine": DEFAULTS + 'runtime: {cache: "\\ud800"}\n'}, "must be plain text"),
    "a terminal's command": ({"mine": DEFAULTS + '"\\e[2J\\n": 1\n'}, r"unknown key '\x1b[2J\n'"),
    "no key": ({"mine": DEFAULTS + "engine: {~: 3}\n"}, "conf=mine: Incompatible key type 'NoneType'"),
}
WORDS: Mapping[str, tuple[list[str], str]] = {
    "deep": (["data.shape=" + "[" * 1_000_000], "expected at most 8192 characters of KEY=VALUE"),
    "deep mapping": (["data.shape=" + "{a:" * 300 + "1" + "}" * 300], "nests more than 16 brackets"),
    "1 MB": (["runtime.cache=" + "x" * 1_000_000], "expected at most 8192 characters of KEY=VALUE"),
    "1 MB key": (["x" * 1_000_000], "expected at most 8192 characters of KEY=VALUE"),
    "many": (["engine.epochs=3"] * 20_000, "expected at most 8192 characters of KEY=VALUE"),
    "a long list": ([f"runtime.cache=[{','.join('1' * 1200)}]"], "runtime.cache=[1, 1, 1, "),
    "a long key": (["a." * 4000 + "b=1"], "unknown key 'a.a.a."),
    "5,000 digits": (["engine.epochs=" + "9" * 5000], "cannot read 'engine.epochs=999"),
    "4,000 digits": (["engine.epochs=" + "9" * 4000], "engine.epochs must be a number of 64 bits"),
    "no float": (["engine.learning_rate=" + "9" * 400], "engine.learning_rate must be a number of 64 bits"),
    "half a character": (["runtime.cache='\udcff'"], "must be plain text"),
    "half a character, bare": (["runtime.cache=\udcff"], "cannot read 'runtime.cache=\\udcff' as KEY=VALUE"),
    "an interpolation among letters": (["runtime.cache=ü${runtime.data_root}"], "cannot read 'runtime.cache=ü${"),
    "a resolver among letters": (["runtime.cache=ü${oc.env:HOME}"], "resolvers reach outside the configuration"),
    "8,000 letters": (["runtime.cache=" + "ü" * 8000 + ","], "cannot read 'runtime.cache=ü"),
    "brackets among letters": (["runtime.cache=ü" + "(" * 17], "nests more than 16 brackets"),
    "no home": (["runtime.cache=~/x"], "runtime.cache='~/x' begins with '~'"),
    "a package": (["model@hydra=unet"], "names a package"),
    "a search path": (["hydra.searchpath=[/etc]"], "unknown key 'hydra.searchpath'"),
    "a section": (["engine=${runtime}"], "'engine' is a section, not a value"),
    "a shuffled list": (["data.shape=shuffle([48,56])"], "Unknown function 'shuffle'"),
    "each in the other": (
        ["runtime.cache=${runtime.data_root}", "runtime.data_root=${runtime.cache}"],
        "conf=mri_step: Recursive interpolation",
    ),
    "17 interpolations": (
        ["runtime.cache=" + "${engine.epochs}" * 9, "runtime.data_root=" + "${engine.epochs}" * 8],
        "expected at most 16 interpolations, found 17",
    ),
}
CHILD = """
import json, resource, sys
from pathlib import Path
from crh_train.compose import compose, search_path
from crh_train.errors import ConfigError

resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for line in open("cases.jsonl"):
    folder, name, words = json.loads(line)
    try:
        compose(name, words, search_path(Path(folder)))
        print("null")
    except ConfigError as error:
        print(json.dumps(str(error)))
"""


def test_each_ends_in_one_line_at_little_cost(tmp_path: Path) -> None:
    cases, expected = [], []
    for number, (files, says) in enumerate(CONFIGURATIONS.values()):
        own(tmp_path / str(number), **files)
        cases.append((str(tmp_path / str(number)), "mine", []))
        expected.append(says)
    for words, says in WORDS.values():
        cases.append((str(tmp_path), "mri_step", words))
        expected.append(says)
    (tmp_path / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    here = f"import os; os.chdir({str(tmp_path)!r})\n"
    (said,) = outputs(start_python(here + CHILD, []))
    messages = [json.loads(line) for line in said.splitlines()]
    assert len(messages) == len(cases)
    for name, message, says in zip([*CONFIGURATIONS, *WORDS], messages, expected, strict=True):
        assert message is not None, name
        assert says in message, name
        assert message.isprintable(), name
        assert len(message) < 400 + len(str(tmp_path)), name


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["conf=aliases"], "anchors and aliases are refused; "),
        (["conf=pipe"], "expected a regular file, found something else; nothing was read"),
        (["conf=mri_step", "runtime.data_root=${oc.env:HOME}"], "resolvers reach outside the configuration"),
        (["-m", "conf=mri_step", "engine.seed=range(0,1000000000000)"], "expected at most 10000 runs in a sweep, "),
        (["conf=mri_step", "data.shape=" + "[" * 100_000, "--json"], "expected at most 8192 characters of KEY=VALUE, "),
    ],
    ids=["aliases", "a pipe", "a resolver", "a sweep", "nesting"],
)
def test_the_command_line_says_one_line_and_writes_nothing(tmp_path: Path, words: list[str], says: str) -> None:
    own(tmp_path, aliases=DEFAULTS + ALIASES)
    os.mkfifo(tmp_path / "conf" / "pipe.yaml")
    env = environment(tmp_path / "home")
    before = sorted(tmp_path.rglob("*"))
    said = crh("run", *words, env=env, cwd=tmp_path)
    assert said.returncode == 2
    if "--json" in words:
        assert json.loads(said.stdout)["error"] == "ConfigError"
        assert said.stderr == ""
    else:
        assert said.stdout == ""
        assert said.stderr.startswith("error: ")
    assert (said.stdout + said.stderr).count("\n") == 1
    assert says in said.stdout + said.stderr
    assert sorted(tmp_path.rglob("*")) == before
