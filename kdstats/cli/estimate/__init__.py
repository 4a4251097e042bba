"""``kdstats estimate``: from options to recorded runs, to their estimates, to what is printed."""
