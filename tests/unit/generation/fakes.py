"""Sequences without text or model, for the policy tests."""

from services.generation.engine.request import Request, SamplingParams, Sequence, Stopping


class Silent:
    """A text sink that shows nothing and finds nothing."""

    def push(self, token: int) -> tuple[str, str | None]:
        return "", None

    def flush(self) -> tuple[str, str | None]:
        return "", None

    def fork(self) -> "Silent":
        return self  # no state


def siblings(prompt: list[int], count: int = 1, **request: object) -> list[Sequence]:
    """The sequences of one request."""
    wanted = Request(tuple(prompt), SamplingParams(), Stopping(), **request)
    return [Sequence(wanted, index, Silent()) for index in range(count)]


def one(prompt: list[int], **request: object) -> Sequence:
    return siblings(prompt, **request)[0]
