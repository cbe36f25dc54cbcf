#!/usr/bin/env python3
"""Train scvi-tools' SCVI (or SCANVI) on one count file and print one JSON line: seconds per epoch, peak memory, loss.

The model is the default one (ZINB, gene dispersion, 128 hidden units, 10 latent dimensions, one layer) unless an
option says otherwise. It runs on the CPU, without validation, without a progress bar. Only the epochs are timed:
imports, reading the file and setting the model up are reported apart. The JSON is the last line of stdout;
everything that the libraries print goes to stderr.
"""

import argparse
import contextlib
import gc
import importlib.metadata
import json
import os
import platform
import resource
import sys
import time


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="time scvi-tools' SCVI on the CPU; prints one JSON line")
    parser.add_argument("data", metavar="DATA.h5ad")
    parser.add_argument("--model", default="scvi", choices=["scvi", "scanvi"])
    parser.add_argument("--labels-key", default="cluster", help="for scanvi")
    parser.add_argument("--unlabeled-category", default="cluster0", help="for scanvi")
    parser.add_argument("--epochs", type=int, default=3, help="0: only time reading the file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-key", default="batch")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--train-size", type=float, default=None, help="fraction of cells to train on (default: scvi-tools' own, 0.9)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-hidden", type=int, default=128)
    parser.add_argument("--n-latent", type=int, default=10)
    parser.add_argument("--n-layers", type=int, default=1)
    parser.add_argument("--gene-likelihood", default="zinb", choices=["zinb", "nb", "poisson"])
    parser.add_argument("--no-flush-denormal", action="store_true", help="leave denormal numbers as torch has them by default")
    parser.add_argument("--read-times", type=int, default=3, help="how often to time anndata reading the file, after training")
    return parser.parse_args()


def peak_rss_bytes():
    """Largest resident set of this process so far (Linux counts in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def versions():
    """Versions of what decides the speed."""
    names = ["scvi-tools", "torch", "lightning", "anndata", "h5py", "numpy", "scipy"]
    found = {name: importlib.metadata.version(name) for name in names}
    found["python"] = platform.python_version()
    return found


def time_reading(path, times):
    """Seconds that `anndata.read_h5ad` takes, `times` times over (the first may find the file cold)."""
    import anndata

    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        adata = anndata.read_h5ad(path)
        seconds.append(time.perf_counter() - start)
        del adata
        gc.collect()
    return seconds


def epoch_clock():
    """A Lightning callback whose `epoch_seconds` partition the training time between the epochs."""
    from lightning.pytorch.callbacks import Callback

    class EpochClock(Callback):
        """Marks the start of every epoch and the end of training; what lies between two marks is one epoch."""

        def __init__(self):
            self.marks = []

        def on_train_epoch_start(self, trainer, pl_module):
            self.marks.append(time.perf_counter())

        def on_train_end(self, trainer, pl_module):
            self.marks.append(time.perf_counter())

        @property
        def epoch_seconds(self):
            return [later - earlier for earlier, later in zip(self.marks, self.marks[1:])]

    return EpochClock()


def train(args, torch):
    """Read, set up, train; returns the report's fields about it."""
    started = time.perf_counter()
    import anndata
    import scvi

    imported = time.perf_counter()
    rss_after_import = peak_rss_bytes()
    scvi.settings.seed = args.seed
    scvi.settings.verbosity = 40
    adata = anndata.read_h5ad(args.data)
    read = time.perf_counter()
    rss_after_read = peak_rss_bytes()
    keys = {"batch_key": args.batch_key}
    if args.model == "scanvi":
        keys |= {"labels_key": args.labels_key, "unlabeled_category": args.unlabeled_category}
    kind = {"scvi": scvi.model.SCVI, "scanvi": scvi.model.SCANVI}[args.model]
    kind.setup_anndata(adata, **keys)
    model = kind(
        adata,
        n_hidden=args.n_hidden,
        n_latent=args.n_latent,
        n_layers=args.n_layers,
        gene_likelihood=args.gene_likelihood,
    )
    clock = epoch_clock()
    ready = time.perf_counter()
    model.train(
        max_epochs=args.epochs,
        accelerator="cpu",
        devices=1,
        train_size=args.train_size,
        batch_size=args.batch_size,
        early_stopping=False,
        enable_progress_bar=False,
        callbacks=[clock],
    )
    ended = time.perf_counter()
    history = model.history
    return {
        "n_cells": int(adata.n_obs),
        "n_genes": int(adata.n_vars),
        "n_train": len(model.train_indices),
        "epoch_seconds": clock.epoch_seconds,
        "elbo_train": [float(v) for v in history["elbo_train"].to_numpy().ravel()],
        "reconstruction_loss_train": [float(v) for v in history["reconstruction_loss_train"].to_numpy().ravel()],
        "kl_local_train": [float(v) for v in history["kl_local_train"].to_numpy().ravel()],
        "import_seconds": imported - started,
        "first_read_seconds": read - imported,
        "setup_seconds": ready - read,
        "train_call_seconds": ended - ready,
        "peak_rss_after_import_bytes": rss_after_import,
        "peak_rss_after_read_bytes": rss_after_read,
        "n_parameters": sum(p.numel() for p in model.module.parameters()),
        "threads_used": torch.get_num_threads(),
    }


def main():
    """Run and print the report."""
    args = arguments()
    # Before torch starts its threads: they copy the flag and the count from the thread that makes them.
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    os.environ["MKL_NUM_THREADS"] = str(args.threads)
    report = {"program": "scvi-tools", "arguments": vars(args)}
    with contextlib.redirect_stdout(sys.stderr):
        if args.epochs > 0:
            import torch

            torch.set_num_threads(args.threads)
            flushed = False if args.no_flush_denormal else torch.set_flush_denormal(True)
            report["flush_denormal"] = bool(flushed)
            report |= train(args, torch)
            # Before the reading test below, which would add to it.
            report["peak_rss_bytes"] = peak_rss_bytes()
        if args.read_times > 0:
            seconds = time_reading(args.data, args.read_times)
            report["read_seconds"] = seconds
            report["read_seconds_best"] = min(seconds)
        report["versions"] = versions()
    report["load_average"] = os.getloadavg()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
