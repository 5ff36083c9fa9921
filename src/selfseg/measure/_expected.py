"""Expected mutual information of two random partitions with given region sizes."""

import numpy as np
from numba import njit

from selfseg.core.threads import run_shared
from selfseg.measure._table import Floats, Table

NEGLIGIBLE = 1e-20
"""Terms below this share of the largest are dropped: the sums do not change in double precision."""


def expected_mutual_information(table: Table) -> float:
    """Return the mean mutual information, in nats, over all pairs of partitions with these region sizes.

    Vinh, Epps & Bailey 2010, eq. 24a. The count that two regions of sizes a and b share is hypergeometric. With
    E[n] = ab/N, each pair gives (E[n ln n] - E[n] ln E[n]) / N, so only E[n ln n] is summed. The probabilities are
    built from the mode outwards by their ratio and divided by their sum: no factorials, and work of a few standard
    deviations only.
    """
    out = np.zeros(len(table.row_sums))
    logs = np.zeros(int(min(table.row_sums.max(), table.column_sums.max())) + 1)
    logs[1:] = np.log(np.arange(1, len(logs)))
    columns = table.column_sums.astype(np.float64)
    # Below this a second thread costs more than it saves. Each row writes its own sum, so the result is the same.
    parts = 1 if len(out) * len(columns) < 20_000 else None
    run_shared(
        _row_sums, len(out), table.row_sums.astype(np.float64), columns, float(table.total), logs, out, parts=parts
    )
    return float(out.sum()) / table.total


@njit(cache=True, nogil=True)
def _row_sums(start: int, stop: int, rows: Floats, columns: Floats, total: float, logs: Floats, out: Floats) -> None:
    for i in range(start, stop):
        a = rows[i]
        result = 0.0
        for j in range(columns.shape[0]):
            b = columns[j]
            mean = a * b / total
            low, high = max(0.0, a + b - total), min(a, b)
            mode = min(max(np.floor((a + 1.0) * (b + 1.0) / (total + 2.0)), low), high)
            weights, moment = 1.0, mode * logs[int(mode)]
            p, n = 1.0, mode
            while n < high and p > NEGLIGIBLE:
                p *= (a - n) * (b - n) / ((n + 1.0) * (total - a - b + n + 1.0))
                n += 1.0
                weights += p
                moment += p * n * logs[int(n)]
            p, n = 1.0, mode
            while n > low and p > NEGLIGIBLE:
                p *= n * (total - a - b + n) / ((a - n + 1.0) * (b - n + 1.0))
                n -= 1.0
                weights += p
                moment += p * n * logs[int(n)]
            result += moment / weights - mean * np.log(mean)
        out[i] = result
