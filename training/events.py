"""What a run tells TensorBoard: scalars in an event file, written as they come. Knows no run.

Records of serialized `Event` messages (TensorFlow's TFRecord framing). TensorBoard's own writer holds them back
in a thread that cannot say that the disk is full; this one cannot lose any.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VERSION = "brain.Event:2"  # from this version on a reader heeds session starts


class Events:
    """One file of the folder's. What earlier files tell of later steps than `from_step` no longer counts."""

    def __init__(self, folder: Path, from_step: int) -> None:
        # imported here: only a run that writes needs them
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event = Event
        # Readers take the files in the order of their names.
        file = (folder / f"events.out.tfevents.{time.time_ns()}").open("xb", buffering=0)
        self._records: Any = RecordWriter(file)
        self._put(file_version=VERSION)
        self._put(step=from_step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Each value as the scalar `kind/name`, float32."""
        told = [{"tag": f"{kind}/{name}", "simple_value": value} for name, value in values.items()]
        self._put(step=step, summary={"value": told})

    def close(self) -> None:
        self._records.close()

    def _put(self, **fields: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())
