"""Programs that train: teachers, students, studies. Run from the checkout, importing kdstats."""
