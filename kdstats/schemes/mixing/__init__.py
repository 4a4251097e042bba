"""Views made of two images."""
