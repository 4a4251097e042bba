"""Who teaches when: shifts of equal length, one teacher and one augmentation scheme each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kdstats import schemes
from kdstats.errors import UsageError, unknown

UNITS = ("epoch", "step")
RESTARTS = ("shift", "never")


@dataclass(frozen=True)
class Shift:
    """One step's place in the schedule.

    Attributes:
        index: Number of the shift, from 0.
        teacher: Number of the teacher that answers and is updated, from 0; the others rest unchanged.
        scheme: Augmentation scheme of the views.
        iteration: i of the averaging rule: updates of this teacher since it last started afresh.
    """

    index: int
    teacher: int
    scheme: str
    iteration: int


@dataclass(frozen=True)
class ShiftSchedule:
    """Shift s belongs to teacher ``s mod teachers`` and to scheme ``s mod len(schemes)``.

    A pure function of the place in the run, so that a resumed run needs no memory of it.

    Attributes:
        steps_per_epoch: Steps of an epoch.
        teachers: How many take turns.
        schemes: Their augmentation schemes, in turn.
        period: Length of a shift, in ``unit``.
        unit: ``epoch``, or ``step`` counted over the whole run.
        restart: When i of the averaging rule starts again at 0: with every ``shift``, which makes a teacher
            temporary, or ``never``.
    """

    steps_per_epoch: int
    teachers: int = 1
    schemes: tuple[str, ...] = ("identity",)
    period: int = 1
    unit: str = "epoch"
    restart: str = "shift"

    def __post_init__(self) -> None:
        for field in ("steps_per_epoch", "teachers", "period"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"{field} of a shift schedule is a whole number from 1, not {value!r}")
        if self.unit not in UNITS:
            raise unknown("unit of a shift", self.unit, UNITS)
        if self.restart not in RESTARTS:
            raise unknown("restart rule", self.restart, RESTARTS)
        if not self.schemes:
            raise UsageError("a shift schedule names at least one scheme")
        object.__setattr__(self, "schemes", tuple(schemes.record(name).name for name in self.schemes))

    @property
    def shift_steps(self) -> int:
        """Steps of one shift."""
        return self.period * (self.steps_per_epoch if self.unit == "epoch" else 1)

    def at(self, epoch: int, step: int) -> Shift:
        """The shift of ``step`` (from 0) in ``epoch`` (from 0).

        Raises:
            UsageError: No such step in an epoch.
        """
        if epoch < 0 or not 0 <= step < self.steps_per_epoch:
            raise UsageError(f"no step {step} in epoch {epoch}: an epoch has {self.steps_per_epoch} steps")
        index, inside = divmod(epoch * self.steps_per_epoch + step, self.shift_steps)
        earlier = 0 if self.restart == "shift" else index // self.teachers * self.shift_steps
        scheme = self.schemes[index % len(self.schemes)]
        return Shift(index, index % self.teachers, scheme, earlier + inside)

    def resolved(self) -> dict[str, Any]:
        """What decides numbers, as plain JSON."""
        return {
            "teachers": self.teachers,
            "schemes": list(self.schemes),
            "period": self.period,
            "unit": self.unit,
            "restart": self.restart,
            "steps_per_epoch": self.steps_per_epoch,
        }
