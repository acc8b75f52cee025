"""Speed and memory of funcgrad beside JAX, PyTorch, HIPS autograd and hand-written NumPy.

``python -m benchmarks`` measures every row and writes ``benchmarks/results.md``;
``python -m benchmarks NAME ...`` measures and prints the named rows only.
"""
