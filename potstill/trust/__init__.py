"""How far a student's scores may be trusted: calibrated, abstained from, widened into label sets, or out of scope.

`reading` applies what was measured and needs numpy alone, so it ships with every bundle; `scaling` and `measure` find
it out on labelled texts that nothing was learnt from; `exam` holds the promises against the test part.
"""
