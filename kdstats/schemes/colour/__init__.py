"""Views of other colours or sharpness."""
