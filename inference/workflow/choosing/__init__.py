"""``estimator="auto"``: among the estimators that take the program, the one of least effort."""
