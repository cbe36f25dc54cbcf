#!/usr/bin/env python3
"""Train CLUE on the same cells with scglue and with `sc integrate train`, in turns, and print what an epoch and the memory cost.

    cargo build --release -p sc-cli
    benches/peers/.venv/bin/python benches/peers/clue.py --cells 10000

The cells are made up: RNA (2,000 genes) and proteins (134) of 12 kinds of cells in two batches, all paired; the encoders read 100
principal components of both. Settings are those of the winner of the CITE-seq tasks of NeurIPS 2021, in both programs, with a tenth of
the cells for validation after every epoch. Needs scglue (0.4.1) beside the packages of requirements.txt.

    benches/peers/.venv/bin/python benches/peers/clue.py --mosaic --cells 100000

trains with `sc` alone on compressed files that stay on the disk: the first 70 % of the cells have RNA, the last 70 % proteins.

An epoch of scglue is the difference of two trainings of different lengths; `sc` reports its own. Memory is what the process holds at
most, and by how much that is more than after its imports.
"""
import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
SETTINGS = {"latent_dim": 20, "x2u_h_depth": 2, "x2u_h_dim": 512, "u2x_h_depth": 1, "u2x_h_dim": 128, "du_h_depth": 2, "du_h_dim": 128,
            "dropout": 0.2, "shared_batches": True}
WEIGHTS = {"lam_data": 1.0, "lam_kl": 1.0, "lam_align": 2.0, "lam_joint_cross": 2.0, "lam_real_cross": 0.0, "lam_cos": 1.0, "lr": 2e-3}


class Cells:
    """Made-up cells of 12 kinds."""

    def __init__(self, cells, seed=0):
        import numpy as np

        self.rng = np.random.default_rng(seed)
        self.kinds = self.rng.integers(12, size=cells)
        self.batch = self.rng.integers(2, size=cells)

    def counts(self, features, depth):
        """In pieces, so that no dense array is large."""
        import numpy as np
        import scipy.sparse as sp

        profile = self.rng.gamma(0.3, 1.0, size=(12, features)) * self.rng.gamma(0.5, 1.0, size=features)
        profile /= profile.sum(1, keepdims=True)
        pieces = []
        for start in range(0, len(self.kinds), 10_000):
            kinds = self.kinds[start : start + 10_000]
            size = depth * self.rng.lognormal(0, 0.3, size=len(kinds))
            noise = self.rng.gamma(5, 0.2, size=(len(kinds), features))
            pieces.append(sp.csr_matrix(self.rng.poisson(profile[kinds] * size[:, None] * noise).astype(np.float32)))
        return sp.vstack(pieces, format="csr")

    def anndata(self, name, x):
        import anndata as ad
        import pandas as pd

        obs = pd.DataFrame({"batch": pd.Categorical([f"b{b}" for b in self.batch]), "kind": pd.Categorical([f"k{k}" for k in self.kinds])},
                           index=[f"cell{i}" for i in range(len(self.kinds))])
        return ad.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"{name}{i}" for i in range(x.shape[1])]))


MODALITIES = [("rna", 2000, 1500), ("adt", 134, 3000)]


def make(folder, cells, components=True):
    """Two files with counts and, if asked for, components."""
    import numpy as np

    made = Cells(cells)
    for name, features, depth in MODALITIES:
        data = made.anndata(name, made.counts(features, depth))
        if components:
            x = data.X.toarray()
            logs = np.log1p(1e4 * x / np.maximum(x.sum(1, keepdims=True), 1))
            logs = (logs - logs.mean(0)) / (logs.std(0) + 1e-6)
            u, s, _ = np.linalg.svd(logs @ made.rng.normal(size=(features, 120)).astype(np.float32), full_matrices=False)
            data.obsm["X_pca"] = (u[:, :100] * s[:100]).astype(np.float32)
        else:
            share = int(0.7 * cells)
            data = data[:share] if name == "rna" else data[-share:]
        data.write_h5ad(folder / f"{name}.h5ad", compression=None if components else "gzip")


def peer(args):
    """scglue's side, in a process of its own."""
    import anndata as ad
    import scglue
    import torch

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    adatas = {}
    for name in ("rna", "adt"):
        adatas[name] = ad.read_h5ad(args.folder / f"{name}.h5ad")
        scglue.models.configure_dataset(adatas[name], "NB", use_highly_variable=False, use_rep="X_pca", use_batch="batch",
                                        use_obs_names=True)

    def train(epochs):
        model = scglue.models.SCCLUEModel(adatas, random_seed=0, **SETTINGS)
        model.compile(**WEIGHTS)
        start = time.perf_counter()
        model.fit(adatas, val_split=0.1, batch_size=128, align_burnin=1, max_epochs=epochs, patience=10_000,
                  reduce_lr_patience=10_000, directory=str(args.folder / f"scglue{epochs}"))
        return time.perf_counter() - start

    short, long = train(1), train(1 + args.epochs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": (long - short) / args.epochs, "peak": peak, "growth": peak - before}))


def ours(args):
    environment = dict(os.environ, MIMALLOC_ALLOW_THP="0")
    out = args.folder / "model"
    command = [args.sc, "integrate", "train", f"rna={args.folder}/rna.h5ad", f"adt={args.folder}/adt.h5ad", "--out", str(out), "--settings",
               "cite", "--use-rep", "rna=X_pca", "--use-rep", "adt=X_pca", "--batch-key", "batch", "--epochs", str(1 + args.epochs),
               "--threads", str(args.threads), "--json"]
    text = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True, env=environment).stdout
    report = json.loads(text.splitlines()[-1])
    return {"seconds": statistics.median(report["epoch_seconds"][1:]), "peak": report["peak_rss_bytes"], "growth": report["peak_rss_bytes"]}


def mosaic(args):
    """Files that stay on the disk."""
    make(args.folder, args.cells, components=False)
    command = [args.sc, "integrate", "train", f"rna={args.folder}/rna.h5ad", f"adt={args.folder}/adt.h5ad", "--out", str(args.folder / "model"),
               "--settings", "cite", "--batch-key", "batch", "--epochs", str(1 + args.epochs), "--threads", str(args.threads), "--json", "--backed",
               "--block-size", "512", "--blocks", "16"]
    text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    report = json.loads(text.splitlines()[-1])
    size = sum((args.folder / f"{name}.h5ad").stat().st_size for name, _, _ in MODALITIES)
    print(f"{args.cells:,} cells, {size / 1e6:.0f} MB on the disk: {statistics.median(report['epoch_seconds']):.1f} s an epoch, "
          f"{report['peak_rss_bytes'] / 1e6:.0f} MB at most")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=3, help="that count; one more is trained")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=pathlib.Path, default=HERE / "data" / "clue")
    parser.add_argument("--sc", default=str(HERE.parent.parent / "target" / "release" / "sc"))
    parser.add_argument("--mosaic", action="store_true", help="files on the disk, cells with one or both modalities; sc only")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return peer(args)
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.mosaic:
        return mosaic(args)
    make(args.folder, args.cells)
    runs = {"scglue": [], "sc": []}
    for _ in range(args.repeats):
        command = [sys.executable, __file__, "--peer", *sys.argv[1:]]
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        runs["scglue"].append(json.loads(out.splitlines()[-1]))
        runs["sc"].append(ours(args))
    best = {name: {key: min(run[key] for run in of) for key in of[0]} for name, of in runs.items()}
    print(f"{args.cells:,} cells, {args.threads} threads, best of {args.repeats}")
    for name, of in best.items():
        print(f"{name:8} {of['seconds']:.3f} s an epoch, {of['peak'] / 1e6:.0f} MB at most, {of['growth'] / 1e6:.0f} MB more than at the start")
    print(f"ratio    {best['scglue']['seconds'] / best['sc']['seconds']:.2f}, memory {best['sc']['peak'] / best['scglue']['peak']:.2f} of the process, "
          f"{best['sc']['growth'] / best['scglue']['growth']:.2f} of the growth")


if __name__ == "__main__":
    sys.exit(main())
