"""TensorBoard files of a run's metrics."""

import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any


class TensorBoardWriter:
    """Writes scalars to a new TensorBoard events file.

    Writes synchronously: the library's own writer has a thread, in which a full disk would go
      unnoticed.

    Args:
      folder: receives the events file.
      first_step: earlier files' events of this and later steps are replaced.
    """

    def __init__(self, folder: pathlib.Path, first_step: int):
        # Imported on use: where torch is installed, tensorboardX loads it too.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        # Generated protocol buffers have no types.
        events: Any = event_pb2
        summaries: Any = summary_pb2
        self._event = events.Event
        self._summary = summaries.Summary

        folder.mkdir(exist_ok=True)
        self._file = EventsWriter(str(folder / "events"), filename_suffix=f".{os.getpid()}")
        start = events.SessionLog(status=events.SessionLog.SessionStatus.START)
        self._file.write_event(
            self._event(wall_time=time.time(), step=first_step, session_log=start)
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the scalars of one step to the disk."""
        scalars = [
            self._summary.Value(tag=name, simple_value=value) for name, value in values.items()
        ]
        summary = self._summary(value=scalars)
        self._file.write_event(self._event(wall_time=time.time(), step=step, summary=summary))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
