"""What do the published numbers of Wang et al. (NeurIPS 2022) say once every one of them has an interval?

``python -m analyses.published_wang2022 --out DIR`` writes the page, the numbers and the figure.
"""

from analyses.published_wang2022.reanalysis import QUESTION, Panels, Published, run

__all__ = ["QUESTION", "Panels", "Published", "run"]
