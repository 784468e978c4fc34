"""What was said in a chat. Sends nothing."""

from collections.abc import Iterable

from maas_client.ask.words import Message


class Conversation:
    """`messages` so far; a question counts once it is answered."""

    def __init__(self, system: str, messages: Iterable[Message]) -> None:
        self.messages: list[Message] = [("system", system)] if system else []
        self.messages += messages

    def asking(self, text: str) -> tuple[Message, ...]:
        """All of it with a question."""
        return (*self.messages, ("user", text))

    def answered(self, text: str, answer: str) -> None:
        self.messages += [("user", text), ("assistant", answer)]
