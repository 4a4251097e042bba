"""Which epoch was the best, and by which images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kdstats.teacher.accuracy import Accuracy


@dataclass
class Best:
    """The best epoch so far: by accuracy, and apart from it by loss.

    Attributes:
        accuracy: Test accuracy in the epoch of the highest accuracy on the images that choose, a fraction.
        epoch: That epoch, from 1.
        loss: Test loss in the epoch of the lowest loss on the images that choose, nats.
        chosen_by: Accuracy and loss on the images that choose: the test images themselves, or those held out.
    """

    accuracy: float = -1.0
    epoch: int = -1
    loss: float = float("inf")
    chosen_by: tuple[float, float] = (-1.0, float("inf"))

    def see(self, epoch: int, test: Accuracy, choosing: Accuracy) -> bool:
        """Takes note of an epoch; whether it has the highest accuracy so far."""
        accuracy, loss = self.chosen_by
        if choosing.loss < loss:
            self.loss, loss = test.loss, choosing.loss
        better = choosing.accuracy > accuracy
        if better:
            self.accuracy, self.epoch, accuracy = test.accuracy, epoch, choosing.accuracy
        self.chosen_by = (accuracy, loss)
        return better

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {**vars(self), "chosen_by": list(self.chosen_by)}

    @classmethod
    def of(cls, state: dict[str, Any]) -> Best:
        """From :meth:`state_dict`."""
        return cls(**{**state, "chosen_by": tuple(state["chosen_by"])})
