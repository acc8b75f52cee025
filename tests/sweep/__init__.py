"""Every function of `funcgrad.numpy` and `funcgrad.scipy` beside NumPy's own, over odd inputs.

`inputs` makes the arrays, `table` says for each name what it is called with, `modes` runs the
calls (plain, with values riding along, vectorised, compiled by each backend), `compare` holds
the answers against NumPy's, and `known` explains, line by line, where ours differ.
`python -m sweep` (`make sweep`) runs it whole; `test_sweep.py` a small sample.
"""
