"""Where one way of computing something becomes better than another, on processors.

The numbers were found by measuring; `benchmarks/` tells what another one does.
"""

from __future__ import annotations

from funcgrad.backends.loops.nests.limits import Limits

LIMITS = Limits(
    small=32,
    register_numbers=6000,
    unroll=4,
    unroll_rows=256,
    unroll_columns=16,
    unroll_window=64,
    unroll_work=256,
    least_row=16,
    large_row=65536,
    enough_rows=64,
    most_parts=8,
    again_operations=4,
    again_arrays=2,
    again_more_operations=8,
    again_work=20,
    keep_cost=14,
    most_pieces=6,
    few_pieces=2,
    chunks=64,
    parallel_work=150_000,
    stream=16384,
    grain=1024,
    far_length=32,
    far_rows=4,
    far_step=4,
    far_together=8,
    near_steps=16,
    most_runs=64,
    least_donation=512,
)
