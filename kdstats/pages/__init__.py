"""Self-contained HTML pages: one base template, one module per kind of page.

Importing this package is free; ``jinja2`` is loaded by :mod:`kdstats.pages.environment`. A page of another
room extends ``base.html.j2`` through :func:`~kdstats.pages.environment.make_environment`, given its own
folder of templates.
"""
