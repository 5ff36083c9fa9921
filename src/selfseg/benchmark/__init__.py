"""The benchmark: methods and cheap baselines on a dataset, by one ruler, in one table.

`jobs` runs one contender on one image, `runner` runs all jobs that are not done yet, `scoring` scores one outcome, `tables`
sums up the rows in standings, `outputs` writes them with plots, contact sheets and a report.
"""
