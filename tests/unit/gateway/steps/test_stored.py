"""Pipelines of a file: what is wrong is found as it is read, with the place."""

from pathlib import Path

import pytest

from gateway.steps.stored import FILE, load
from services.runtime.errors import InvalidInput

GOOD = """
[one]
inputs = { word = { type = "text", default = { text = "a" } } }
[[one.steps]]
name = "say"
request = { transduce = {} }
bindings = [{ target_path = "transduce.texts[0]", source_path = "inputs.word" }]
"""


def test_those_of_the_suite_can_run():
    stored = load(FILE)["describe"]
    assert stored.plan.needs == {"labels": (), "text": ("labels",)}
    assert stored.pipeline.inputs["picture"].type == "image"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[one]", "[one", "is no TOML: .*line 2"),
        ("[one]", "two = 1\n[one]", "two: is no pipeline"),
        ("name =", "nam =", r'one: .* no field named "nam" at "Pipeline.steps\[0\]'),
        ('"say"', "1", "one: .*name"),
        ("transduce = {}", "transduse = {}", 'one: .* no field named "transduse"'),
        ("{ transduce = {} }", "{}", r"one: steps\[0\].request.request: one of tokenize"),
        (
            '"text", default',
            '"txt", default',
            r"one.inputs.word.type: 'txt' is no type; choose one of",
        ),
        ("{ text =", "{ number = 1 } } }#", "one.inputs.word.default: is no text"),
        ("inputs.word", "inputs.wort", r"one.steps\[0\].bindings\[0\].source_path: step 'say': there is no input"),
        ("texts[0]", "texts[1]", r"one.steps\[0\].bindings\[0\].target_path: step 'say': texts has 0 items"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, told: str):
    file = tmp_path / "pipelines.toml"
    file.write_text(GOOD)
    assert list(load(file)) == ["one"]
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(InvalidInput, match=told):
        load(file)
