"""``kdstats correlate``: from options to points, from points to numbers, from numbers to what is printed."""
