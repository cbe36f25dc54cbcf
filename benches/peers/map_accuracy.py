#!/usr/bin/env python3
"""Map a held-out batch onto a reference with scvi-tools and with this workspace, and compare how many of its cells
get the label of their nearest neighbours in the reference.

For each seed both programs train a reference on all batches but one, map the one that was held out, and give the places
of all cells. One and the same k-nearest-neighbour vote then judges both: each held-out cell takes the label that most of
its k nearest reference cells have; the accuracy is the share of cells for which that is their true label. Cells whose
label no reference cell has are left out.

The model is the one recommended as a reference for mapping: layer norm instead of batch norm, covariates encoded, two
layers, dropout 0.2 (--model default: scVI's defaults with covariates encoded). The query is trained as by scvi-hub's
authors: no weight decay, until the training ELBO has not improved by 0.001 for 10 epochs.

Build the other side first: cargo build --release -p sc-benches --bin map_accuracy
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA.h5ad", help="raw counts in X")
    parser.add_argument("--batch-key", required=True)
    parser.add_argument("--label-key", required=True)
    parser.add_argument("--held-out", required=True, help="the batch to map")
    parser.add_argument("--genes", type=int, default=2000, help="keep the most variable genes of the reference")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--reference-epochs", type=int, default=150)
    parser.add_argument("--query-epochs", type=int, default=200)
    parser.add_argument("--model", choices=["scarches", "default"], default="scarches")
    parser.add_argument("-k", type=int, nargs="+", default=[15, 30, 50])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--binary", default="target/release/map_accuracy")
    parser.add_argument("--json", metavar="FILE", help="write all numbers here")
    return parser.parse_args()


def split(args, adata):
    """Reference and query, with the genes that vary most in the reference."""
    import numpy as np
    import scipy.sparse as sp

    adata.obs["batch"] = adata.obs[args.batch_key].astype(str)
    adata.obs["label"] = adata.obs[args.label_key].astype(str)
    adata.obs = adata.obs[["batch", "label"]]
    adata.X = sp.csr_matrix(adata.X, dtype=np.float32)
    held_out = (adata.obs["batch"] == args.held_out).to_numpy()
    if held_out.sum() == 0:
        sys.exit(f"no cell has {args.batch_key} = {args.held_out}; there are {sorted(set(adata.obs['batch']))}")
    x = adata.X[~held_out]
    x = sp.diags(1e4 / np.maximum(np.asarray(x.sum(1)).ravel(), 1)) @ x
    x.data = np.log1p(x.data)
    variance = np.asarray(x.multiply(x).mean(0)).ravel() - np.asarray(x.mean(0)).ravel() ** 2
    genes = np.sort(np.argsort(-variance, kind="stable")[: args.genes])
    parts = [adata[rows, genes].copy() for rows in (~held_out, held_out)]
    return [p[np.asarray(p.X.sum(1)).ravel() > 0].copy() for p in parts]


def scvi_tools(args, reference, query, seed):
    """Places of both, and seconds."""
    import scvi

    scvi.settings.seed = seed
    scvi.settings.verbosity = 40
    options = {"encode_covariates": True}
    if args.model == "scarches":
        options |= {"use_layer_norm": "both", "use_batch_norm": "none", "n_layers": 2, "dropout_rate": 0.2}
    reference, query = reference.copy(), query.copy()
    quiet = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}
    start = time.perf_counter()
    scvi.model.SCVI.setup_anndata(reference, batch_key="batch")
    model = scvi.model.SCVI(reference, **options)
    model.train(max_epochs=args.reference_epochs, **quiet)
    trained = time.perf_counter()
    scvi.model.SCVI.prepare_query_anndata(query, model)
    mapped = scvi.model.SCVI.load_query_data(query, model)
    mapped.train(
        max_epochs=args.query_epochs,
        plan_kwargs={"weight_decay": 0.0},
        early_stopping=True,
        early_stopping_monitor="elbo_train",
        early_stopping_patience=10,
        early_stopping_min_delta=0.001,
        **quiet,
    )
    ended = time.perf_counter()
    return {
        "places": [model.get_latent_representation(), mapped.get_latent_representation()],
        "reference_seconds": trained - start,
        "query_seconds": ended - trained,
        "query_epochs": len(mapped.history["elbo_train"]),
    }


def ours(args, folder, seed):
    """The same of the Rust side, which reads and writes files in `folder`."""
    import anndata

    command = [args.binary, str(folder), args.model, str(args.reference_epochs), str(args.query_epochs), str(seed)]
    environment = os.environ | {"RAYON_NUM_THREADS": str(args.threads)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    report = json.loads(done.stdout)
    names = ["reference_places.h5ad", "query_places.h5ad"]
    report["places"] = [anndata.read_h5ad(folder / name).obsm["X_scVI"] for name in names]
    return report


def accuracy(places, reference, query, k):
    """The share of query cells whose k nearest reference cells vote for their label."""
    import numpy as np
    from sklearn.neighbors import KNeighborsClassifier

    known = np.isin(query.obs["label"], reference.obs["label"].unique())
    vote = KNeighborsClassifier(n_neighbors=k, algorithm="brute").fit(places[0], reference.obs["label"])
    return float((vote.predict(places[1][known]) == query.obs["label"][known].to_numpy()).mean())


def main():
    """Run both and print the table."""
    args = arguments()
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(args.threads)
    runs = []
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
        import anndata
        import torch

        torch.set_num_threads(args.threads)
        torch.set_flush_denormal(True)
        folder = pathlib.Path(folder)
        reference, query = split(args, anndata.read_h5ad(args.data))
        reference.write_h5ad(folder / "reference.h5ad")
        query.write_h5ad(folder / "query.h5ad")
        for seed in args.seeds:
            for program in ("scvi-tools", "sc-latent"):
                report = scvi_tools(args, reference, query, seed) if program == "scvi-tools" else ours(args, folder, seed)
                places = report.pop("places")
                report["accuracy"] = {k: accuracy(places, reference, query, k) for k in args.k}
                runs.append({"program": program, "seed": seed} | report)
                print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    name = pathlib.Path(args.data).name
    print(f"{name}: {query.n_obs} cells of {args.held_out} onto {reference.n_obs}, {reference.n_vars} genes, model {args.model}")
    print("| program | seed | " + " | ".join(f"k = {k}" for k in args.k) + " | reference s | query s | query epochs |")
    print("|" + "---|" * (5 + len(args.k)))
    for r in runs:
        cells = [f"{100 * r['accuracy'][k]:.1f} %" for k in args.k]
        times = [f"{r['reference_seconds']:.1f}", f"{r['query_seconds']:.1f}", str(r["query_epochs"])]
        print(f"| {r['program']} | {r['seed']} | " + " | ".join(cells + times) + " |")
    for program in ("scvi-tools", "sc-latent"):
        mine = [r for r in runs if r["program"] == program]
        means = [f"{100 * sum(r['accuracy'][k] for r in mine) / len(mine):.1f} %" for k in args.k]
        print(f"| {program} | mean | " + " | ".join(means) + " | | | |")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"data": name, "arguments": vars(args), "runs": runs}, indent=1))


if __name__ == "__main__":
    main()
