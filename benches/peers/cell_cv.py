#!/usr/bin/env python3
"""How much the counts that a model draws vary within a cell, beside the counts themselves: of scvi-tools' model and of ours.

    python benches/peers/cell_cv.py cells.h5ad --batch-key batch --sc target/release/sc

Trains both with default settings on the same cells for the same number of epochs. For each cell it takes the coefficient of
variation over genes (standard deviation / mean) of the raw counts, and of --samples posterior predictive draws, whose
coefficients are averaged. All draws are scvi-tools' (ours comes as a folder of `sc minify --with-counts`), so that the two
differ by their weights alone. Prints R² = 1 - sum (raw - model)² / sum (raw - mean of raw)², Pearson's correlation and the
mean absolute error, of the cells that trained and of those that validated, mean and standard deviation over seeds.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import warnings


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA.h5ad", help="raw counts in X")
    parser.add_argument("--batch-key")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sc", default="target/release/sc")
    parser.add_argument("--json", metavar="FILE", help="write all numbers here")
    return parser.parse_args()


def theirs(args, data, seed):
    """scvi-tools' model."""
    import scvi

    scvi.settings.seed = seed
    scvi.model.SCVI.setup_anndata(data, batch_key=args.batch_key)
    model = scvi.model.SCVI(data)
    model.train(max_epochs=args.epochs, accelerator="cpu", devices=1, enable_progress_bar=False)
    return model


def ours(args, seed, folder):
    """The model of `sc train`, opened with scvi-tools."""
    import scvi

    key = ["--batch-key", args.batch_key] if args.batch_key else []
    sizes = ["--max-epochs", str(args.epochs), "--seed", str(seed), "--threads", str(args.threads)]
    run = lambda *a: subprocess.run([args.sc, *map(str, a)], check=True, stdout=sys.stderr)
    run("train", "scvi", folder / "cells.h5ad", "--out", folder / "model", *key, *sizes)
    run("minify", folder / "model", folder / "cells.h5ad", "--out", folder / "atlas", "--with-counts")
    return scvi.model.SCVI.load(str(folder / "atlas"), accelerator="cpu")


def variation(x):
    """Standard deviation over genes / mean, of each cell."""
    import numpy as np

    mean, square = x.mean(1), x.power(2).mean(1)
    mean, square = np.asarray(mean, dtype=np.float64).ravel(), np.asarray(square, dtype=np.float64).ravel()
    return np.sqrt(np.maximum(square - mean**2, 0)) / mean


def drawn(model, n_samples):
    """The same of draws from the model, averaged over those that have counts."""
    import numpy as np

    each = []
    for _ in range(n_samples):
        draw = model.posterior_predictive_sample(n_samples=1)
        each.append(variation(draw.to_scipy_sparse().tocsr().astype(np.float64)))
    return np.nanmean(each, axis=0)


def compare(model, raw, n_samples):
    """Numbers of training and validation cells."""
    import numpy as np

    found = drawn(model, n_samples)
    out = {"elbo": float(-model.history["elbo_train"].to_numpy().ravel()[-1])}
    for name, rows in (("train", model.train_indices), ("validation", model.validation_indices)):
        a, b = raw[rows], found[rows]
        out[name] = {
            "R²": float(1 - ((a - b) ** 2).sum() / ((a - a.mean()) ** 2).sum()),
            "Pearson": float(np.corrcoef(a, b)[0, 1]),
            "mean absolute error": float(np.abs(a - b).mean()),
            "mean raw": float(a.mean()),
            "mean drawn": float(b.mean()),
        }
    return out


def main():
    """Train, draw and print the table."""
    args = arguments()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    warnings.simplefilter("ignore")
    import anndata
    import numpy as np
    import scipy.sparse as sp
    import scvi
    import torch

    torch.set_num_threads(args.threads)
    scvi.settings.verbosity = 40
    data = anndata.read_h5ad(args.data)
    data.X = sp.csr_matrix(data.X, dtype=np.float32)
    data = anndata.AnnData(data.X, obs=data.obs[[args.batch_key] if args.batch_key else []], var=data.var[[]])
    raw, runs = variation(data.X.astype(np.float64)), []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        data.write_h5ad(folder / "cells.h5ad")
        for seed in args.seeds:
            for program in ("scvi-tools", "sc-latent"):
                model = theirs(args, data.copy(), seed) if program == "scvi-tools" else ours(args, seed, folder)
                runs.append({"program": program, "seed": seed} | compare(model, raw, args.samples))
                print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    print(f"{pathlib.Path(args.data).name}: {data.n_obs} cells, {data.n_vars} genes, {args.epochs} epochs, {len(args.seeds)} seeds")
    names = list(runs[0]["train"])
    print("| program | cells | " + " | ".join(names) + " |\n|" + "---|" * (2 + len(names)))
    for program in ("scvi-tools", "sc-latent"):
        for part in ("train", "validation"):
            values = {n: [r[part][n] for r in runs if r["program"] == program] for n in names}
            spread = lambda v: f" ± {statistics.stdev(v):.3f}" if len(v) > 1 else ""
            print(f"| {program} | {part} | " + " | ".join(f"{statistics.fmean(v):.3f}{spread(v)}" for v in values.values()) + " |")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"arguments": vars(args), "runs": runs}, indent=1))


if __name__ == "__main__":
    main()
