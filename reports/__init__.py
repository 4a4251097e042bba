"""Pages of a study: analyses in, one self-contained HTML file and its figures and tables out."""

from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"
