"""Named training recipes, each default with its source; ``python -m runners.recipes`` prints them."""

from __future__ import annotations

from runners.recipes.catalogue import LIGHT_STUDENTS, for_student, get, names, scaling
from runners.recipes.recipe import SCHEDULES, Recipe

__all__ = ["LIGHT_STUDENTS", "SCHEDULES", "Recipe", "for_student", "get", "names", "scaling"]
