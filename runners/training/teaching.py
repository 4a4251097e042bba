"""Who teaches a run: a fixed teacher, or one or more averages of the student in shifts."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from kdstats.errors import unknown
from runners.moving_teachers import Averaging, MovingTeachers, ShiftSchedule


@dataclass(frozen=True)
class Teaching:
    """Teachers that follow the student, see :mod:`runners.moving_teachers`.

    Attributes:
        teachers: How many take turns.
        period: Length of a shift in ``unit``.
        unit: ``epoch`` or ``step``.
        restart: When the averaging starts afresh: with every ``shift``, or ``never``.
        decay: Largest share that a teacher keeps of itself in an update.
        warmup: Whether the share begins at 0 and rises.
        buffers: What becomes of BatchNorm's statistics: ``own``, ``averaged`` or ``copied``.
        then: Schemes of the shifts after the first, in turn; empty for one scheme throughout.
    """

    teachers: int = 1
    period: int = 1
    unit: str = "epoch"
    restart: str = "never"
    decay: float = 0.999
    warmup: bool = True
    buffers: str = "averaged"
    then: tuple[str, ...] = ()

    def schedule(self, scheme: str, steps_per_epoch: int) -> ShiftSchedule:
        """Whose turn it is, and under which scheme."""
        return ShiftSchedule(
            steps_per_epoch, self.teachers, (scheme, *self.then), self.period, self.unit, self.restart
        )

    def make(self, student: nn.Module, scheme: str, steps_per_epoch: int) -> MovingTeachers:
        """The teachers, copies of ``student``."""
        averaging = Averaging(self.decay, self.warmup, self.buffers)
        return MovingTeachers(student, self.schedule(scheme, steps_per_epoch), averaging)


# One mean teacher for the whole run. The two temporary teachers of Na et al. (NeurIPS 2023) as in their released code:
# even epochs belong to the first, i restarts with the epoch, parameters alone are averaged. There the schemes are CutMix
# and ClassMix; the latter needs a label for every pixel, so classification names a second scheme of its own (``then``).
TEACHINGS = {
    "fixed": None,
    "ema": Teaching(),
    "dual": Teaching(teachers=2, restart="shift", decay=0.99, buffers="own"),
}


def get(name: str) -> Teaching | None:
    """A way of teaching by name: ``fixed`` (None), ``ema`` or ``dual``.

    Raises:
        UsageError: Unknown name.
    """
    if name not in TEACHINGS:
        raise unknown("way of teaching", name, TEACHINGS)
    return TEACHINGS[name]
