"""Views that lack a part of the image."""
