#!/usr/bin/env python3
"""Train the same model with scvi-tools and with this workspace over many seeds, and compare where training ends.

Of each trained model the bound, its two parts, the spread of the posterior means, the mean posterior variance and the size
(root mean square) of every tensor of weights are taken, all by scvi-tools, which opens both. Printed are both means and how
many standard errors they lie apart (Welch's t). Among 30 figures one beyond 2 is chance; one beyond 4 is not.

    training.py DATA.h5ad --batch-key KEY [--held-out BATCH] --model scarches --epochs 100 --seeds 20 21 22 --json FILE

With --json figures are added to the file as soon as they are there, and those that it has are not computed again. The
models are those of map_accuracy.py. Build the other side first: cargo build --release -p sc-benches --bin map_accuracy
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import warnings

import map_accuracy

PROGRAMS = ["scvi-tools", "sc-latent"]


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA.h5ad", help="raw counts in X")
    parser.add_argument("--batch-key", required=True)
    parser.add_argument("--held-out", help="a batch to leave out")
    parser.add_argument("--genes", type=int, default=1000, help="keep the most variable genes")
    parser.add_argument("--model", choices=["scarches", "default", "batchnorm"], default="default")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(8)))
    parser.add_argument("--only", choices=PROGRAMS, help="train with one program")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--binary", default="target/release/map_accuracy")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    args = parser.parse_args()
    args.label_key, args.scanvi, args.reference_epochs = args.batch_key, False, args.epochs
    return args


def cells(args):
    """What both train on."""
    import anndata

    adata = anndata.read_h5ad(args.data)
    if args.held_out is None:
        # `split` wants a batch to hold out: a copy of one cell, in a batch of its own.
        extra = adata[:1].copy()
        extra.obs[args.batch_key] = "none"
        adata.obs[args.batch_key] = adata.obs[args.batch_key].astype(str)
        adata = anndata.concat([adata, extra], index_unique="-")
        args.held_out = "none"
    return map_accuracy.split(args, adata)[0]


def figures(folder, data):
    """Where the training of a model ended."""
    import numpy as np
    import scvi

    model = scvi.model.SCVI.load(folder, data.copy(), accelerator="cpu")
    scvi.settings.seed = 0
    mean, variance = model.get_latent_representation(return_dist=True)
    out = {
        "-ELBO": abs(float(model.get_elbo())),
        "reconstruction": float(model.get_reconstruction_error()["reconstruction_loss"]),
        "KL": float(0.5 * (mean**2 + variance - 1 - np.log(variance)).sum(1).mean()),
        "posterior variance": float(variance.mean()),
        "spread of means": float(mean.std(0).mean()),
    }
    weights = {k: v for k, v in model.module.state_dict().items() if v.dtype.is_floating_point and v.numel() > 1}
    return out | {k: float(v.double().pow(2).mean().sqrt()) for k, v in weights.items()}


def table(runs):
    """Means of both programs, and their distance."""
    by = [[r["figures"] for r in runs if r["program"] == program] for program in PROGRAMS]
    lines = [f"| | {PROGRAMS[0]}, {len(by[0])} seeds | {PROGRAMS[1]}, {len(by[1])} seeds | standard errors apart |", "|---|---:|---:|---:|"]
    for name in by[0][0]:
        values = [[f[name] for f in figures if name in f] for figures in by]
        if min(map(len, values)) < 2:
            continue
        error = sum(statistics.variance(v) / len(v) for v in values) ** 0.5
        means = [statistics.mean(v) for v in values]
        apart = (means[1] - means[0]) / error if error > 0 else 0.0
        lines.append(f"| {name} | {means[0]:.4f} | {means[1]:.4f} | {apart:+.1f} |")
    return "\n".join(lines)


def main():
    """Train, look, print."""
    args = arguments()
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(args.threads)
    known = json.loads(args.json.read_text()) if args.json and args.json.exists() else []
    data = cells(args)
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        data.write_h5ad(work / "reference.h5ad")
        for seed in args.seeds:
            for program in [args.only] if args.only else PROGRAMS:
                if any((r["program"], r["seed"]) == (program, seed) for r in known):
                    continue
                folder = work / f"{program}-{seed}"
                if program == PROGRAMS[0]:
                    map_accuracy.train_theirs(args, data, seed, folder)
                else:
                    map_accuracy.train_ours(args, work, seed, folder)
                known.append({"program": program, "seed": seed, "figures": figures(folder, data)})
                if args.json:
                    args.json.write_text(json.dumps(known))
                print(f"{program}, seed {seed}", file=sys.stderr)
    if {r["program"] for r in known} == set(PROGRAMS):
        print(table(known))


if __name__ == "__main__":
    main()
