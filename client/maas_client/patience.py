"""How long to wait before going on after a break. Waits for nothing itself."""

from maas_client.errors import Cancelled, MaasError, Unavailable

PAUSES_S = (0.1, 0.5, 1.0, 2.0, 4.0)


def passes(error: MaasError) -> bool:
    """Whether another server, or the same one later, may go on: the way to it broke, or it left."""
    return isinstance(error, Unavailable | Cancelled)


class Patience:
    """A few tries, each after a longer wait; all of them anew with every progress."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._pauses = iter(PAUSES_S)

    def pause_s(self, error: MaasError) -> float:
        """Seconds until the next try, longer if the server asks for it. Raises `error` when there were enough."""
        found = next(self._pauses, None)
        if found is None:
            raise error
        return max(found, error.retry_after_s or 0.0)
