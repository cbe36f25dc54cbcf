#!/usr/bin/env python3
"""How well two tables of differential expression agree: scvi-tools with itself, `sc` with scvi-tools, `sc` with itself.

Both programs compare the same two groups by the same model, with several seeds each. Printed is the mean over all pairs
of runs of the rank correlation of the mean log fold change, that of the probability of a change, and the overlap (Jaccard)
of the genes that are called.

    python benches/peers/de_agreement.py model cells.h5ad --groupby cell_type --group1 B --group2 T --sc target/release/sc

A model that is not there yet is trained with scvi-tools and saved (--batch-key, --epochs).
"""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="agreement of differential expression between programs and seeds")
    parser.add_argument("model", type=pathlib.Path, help="a folder that scvi-tools saved, or will be told to save")
    parser.add_argument("data", metavar="DATA.h5ad")
    parser.add_argument("--groupby", required=True)
    parser.add_argument("--group1", required=True)
    parser.add_argument("--group2", help="default: all the other cells")
    parser.add_argument("--batch-correction", action="store_true")
    parser.add_argument("--filter-outliers", action="store_true")
    parser.add_argument("--seeds", type=int, default=6, help="runs of each program")
    parser.add_argument("--sc", default=str(ROOT / "target" / "release" / "sc"), help="the sc program")
    parser.add_argument("--batch-key", help="of a model that is to be trained")
    parser.add_argument("--epochs", type=int, default=50, help="of a model that is to be trained")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the numbers here")
    return parser.parse_args()


def theirs(args):
    """Log fold change, probability and calls of scvi-tools, gene by gene, for each seed."""
    import anndata
    import scvi

    warnings.filterwarnings("ignore")
    scvi.settings.verbosity = 40
    data = anndata.read_h5ad(args.data)
    if not (args.model / "model.pt").exists():
        scvi.settings.seed = 0
        scvi.model.SCVI.setup_anndata(data, batch_key=args.batch_key)
        model = scvi.model.SCVI(data)
        model.train(max_epochs=args.epochs, accelerator="cpu", devices=1, enable_progress_bar=False)
        model.save(args.model, overwrite=True)
    model = scvi.model.SCVI.load(args.model, adata=data)
    runs = []
    for seed in range(args.seeds):
        scvi.settings.seed = 100 + seed
        table = model.differential_expression(
            groupby=args.groupby, group1=args.group1, group2=args.group2, mode="change", silent=True,
            batch_correction=args.batch_correction, filter_outlier_cells=args.filter_outliers,
        )
        runs.append(columns(table.loc[data.var_names]))
    return runs, data.var_names


def ours(args, genes):
    """The same of `sc de`."""
    import pandas as pd

    group2 = ["--group2", args.group2] if args.group2 else []
    flags = ["--batch-correction"] * args.batch_correction + ["--filter-outliers"] * args.filter_outliers
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "de.tsv")
        for seed in range(args.seeds):
            command = [args.sc, "de", args.model, args.data, "--groupby", args.groupby, "--group1", args.group1, *group2,
                       *flags, "--seed", str(seed), "--out", out]
            subprocess.run(command, check=True, capture_output=True)
            table = pd.read_csv(out, sep="\t", index_col=0, keep_default_na=False, na_values=[""])
            runs.append(columns(table.set_axis(table.index.astype(str)).loc[genes]))
    return runs


def columns(table):
    """What is compared."""
    calls = table["is_de_fdr_0.05"].to_numpy().astype(bool)
    return table["lfc_mean"].to_numpy(), table["proba_de"].to_numpy(), calls


def agreement(pairs):
    """The means over pairs of runs."""
    from scipy.stats import spearmanr

    def of(a, b):
        shared, either = (a[2] & b[2]).sum(), (a[2] | b[2]).sum()
        return [spearmanr(a[0], b[0])[0], spearmanr(a[1], b[1])[0], shared / either if either else 1.0]

    return np.mean([of(a, b) for a, b in pairs], 0).tolist()


def main():
    args = arguments()
    with contextlib.redirect_stdout(sys.stderr):
        peer, genes = theirs(args)
    own = ours(args, genes)
    found = {
        "scvi-tools with itself": agreement(itertools.combinations(peer, 2)),
        "sc with scvi-tools": agreement(itertools.product(own, peer)),
        "sc with itself": agreement(itertools.combinations(own, 2)),
    }
    print(f"{'':24} {'lfc_mean':>9} {'proba_de':>9} {'calls':>9}")
    for name, (lfc, proba, calls) in found.items():
        print(f"{name:24} {lfc:9.5f} {proba:9.5f} {calls:9.4f}")
    if args.json:
        args.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
