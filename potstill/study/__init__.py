"""A study: the same task learnt by several procedures, backbones, label counts and seeds, and what that says.

`spec` is what was asked, `backbones` what each model can do, `data` the subsets, `cells` the grid, `conduct` runs it,
`records` is what came out, `readings` what follows from it, `terminal` and `page` tell it. Recipes come from outside.
"""
