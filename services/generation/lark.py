"""Every kind of constraint as one grammar in llguidance's Lark. Knows no proto, no model and no tokens.

Functions raise ValueError, whose text says what is wrong with the given text.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from llguidance import LLMatcher, regex_to_lark
from llguidance.gbnf_to_lark import gbnf_to_lark

# Text that can go on in one way only is chosen token by token like all other text: the model's own numbers decide
# how it is cut, and a million forced characters are never spelt out at once.
OPTIONS = '%llguidance {"no_forcing": true}'
# A JSON text is one line, as Python's `json.dumps` writes it: a model that may choose its white space may write
# nothing else, and there is more that can only follow in one way.
ONE_LINE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
GUIDANCE = "x-guidance"  # the schema key that llguidance reads such options from


def of_json_schema(text: str) -> str:
    """JSON Schema, of which llguidance refuses by name what it does not know."""
    try:
        schema = json.loads(text)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from error
    if not isinstance(schema, dict | bool):
        raise ValueError("must be a JSON object, or true")
    return f"start: %json {json.dumps(_on_one_line(schema))}"


def _on_one_line(schema: dict[str, Any] | bool) -> dict[str, Any] | bool:
    given = {} if schema is True else schema
    if given is False:
        return False
    own = given.get(GUIDANCE, {})
    return given | {GUIDANCE: ONE_LINE | own} if isinstance(own, dict) else given


def of_json_object(_: str) -> str:
    """Any JSON object."""
    return of_json_schema('{"type": "object"}')


def of_regex(text: str) -> str:
    """A regular expression of Rust's `regex` crate that the whole text matches."""
    return f"start: /{regex_to_lark(text, '')}/" if text else 'start: ""'


def of_choice(text: str) -> str:
    """One of the strings in a JSON list. Lark takes no bare DEL, which JSON does."""
    spelt = (json.dumps(one, ensure_ascii=False).replace("\x7f", "\\u007f") for one in json.loads(text))
    return "start: " + " | ".join(spelt)


def of_grammar(text: str) -> str:
    """llguidance's Lark as it is; GBNF, told by its `::=`, is translated."""
    if "::=" not in text:
        return text
    try:
        return str(gbnf_to_lark(text))
    except (Exception, RecursionError) as error:
        raise ValueError(f"is not GBNF: {error}") from error


KINDS: Mapping[str, Callable[[str], str]] = {
    "json_schema": of_json_schema,
    "json_object": of_json_object,
    "regex": of_regex,
    "choice": of_choice,
    "grammar": of_grammar,
}


def grammar(kind: str, text: str, after_space: bool) -> str:
    """What LLMatcher takes. `after_space`: the decoder drops a space in front of the text, so one is put there."""
    lark = f"{KINDS[kind](text)}\n{OPTIONS}"
    if not after_space:
        return LLMatcher.grammar_from_lark(lark)
    outer = {"lark_grammar": f'start: " " @text\n{OPTIONS}'}
    return json.dumps({"grammars": [outer, {"name": "text", "lark_grammar": lark}]})
