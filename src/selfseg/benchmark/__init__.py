"""The benchmark: methods and cheap baselines on a dataset, by one ruler, in one table.

`contenders` are what is compared, `jobs` runs one of them on one image, `runner` runs all that is not done yet, `scoring`
scores one outcome, `standings` sums up the rows, `tables`, `plots`, `sheets` and `report` show them.
"""
