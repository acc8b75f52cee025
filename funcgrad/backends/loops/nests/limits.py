"""Where one way of computing something becomes better than another."""

from __future__ import annotations

from funcgrad.records import NamedTuple


class Limits(NamedTuple):
    """The numbers by which a target decides; what they are is its own affair.

    Attributes:
        small: arrays of at most so many elements are held in registers.
        register_numbers: a loop's body in registers has at most so many numbers in its values.
        unroll: a last axis of at most so many elements that is summed over is no loop, if so
            many (`unroll_rows`) rows have one.
        unroll_columns: nor is one of at most so many, if all other axes are summed over.
        unroll_window: nor are the elements of a window, up to so many.
        unroll_work: unless that is code for so many cheap operations.
        least_row: rows of fewer elements are no reason to compute what belongs to a row as a
            single number.
        large_row: reductions of more elements are shared by threads rather than part of a row,
            unless there are so many (`enough_rows`) rows.
        most_parts: of more parts an array is put together by as many copies.
        again_operations, again_arrays: a value of so many cheap operations on so many arrays is
            computed again by each that reads it, instead of written and read.
        again_more_operations, again_work: or of some more, if all readers together compute no
            more than so many.
        keep_cost: a row's value that takes more cheap operations is kept for the next pass.
        most_pieces, few_pieces: into so many pieces a space is cut where arrays are put
            together, the fewer where a piece takes long code.
        chunks: a kernel has at most so many chunks of rows.
        parallel_work: from so many operations on a kernel is worth the threads.
        stream: so many elements in a row suit what fetches memory ahead.
        grain: chunks of elements begin at multiples of this, where vectors do.
        far_length, far_rows, far_step: elements that lie so many apart are gathered row by row,
            if a row has so many and there are so many rows.
        far_together: so many of such rows make a chunk at least.
        near_steps: kernels follow products that were at most so many steps ago.
        most_runs: so many runs of one kernel are made one.
        least_donation: smaller results, in bytes, take no argument's memory.
    """

    small: int
    register_numbers: int
    unroll: int
    unroll_rows: int
    unroll_columns: int
    unroll_window: int
    unroll_work: int
    least_row: int
    large_row: int
    enough_rows: int
    most_parts: int
    again_operations: int
    again_arrays: int
    again_more_operations: int
    again_work: int
    keep_cost: int
    most_pieces: int
    few_pieces: int
    chunks: int
    parallel_work: int
    stream: int
    grain: int
    far_length: int
    far_rows: int
    far_step: int
    far_together: int
    near_steps: int
    most_runs: int
    least_donation: int
