"""How a program ends: the exit codes, and one clear sentence instead of a traceback."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import unicodedata
from collections.abc import Callable
from types import FrameType

from kdstats.errors import KdstatsError

# Of a line of a message; what is cut is some file's or user's text, quoted.
_LONGEST = 1000
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
    sys.stderr.write(f"{name}: {presentable(message)}\n")
    return code


def presentable(message: str) -> str:
    """``message`` for a terminal: lines as they are, control characters escaped, long lines cut in their middle.

    Messages quote names and texts from files of others, which must neither move the cursor nor fill the screen.
    """
    return "\n".join(_line(line) for line in message.split("\n"))


def _line(text: str) -> str:
    if len(text) > _LONGEST:
        tail = _LONGEST // 4
        text = f"{text[: _LONGEST - tail - 3]} … {text[-tail:]}"
    return visible(text)


def visible(text: str) -> str:
    """``text`` with what cannot be seen escaped: a command from a stranger's file must be what it looks like.

    >>> visible("rm\\u202e -rf")
    'rm\\\\u202e -rf'
    """
    # Categories C: control, format (which can reverse text), unassigned; Zl, Zp: other ends of a line.
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" else c
        for c in text
    )
