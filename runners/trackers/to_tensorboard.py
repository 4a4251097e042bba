"""To TensorBoard: one event file per run, its scalars by epoch, its configuration and state as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.record_writer import RecordWriter

from kdstats.records.atomic import AtomicFile
from kdstats.records.paths import encode_name
from runners.trackers.history import History

# TensorBoard shows any file with "tfevents" in its name. One fixed name per run, written anew as a whole: exporting
# again replaces the file instead of adding a second one, whose points would be shown beside the first's.
FILE = "events.out.tfevents.kdstats"


def export(histories: Sequence[History], out: str) -> str:
    """Writes ``out/<run>/events.out.tfevents.kdstats`` for every run; returns the command that shows them."""
    root = Path(out)
    for history in histories:
        folder = root.joinpath(*(encode_name(part) for part in (history.study, *history.name.split("/"))))
        with AtomicFile(folder / FILE) as stream:
            writer = RecordWriter(stream)
            for event in _events(history):
                writer.write(event.SerializeToString())
            writer.flush()
    return f"tensorboard --logdir {root}"


def _events(history: History) -> Iterator[Event]:
    yield Event(wall_time=history.began, file_version="brain.Event:2")
    words = {"status": history.status, "digest": history.digest, **history.config, **history.tags}
    table = "\n".join(["| key | value |", "|---|---|", *(f"| {k} | {v} |" for k, v in words.items())])
    for tag, text in (("run", table), ("status", history.status)):
        yield Event(wall_time=history.began, step=0, summary=Summary(value=[_text(tag, text)]))
    ends = history.times()
    for epoch, metrics in history.metrics.items():
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        yield Event(wall_time=ends[epoch], step=epoch, summary=Summary(value=values))


def _text(tag: str, text: str) -> Summary.Value:
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()], tensor_shape=shape)
    return Summary.Value(tag=tag, metadata=metadata, tensor=tensor)
