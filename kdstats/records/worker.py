"""A background thread that runs tasks in order, loud when one fails."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from kdstats.errors import KdstatsError

Task = Callable[[], None]


class Worker:
    """Runs tasks one after the other in one thread, which starts with the first task.

    After a failure no further task runs, ``on_failure`` is called once in the thread, and the error waits in
    :meth:`raise_failure` for the caller. The queue is bounded: :meth:`submit` waits when the thread is
    behind.
    """

    def __init__(self, name: str, on_failure: Task, *, waiting: int = 8) -> None:
        self._name, self._on_failure = name, on_failure
        self._queue: queue.Queue[Task | None] = queue.Queue(maxsize=waiting)
        self._thread: threading.Thread | None = None
        self._failure: KdstatsError | None = None

    def submit(self, task: Task) -> None:
        """Put a task in line."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._queue.put(task)  # tasks are taken off the queue even after a failure, so this cannot hang

    def join(self) -> None:
        """Wait until every task in line is done."""
        if self._thread is not None:
            self._queue.join()

    def stop(self) -> None:
        """Finish the tasks in line and end the thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def raise_failure(self) -> None:
        """Raise the error of the task that failed, if one did."""
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while True:
            task = self._queue.get()
            try:
                if task is None:
                    return
                if self._failure is None:
                    task()
            except Exception as error:
                self._on_failure()
                if isinstance(error, KdstatsError):
                    self._failure = error
                else:
                    self._failure = KdstatsError(f"{self._name} failed: {error!r}.")
                    self._failure.__cause__ = error
            finally:
                del task  # a task holds arrays; do not keep them until the next one comes
                self._queue.task_done()
