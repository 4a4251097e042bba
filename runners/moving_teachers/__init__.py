"""Teachers made of the student's own past: one running average, or several that work in shifts."""

from __future__ import annotations

from runners.moving_teachers.averaging import BUFFERS, Averaging
from runners.moving_teachers.schedule import RESTARTS, UNITS, Shift, ShiftSchedule
from runners.moving_teachers.teachers import MovingTeachers

__all__ = [
    "BUFFERS",
    "RESTARTS",
    "UNITS",
    "Averaging",
    "MovingTeachers",
    "Shift",
    "ShiftSchedule",
]
