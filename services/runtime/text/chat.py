"""Chat templates: messages → the model's prompt, as text or as ids. Knows no proto and no engine.

What a message says can never become a control token: special tokens spelt in its content are hidden
from the template and come back as ordinary text. Only `encode` can keep that promise; who re-encodes
the text of `render` with special tokens parsed trusts the messages.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jinja2

from services.runtime.errors import InvalidInput, PreconditionFailed
from services.runtime.store.manifest import TokenizerSpec
from services.runtime.text.templates import RefusalError, environment
from services.runtime.text.tokenizer import Tokenizer

ROLES = ("system", "developer", "user", "assistant", "tool")
NONCHARACTERS = tuple(chr(code) for code in range(0xFDD0, 0xFDF0))


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


class ChatTemplate:
    """A Jinja2 template as model cards carry them, run in a sandbox."""

    def __init__(self, source: str, tokenizer: Tokenizer) -> None:
        """Raises PreconditionFailed if `source` is not a template."""
        self._tokenizer = tokenizer
        self._names = _token_names(tokenizer)
        try:
            self._template = environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise PreconditionFailed(f"the chat template is broken: {error}", reason="BAD_TEMPLATE") from error

    def render(
        self, messages: Sequence[Message], add_generation_prompt: bool = True, field: str = "chat.messages"
    ) -> str:
        """The prompt as text. Raises InvalidInput naming `field` or `field[i].role`."""
        _check(messages, field)
        return self._run(messages, add_generation_prompt, field)

    def encode(
        self, messages: Sequence[Message], add_generation_prompt: bool = True, field: str = "chat.messages"
    ) -> list[int]:
        """The prompt as ids; special tokens come from the template alone. Raises as `render`."""
        _check(messages, field)
        shield = Shield(messages, list(self._tokenizer.special_tokens))
        text = self._run(shield.messages, add_generation_prompt, field)
        if not shield.hidden:
            return self._tokenizer.encode_ids(text, add_special_tokens=False)
        parts = [self._ids(part, shield) for part in self._tokenizer.split_special(text)]
        return [token_id for part in parts for token_id in part]

    def _ids(self, part: str | int, shield: "Shield") -> list[int]:
        if isinstance(part, int):
            return [part]
        return self._tokenizer.encode_ids(shield.restore(part), add_special_tokens=False, parse_special=False)

    def _run(self, messages: Sequence[Message], add_generation_prompt: bool, field: str) -> str:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._template.render(
                messages=turns, add_generation_prompt=add_generation_prompt, **self._names
            )
        except RefusalError as refusal:
            raise InvalidInput(field, str(refusal)) from refusal
        except Exception as error:  # a template is a program: any exception may come out of it
            raise InvalidInput(field, "the model's chat template cannot render these messages") from error


class Shield:
    """Messages whose spelt special tokens are swapped for marks that occur in none of them."""

    def __init__(self, messages: Sequence[Message], special_tokens: Sequence[str]) -> None:
        self.hidden: list[str] = []
        self._mark = _unused(messages)
        longest_first = sorted(special_tokens, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self.messages = [replace(m, content=self._special.sub(self._hide, m.content)) for m in messages]

    def restore(self, text: str) -> str:
        """`text` with every mark back to what it stands for."""
        return re.sub(f"{self._mark}(\\d+){self._mark}", lambda match: self.hidden[int(match[1])], text)

    def _hide(self, match: re.Match[str]) -> str:
        self.hidden.append(match[0])
        return f"{self._mark}{len(self.hidden) - 1}{self._mark}"


def load(spec: TokenizerSpec | None, tokenizer: Tokenizer) -> ChatTemplate | None:
    """The model's template, None if it has none."""
    return ChatTemplate(spec.chat_template, tokenizer) if spec and spec.chat_template else None


def _unused(messages: Sequence[Message]) -> str:
    """A Unicode noncharacter that no message contains (they are never valid in interchange)."""
    mark = next((c for c in NONCHARACTERS if all(c not in m.content for m in messages)), None)
    if mark is None:
        raise InvalidInput("chat.messages", "uses all of U+FDD0 to U+FDEF; remove these noncharacters")
    return mark


def _token_names(tokenizer: Tokenizer) -> dict[str, str]:
    """The tokens that templates refer to by role; those the model lacks stay undefined."""
    ids = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "pad": tokenizer.pad_id, "unk": tokenizer.unk_id}
    return {f"{role}_token": tokenizer.token(i) for role, i in ids.items() if i is not None}


def _check(messages: Sequence[Message], field: str) -> None:
    if not messages:
        raise InvalidInput(field, "is empty; give at least one message")
    for index, message in enumerate(messages):
        if message.role not in ROLES:
            raise InvalidInput(
                f"{field}[{index}].role", f"{message.role!r} is not a role; use one of {', '.join(ROLES)}"
            )
