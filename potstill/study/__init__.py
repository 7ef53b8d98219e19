"""A study: one task learnt by several procedures, backbones, label counts and seeds, and what follows from it.

`spec` is the specification, `backbones` what each model can run, `dataset` the subsets, `grid` the cells. `run_study`
runs them, `records` are the results, `analysis` and `advice` what follows, `terminal` and `page` show it. Recipes are
passed in.
"""
