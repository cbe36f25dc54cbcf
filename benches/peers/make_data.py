#!/usr/bin/env python3
"""Write a synthetic count file for the benchmarks: an uncompressed `.h5ad` with `X` as float32 CSR.

The counts have the shape of single-cell data, so that both programs do the work they would do on a real file:

    x[c, g] ~ NB(mean = size[c] * exp(offset + gene[g] + cluster[k(c), g] + batch[b(c), g]), theta[g])

with log-normal gene means, log-normal cell sizes and an inverse dispersion theta around 1. `offset` is found by
bisection so that the wanted fraction of the matrix is stored (non-zero). `obs` has `batch` (2 levels) and
`cluster`. The same arguments give the same file content.
"""

import argparse

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

ROWS_PER_BLOCK = 1000  # bounds the dense scratch memory


def log_means(rng, clusters, batches, genes, gene_sd):
    """Log mean of every gene in every (cluster, batch), up to a common offset: [clusters, batches, genes]."""
    gene = rng.normal(0.0, gene_sd, genes)
    # A seventh of the genes mark each cluster; the rest are the same everywhere.
    marks = rng.random((clusters, genes)) < 1 / 7
    cluster = np.where(marks, rng.normal(0.0, 1.0, (clusters, genes)), 0.0)
    batch = rng.normal(0.0, 0.15, (batches, genes))
    return gene + cluster[:, None, :] + batch[None, :, :]


def stored_fraction(offset, log_mu, log_size, theta):
    """Expected fraction of non-zero counts of cells with the given log means: 1 - (theta / (theta + mu))^theta."""
    mu = np.exp(offset + log_mu + log_size[:, None])
    return float(np.mean(1.0 - (theta / (theta + mu)) ** theta))


def find_offset(density, log_mu, log_size, theta):
    """The offset at which `stored_fraction` is `density`, by bisection (the fraction grows with the offset)."""
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        if stored_fraction(middle, log_mu, log_size, theta) < density:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def simulate(cells, genes, density, seed, clusters=8, batches=2):
    """AnnData with `cells` x `genes` counts."""
    rng = np.random.default_rng(seed)
    gene_sd = 1.3
    table = log_means(rng, clusters, batches, genes, gene_sd).astype(np.float32)
    theta = rng.lognormal(0.0, 0.3, genes).astype(np.float32)
    log_size = rng.normal(0.0, 0.4, cells).astype(np.float32)
    cluster = rng.choice(clusters, cells, p=rng.dirichlet(np.full(clusters, 5.0)))
    batch = rng.integers(0, batches, cells)

    probe = rng.choice(cells, min(cells, 400), replace=False)
    offset = find_offset(density, table[cluster[probe], batch[probe]], log_size[probe], theta)

    blocks = []
    for start in range(0, cells, ROWS_PER_BLOCK):
        rows = slice(start, min(start + ROWS_PER_BLOCK, cells))
        mu = np.exp(offset + table[cluster[rows], batch[rows]] + log_size[rows, None])
        # A Poisson count with a Gamma rate of mean mu and shape theta is NB(mu, theta).
        rate = rng.standard_gamma(np.broadcast_to(theta, mu.shape)) * (mu / theta)
        blocks.append(sp.csr_matrix(rng.poisson(rate).astype(np.float32)))
    x = sp.vstack(blocks, format="csr")
    x.sort_indices()

    obs = pd.DataFrame(
        {
            "batch": pd.Categorical([f"batch{b}" for b in batch]),
            "cluster": pd.Categorical([f"cluster{k}" for k in cluster]),
        },
        index=[f"cell{i}" for i in range(cells)],
    )
    var = pd.DataFrame(index=[f"gene{i}" for i in range(genes)])
    return anndata.AnnData(X=x, obs=obs, var=var)


def main():
    """Parse the arguments, write the file, and say what it holds."""
    parser = argparse.ArgumentParser(description="write a synthetic count file (.h5ad, CSR float32, uncompressed)")
    parser.add_argument("out", metavar="OUT.h5ad")
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--density", type=float, default=0.35, help="fraction of the matrix that is stored")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not 0.0 < args.density < 1.0:
        parser.error("--density must lie between 0 and 1")
    if args.cells < 2 or args.genes < 1:
        parser.error("--cells must be at least 2 and --genes at least 1")

    adata = simulate(args.cells, args.genes, args.density, args.seed)
    adata.write_h5ad(args.out)
    x = adata.X
    totals = np.asarray(x.sum(axis=1)).ravel()
    print(
        f"{args.out}: {x.shape[0]} cells x {x.shape[1]} genes, {x.nnz / (x.shape[0] * x.shape[1]):.4f} stored, "
        f"median {np.median(totals):.0f} counts a cell, largest count {x.max():.0f}, "
        f"cells without counts {int((totals == 0).sum())}, genes without counts {int((x.getnnz(axis=0) == 0).sum())}"
    )


if __name__ == "__main__":
    main()
