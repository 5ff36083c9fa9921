"""Methods and baselines on data sets with truth, in one table."""
