#!/usr/bin/env python3
"""Writes scanpy_worm.json: what scanpy makes of worm_embryo.h5ad. Needs scanpy and scikit-misc.

    python3 scanpy_worm.py
"""

import contextlib
import functools
import json
import pathlib
import warnings

import numpy as np
import scanpy as sc

HERE = pathlib.Path(__file__).resolve().parent
CELLS = [0, 1, 500, 1804]
GENES = [0, 17, 500, 4321, 9999]
TOP = 300


def floats(values):
    """JSON has no NaN: None."""
    return [None if np.isnan(v) else float(v) for v in np.asarray(values, dtype=float)]


def qc(counts):
    """Quality of some cells and genes; the set is that of genes whose names start with "W"."""
    data = counts.copy()
    data.var["w"] = [name.upper().startswith("W") for name in data.var_names]
    obs, var = sc.pp.calculate_qc_metrics(data, qc_vars=["w"], percent_top=(50, 500))
    return {
        "set_size": int(data.var["w"].sum()),
        "obs": {name: floats(obs[name].iloc[CELLS]) for name in obs if not name.startswith("log1p")},
        "var": {name: floats(var[name].iloc[GENES]) for name in var if not name.startswith("log1p")},
    }


@contextlib.contextmanager
def stable_sorts():
    """scanpy ranks genes by `numpy.argsort` as it is, whose order of equal scores is any; here, by position."""
    usual = np.argsort
    np.argsort = functools.partial(usual, kind="stable")
    try:
        yield
    finally:
        np.argsort = usual


def variable_genes(counts, logs):
    """All flavours, with and without batches.

    Even and odd cells for seurat_v3: scikit-misc's loess refuses each of the real batches ("near singularities").
    """
    out = {}
    for flavor in ["seurat", "cell_ranger", "seurat_v3", "seurat_v3_paper", "pearson_residuals"]:
        for batch in [None, "parity" if flavor.startswith("seurat_v3") else "batch"]:
            options = {"n_top_genes": TOP, "batch_key": batch, "inplace": False, "flavor": flavor}
            if flavor == "pearson_residuals":
                found, score = sc.experimental.pp.highly_variable_genes(counts, **options), "residual_variances"
            elif flavor.startswith("seurat_v3"):
                found, score = sc.pp.highly_variable_genes(counts, **options), "variances_norm"
            else:
                found, score = sc.pp.highly_variable_genes(logs, **options), "dispersions_norm"
            out[f"{flavor}{'/batch' if batch else ''}"] = {
                "genes": np.flatnonzero(found["highly_variable"]).tolist(),
                "scores": floats(found[score].iloc[GENES]),
            }
    return out


def components(logs):
    """Ten components of the genes that flavour seurat chooses."""
    data = logs.copy()
    sc.pp.highly_variable_genes(data, n_top_genes=TOP)
    sc.pp.pca(data, n_comps=10)
    chosen = data.var["highly_variable"].to_numpy()
    return {
        "variance": floats(data.uns["pca"]["variance"]),
        "variance_ratio": floats(data.uns["pca"]["variance_ratio"]),
        "components": np.round(data.varm["PCs"][chosen].T.astype(float), 8).tolist(),
        "scores": [floats(row) for row in data.obsm["X_pca"][CELLS]],
    }


def main():
    warnings.simplefilter("ignore")
    counts = sc.read_h5ad(HERE / "worm_embryo.h5ad")
    counts.obs["parity"] = ["even", "odd"] * (counts.n_obs // 2) + ["even"] * (counts.n_obs % 2)
    counts.obs["parity"] = counts.obs["parity"].astype("category")
    logs = counts.copy()
    sc.pp.normalize_total(logs, target_sum=1e4)
    sc.pp.log1p(logs)
    excluding = counts.copy()
    sc.pp.normalize_total(excluding, exclude_highly_expressed=True, max_fraction=0.05)
    scaled = logs[:, GENES].copy()
    sc.pp.scale(scaled, max_value=2)
    with stable_sorts():
        stable = {key: of["genes"] for key, of in variable_genes(counts, logs).items()}
    out = {
        "scanpy": sc.__version__,
        "cells": CELLS,
        "genes": GENES,
        "n_top": TOP,
        "qc": qc(counts),
        "totals_excluding": floats(np.asarray(excluding.X.sum(axis=1)).ravel()[CELLS]),
        "scaled": [floats(row) for row in scaled.X[CELLS]],
        "hvg": variable_genes(counts, logs),
        "hvg_stable": stable,
        "pca": components(logs),
    }
    (HERE / "scanpy_worm.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


main()
