#!/usr/bin/env python3
"""Map a held-out batch onto a reference with scvi-tools and with this workspace, and compare how many of its cells
get the label of their nearest neighbours in the reference.

For each seed both programs train a reference on all batches but one, map the one that was held out, and give the places
of all cells. One and the same k-nearest-neighbour vote then judges both: each held-out cell takes the label that most of
its k nearest reference cells have; the accuracy is the share of cells for which that is their true label. Cells whose
label no reference cell has are left out. With --cross each program maps the other's reference too, which tells what comes
of the reference and what of mapping.

The model is the one recommended as a reference for mapping: layer norm instead of batch norm, covariates encoded, two
layers, dropout 0.2 (--model batchnorm: the same with batch norm; --model default: scVI's defaults with covariates encoded).
With --scanvi, scANVI begins with that model, and its classifier is judged too (column "classifier"): it never sees a label
of the query. The query is trained as by scvi-hub's authors: no weight decay, until the training ELBO has not improved by
0.001 for 10 epochs.

Each query that this workspace mapped is opened with scvi-tools; places and probabilities must be the same (column "differs":
the largest difference of any number).

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
    parser.add_argument("--model", choices=["scarches", "default", "batchnorm"], default="scarches")
    parser.add_argument("--scanvi", action="store_true", help="a model with a classifier")
    parser.add_argument("--cross", action="store_true", help="map each reference with both programs")
    parser.add_argument("--ways", nargs="+", default=["default"], choices=["default", "upstream", "freeze-dropout", "all-epochs"], help="how the Rust side maps")
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


def options(args):
    """Of the model, as scvi-tools calls them."""
    of = {
        "default": {},
        "batchnorm": {"n_layers": 2, "dropout_rate": 0.2},
        "scarches": {"use_layer_norm": "both", "use_batch_norm": "none", "n_layers": 2, "dropout_rate": 0.2},
    }
    return {"encode_covariates": True} | of[args.model]


QUIET = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}


def train_theirs(args, reference, seed, folder):
    """scvi-tools' reference, saved; seconds."""
    import scvi

    scvi.settings.seed = seed
    reference = reference.copy()
    start = time.perf_counter()
    scvi.model.SCVI.setup_anndata(reference, batch_key="batch")
    model = scvi.model.SCVI(reference, **options(args))
    model.train(max_epochs=args.reference_epochs, **QUIET)
    if args.scanvi:
        model = scvi.model.SCANVI.from_scvi_model(model, unlabeled_category="Unknown", labels_key="label")
        model.train(**QUIET)
    model.save(folder, overwrite=True)
    return time.perf_counter() - start


def train_ours(args, data, seed, folder):
    """The same of the Rust side."""
    more = ["--scanvi"] if args.scanvi else []
    sizes = ["--model", args.model, "--epochs", args.reference_epochs, "--seed", seed]
    return run(args, "train", data, "--out", folder, *sizes, *more)["seconds"]


def map_theirs(args, reference, query, seed, folder):
    """Places of both and what the classifier says, by scvi-tools."""
    import scvi

    kind = scvi.model.SCANVI if args.scanvi else scvi.model.SCVI
    query = query.copy()
    query.obs["label"] = "Unknown"
    model = kind.load(folder, reference.copy(), accelerator="cpu")
    scvi.settings.seed = seed
    start = time.perf_counter()
    kind.prepare_query_anndata(query, str(folder))
    mapped = kind.load_query_data(query, str(folder), accelerator="cpu")
    mapped.train(
        max_epochs=args.query_epochs,
        plan_kwargs={"weight_decay": 0.0},
        early_stopping=True,
        early_stopping_monitor="elbo_train",
        early_stopping_patience=10,
        early_stopping_min_delta=0.001,
        **QUIET,
    )
    return {
        "query_seconds": time.perf_counter() - start,
        "query_epochs": len(mapped.history["elbo_train"]),
        "places": [model.get_latent_representation(), mapped.get_latent_representation()],
        "labels": mapped.predict() if args.scanvi else None,
    }


def map_ours(args, data, query, seed, folder, way):
    """The same by the Rust side, and how far scvi-tools is from it with the same weights."""
    import anndata

    out = data / "mapped"
    sizes = ["--epochs", args.query_epochs, "--seed", seed, "--how", way]
    report = run(args, "map", data, "--reference", folder, "--out", out, *sizes)
    places = [anndata.read_h5ad(out / name) for name in ("reference.h5ad", "query.h5ad")]
    labels, differs = reopened(args, query, out, places[1])
    return {
        "query_seconds": report["seconds"],
        "query_epochs": report["epochs"],
        "places": [p.obsm["X_scVI"] for p in places],
        "labels": labels,
        "differs": differs,
    }


def reopened(args, query, folder, ours):
    """The labels that our numbers mean, and the largest difference from those of scvi-tools with the same weights."""
    import numpy as np
    import scvi

    kind = scvi.model.SCANVI if args.scanvi else scvi.model.SCVI
    query = query.copy()
    if args.scanvi:
        query.obs["label"] = "Unknown"
    model = kind.load(folder, query, accelerator="cpu")
    differs = np.abs(model.get_latent_representation() - ours.obsm["X_scVI"]).max()
    if not args.scanvi:
        return None, float(differs)
    theirs = model.predict(soft=True)
    differs = max(differs, np.abs(theirs.to_numpy() - ours.obsm["probabilities"]).max())
    return theirs.columns.to_numpy()[ours.obsm["probabilities"].argmax(1)], float(differs)


def run(args, *command):
    """A command of the Rust side, and what it reports."""
    environment = os.environ | {"RAYON_NUM_THREADS": str(args.threads)}
    command = [args.binary, *map(str, command)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout)


def judge(args, report, reference, query):
    """The share of query cells whose k nearest reference cells vote for their label, and that of the classifier."""
    import numpy as np
    from sklearn.neighbors import KNeighborsClassifier

    places, labels = report.pop("places"), report.pop("labels")
    known = np.isin(query.obs["label"], reference.obs["label"].unique())
    truth = query.obs["label"][known].to_numpy()
    out = {}
    for k in args.k:
        vote = KNeighborsClassifier(n_neighbors=k, algorithm="brute").fit(places[0], reference.obs["label"])
        out[f"k = {k}"] = float((vote.predict(places[1][known]) == truth).mean())
    if labels is not None:
        out["classifier"] = float((np.asarray(labels)[known] == truth).mean())
    return out


def seeds_of(args, reference, query, folder):
    """All runs, as they come."""
    for seed in args.seeds:
        seconds = {}
        for maker in ("scvi-tools", "sc-latent"):
            of = (args, reference) if maker == "scvi-tools" else (args, folder)
            seconds[maker] = (train_theirs if maker == "scvi-tools" else train_ours)(*of, seed, folder / maker)
        for maker in seconds:
            for way in ["scvi-tools", *args.ways]:
                theirs = way == "scvi-tools"
                if not args.cross and theirs != (maker == "scvi-tools"):
                    continue
                if theirs:
                    report = map_theirs(args, reference, query, seed, folder / maker)
                else:
                    report = map_ours(args, folder, query, seed, folder / maker, way)
                report["accuracy"] = judge(args, report, reference, query)
                name = way if theirs or way == "default" else f"sc-latent, {way}"
                name = "sc-latent" if way == "default" else name
                yield {"reference": maker, "mapped by": name, "seed": seed, "reference_seconds": seconds[maker]} | report


def table(args, runs):
    """One line for each way: means over seeds, and how sure they are."""
    import statistics

    metrics = list(runs[0]["accuracy"])
    print("| reference | mapped by | " + " | ".join(metrics) + " | epochs | reference s | query s | differs |")
    print("|" + "---|" * (6 + len(metrics)))
    for way in dict.fromkeys((r["reference"], r["mapped by"]) for r in runs):
        mine = [r for r in runs if (r["reference"], r["mapped by"]) == way]
        mean = lambda of: statistics.fmean(map(of, mine))
        error = lambda of: statistics.stdev(map(of, mine)) / len(mine) ** 0.5 if len(mine) > 1 else float("nan")
        share = lambda m: f"{100 * mean(lambda r: r['accuracy'][m]):.1f} ± {100 * error(lambda r: r['accuracy'][m]):.1f} %"
        differs = max((r["differs"] for r in mine if "differs" in r), default=None)
        rest = [f"{mean(lambda r: r[k]):.1f}" for k in ("query_epochs", "reference_seconds", "query_seconds")]
        print("| " + " | ".join([*way, *map(share, metrics), *rest, "" if differs is None else f"{differs:.0e}"]) + " |")


def main():
    """Run both and print the table."""
    args = arguments()
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(args.threads)
    runs = []
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
        import anndata
        import scvi
        import torch

        torch.set_num_threads(args.threads)
        torch.set_flush_denormal(True)
        scvi.settings.verbosity = 40
        folder = pathlib.Path(folder)
        reference, query = split(args, anndata.read_h5ad(args.data))
        reference.write_h5ad(folder / "reference.h5ad")
        query.write_h5ad(folder / "query.h5ad")
        name = pathlib.Path(args.data).name
        for report in seeds_of(args, reference, query, folder):
            runs.append(report)
            print(json.dumps(report), file=sys.stderr, flush=True)
            if args.json:
                text = json.dumps({"data": name, "arguments": vars(args), "runs": runs}, indent=1)
                pathlib.Path(args.json).write_text(text)
    kind = "scANVI" if args.scanvi else "scVI"
    print(f"{name}: {query.n_obs} cells of {args.held_out} onto {reference.n_obs}, {reference.n_vars} genes, {kind} {args.model}, {len(args.seeds)} seeds")
    table(args, runs)


if __name__ == "__main__":
    main()
