"""A whole study: ``python -m runners.study init|plan|run|retry|status|report``.

One file per verb: ``init``, ``planning`` (plan), ``carrying`` (run and retry), ``status``, ``reporting`` (report);
``teachers`` and ``measuring`` hold what is done once per teacher, ``folder`` what a study's folder says about itself.
"""
