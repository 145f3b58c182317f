"""Writes scipy.json: what SciPy says where drift.json has no case.

    python3 reference.py > scipy.json

tails: P(D_n >= d) of the one-sample statistic (scipy.stats.kstwo), which
ks_2samp takes beyond 10,000 rows, in every region of its algorithm.
lattice: exact two-sample p-values (scipy.stats.ks_2samp, method exact), for
samples whose greatest gap is steps/lcm(n, m).
large: whole tests (scipy.stats.ks_2samp, method auto) beyond 10,000 rows, of
i*7919 mod 100003 for i < n against j*104729 mod 100003 + shift for j < m.
tables: tests of homogeneity (scipy.stats.chi2_contingency).
"""
import json
import math

import numpy as np
import scipy
from scipy import stats


def shifted(n, m, k):
    """n even steps, and m rows spread over them after k moved below them all."""
    a = np.arange(n, dtype=float)
    b = np.concatenate([np.full(k, -1.0), np.linspace(0.5, n - 0.5, m - k)])
    return a, b


tails = []
for n in (1, 2, 5, 10, 30, 100, 140, 141, 200, 1000, 5000, 20000, 99999, 100001, 500000, 1000000):
    for square in (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.8, 2.19, 2.21, 3.9, 4.1, 8.0, 17.0, 19.0, 60.0, 200.0):
        d = math.sqrt(square / n)
        if 0.5 < n * d and d < 1:
            p = float(stats.kstwo.sf(d, n))
            if p > 1e-290:
                tails.append({"n": n, "d": d, "p": p})

lattice = []
for n, m in ((2, 1), (3, 2), (7, 5), (10, 10), (12, 8), (40, 40), (25, 200), (600, 601), (1000, 1000), (1500, 900), (9999, 10000), (10000, 40)):
    for share in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.9):
        k = round(share * m)
        if k < 1:
            continue
        r = stats.ks_2samp(*shifted(n, m, k), method="exact")
        steps = round(r.statistic * (n // math.gcd(n, m)) * m)
        if r.pvalue > 1e-290:
            lattice.append({"n": n, "m": m, "steps": steps, "p": float(r.pvalue)})

large = []
for n, m, shift in ((10001, 1, 60000), (12000, 35, 9000), (300, 11000, 7000), (10001, 77, 100), (20001, 20000, 800), (40000, 50001, 0), (30000, 10000, 1500)):
    a = np.arange(n) * 7919 % 100003
    b = np.arange(m) * 104729 % 100003 + shift
    r = stats.ks_2samp(a, b)
    large.append({"n": n, "m": m, "shift": shift, "statistic": float(r.statistic), "p": float(r.pvalue)})

tables = []
for ref, cur in (
    ([679, 322], [1752, 748]), ([5, 5], [5, 5]), ([10, 0], [0, 10]), ([3, 1], [2, 2]),
    ([212, 283, 104, 402], [515, 737, 249, 999]), ([112, 46, 24, 7, 4], [19, 3, 3, 0, 0]), ([9, 0, 1], [8, 5, 0]),
):
    statistic, p = stats.chi2_contingency([ref, cur])[:2]
    tables.append({"ref": ref, "cur": cur, "statistic": statistic, "p": p})

print("{")
print(f' "source": "scipy {scipy.__version__}, numpy {np.__version__}",')
for name, rows in (("tails", tails), ("lattice", lattice), ("large", large), ("tables", tables)):
    body = ",\n  ".join(json.dumps(row) for row in rows)
    print(f' "{name}": [\n  {body}\n ]' + ("" if name == "tables" else ","))
print("}")
