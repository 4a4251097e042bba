"""kdstats: the statistics of data augmentation in knowledge distillation.

Public names are loaded on first use, so ``import kdstats`` needs neither torch nor matplotlib, and the
statistics work in an environment that has numpy, scipy and pandas only.
"""

from __future__ import annotations

from kdstats._version import __version__
from kdstats.lazy import lazy

_PUBLIC = {
    "Estimate": "kdstats.estimators.estimate",
    "CovarianceEstimate": "kdstats.estimators.covariance",
    "Comoments": "kdstats.estimators.comoments",
    "ce_covariance": "kdstats.estimators.covariance",
    "TStddev": "kdstats.estimators.tstddev",
    "at_pool_size": "kdstats.estimators.pool_size",
    "variance_components": "kdstats.estimators.identity",
    "t_stddev": "kdstats.estimators.tstddev",
    "correlate": "kdstats.association.correlate",
    "regress": "kdstats.association.regression",
    "meta_analysis": "kdstats.association.meta",
    "repeated_correlation": "kdstats.association.repeated",
    "partial_correlation": "kdstats.association.partial",
    "deming": "kdstats.association.deming",
    "disattenuated": "kdstats.association.attenuation",
    "simex": "kdstats.association.simex",
    "mixed_model": "kdstats.association.mixed",
    "wild_bootstrap": "kdstats.association.wild",
    "leave_one_pair_out": "kdstats.association.concordance",
    "rank_probabilities": "kdstats.association.rank_table",
    "power": "kdstats.association.power",
    "load_published": "kdstats.published",
    "evaluate_da": "kdstats.teacher.evaluate",
    "Recorder": "kdstats.records.recorder",
}

__all__ = ["__version__", *sorted(_PUBLIC)]

__getattr__, __dir__ = lazy(__name__, _PUBLIC)
