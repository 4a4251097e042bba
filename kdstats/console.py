"""How a program ends: the exit codes, and one clear sentence instead of a traceback."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType

from kdstats.errors import KdstatsError

INTERRUPTED = 130
TERMINATED = 143


class Terminated(BaseException):
    """SIGTERM arrived. A BaseException, so that no ``except Exception`` swallows it on the way out."""


def _raise_terminated(signum: int, frame: FrameType | None) -> None:
    raise Terminated


def run_program(name: str, body: Callable[[], int | None], stopped: str = "nothing was saved") -> int:
    """Runs ``body`` and turns what it raises into an exit code and one line on stderr.

    Args:
        name: The program's name, printed before the message.
        body: The program; its return value is the exit code, ``None`` meaning 0.
        stopped: What to say of the work when the program is interrupted.

    Returns:
        0, the code of the :class:`~kdstats.errors.KdstatsError` raised, 1 for anything unexpected, 130 after
        Ctrl-C and 143 after SIGTERM.
    """
    previous = signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        return int(body() or 0)
    except KdstatsError as error:
        return _fail(name, str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail(name, f"interrupted; {stopped}", INTERRUPTED)
    except Terminated:
        return _fail(name, f"terminated; {stopped}", TERMINATED)
    except BrokenPipeError:
        # The reader of our stdout went away (`| head`): keep the interpreter from failing again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(name, f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), 1)
    except Exception as error:
        text = (
            f"unexpected {type(error).__name__}: {error} (KDSTATS_TRACEBACK=1 shows where; please report it)"
        )
        return _fail(name, text, 1)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _fail(name: str, message: str, code: int) -> int:
    if os.environ.get("KDSTATS_TRACEBACK") == "1":
        traceback.print_exc()
    sys.stderr.write(f"{name}: {message}\n")
    return code
