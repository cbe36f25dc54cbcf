#!/usr/bin/env python3
"""Time what a trained model is used for, with scvi-tools and with the Rust library in turns, and print a table of ratios.

Both use the same file, the same model (trained by scvi-tools for a few epochs, saved once to --work) and the same number
of threads. Each operation runs several times in one warm process, and the fastest run counts. Processor time is what all
threads of the process used, which other programs disturb less (with several threads PyTorch's also count while they wait;
`--threads 1` avoids that). Ratios above 1 mean that the Rust library needs less.

    downstream.py DATA.h5ad --work FOLDER --bench target/release/downstream
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OPERATIONS = {
    "latent": "latent space of all cells",
    "expression": "expression of all cells and genes, one draw each",
    "de_one": "differential expression, one group against the rest",
    "de_corrected": "the same, batch-corrected",
    "de_all": "differential expression, each group against the rest",
}


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="compare inference of scvi-tools and of the Rust library")
    parser.add_argument("data", metavar="DATA.h5ad")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for the model and the data with groups")
    parser.add_argument("--bench", default=str(ROOT / "target" / "release" / "downstream"), help="our program")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-key", default="batch")
    parser.add_argument("--groups", type=int, default=8, help="k-means clusters of the latent space to compare")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each operation in one process")
    parser.add_argument("--turns", type=int, default=2, help="processes of each program, in turns")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write all times here")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def prepare(args):
    """Train, save and cluster once."""
    import anndata
    import scvi
    from sklearn.cluster import KMeans

    scvi.settings.seed = 0
    adata = anndata.read_h5ad(args.data)
    scvi.model.SCVI.setup_anndata(adata, batch_key=args.batch_key)
    model = scvi.model.SCVI(adata)
    model.train(max_epochs=args.epochs, accelerator="cpu", devices=1, enable_progress_bar=False)
    labels = KMeans(args.groups, n_init=1, random_state=0).fit_predict(model.get_latent_representation())
    adata.obs["group"] = [f"group {k}" for k in labels]
    adata.obs["group"] = adata.obs["group"].astype("category")
    args.work.mkdir(parents=True, exist_ok=True)
    model.save(args.work / "model", overwrite=True)
    adata.write_h5ad(args.work / "data.h5ad")


def times(repeats, run):
    """Seconds of each of several runs, and then the processor seconds of all threads in a run, on average."""
    seconds = []
    used = time.process_time()
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return [*seconds, (time.process_time() - used) / repeats]


def peer(args):
    """The Python side: one line of JSON."""
    import anndata
    import scvi
    import torch

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    scvi.settings.verbosity = 40
    adata = anndata.read_h5ad(args.work / "data.h5ad")
    model = scvi.model.SCVI.load(args.work / "model", adata=adata, accelerator="cpu")
    first = adata.obs["group"].cat.categories[0]
    change = {"groupby": "group", "mode": "change", "silent": True}
    # The whole table takes long: once or twice is enough.
    few = max(1, args.repeats // 3)
    return {
        "program": "scvi-tools",
        "latent": times(args.repeats, model.get_latent_representation),
        "expression": times(args.repeats, lambda: model.get_normalized_expression(library_size=1e4, return_numpy=True)),
        "de_one": times(few, lambda: model.differential_expression(group1=first, **change)),
        "de_corrected": times(few, lambda: model.differential_expression(group1=first, batch_correction=True, **change)),
        "de_all": times(1, lambda: model.differential_expression(**change)),
    }


def run(command, threads):
    """A program's report, the last line of its output."""
    count = str(threads)
    environment = os.environ | {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "RAYON_NUM_THREADS": count}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    """Prepare, measure in turns, print."""
    args = arguments()
    if args.peer:
        with contextlib.redirect_stdout(sys.stderr):
            report = peer(args)
        print(json.dumps(report))
        return
    if not (args.work / "model" / "model.pt").exists():
        prepare(args)
    theirs = [sys.executable, __file__, args.data, "--work", str(args.work), "--peer"]
    theirs += ["--threads", str(args.threads), "--repeats", str(args.repeats)]
    ours = [args.bench, str(args.work / "data.h5ad"), str(args.work / "model"), "group", str(args.repeats)]
    reports = [run(command, args.threads) for _ in range(args.turns) for command in (theirs, ours)]
    if args.json:
        args.json.write_text(json.dumps(reports, indent=1))
    print(f"load average {os.getloadavg()[0]:.1f}, {args.threads} threads")
    print("| operation | scvi-tools, s | here, s | ratio | ratio of processor time |")
    print("|---|---:|---:|---:|---:|")
    for key, name in OPERATIONS.items():
        of = {p: [r[key] for r in reports if r["program"] == p] for p in ("scvi-tools", "sc")}
        best = {p: min(min(t[:-1]) for t in runs) for p, runs in of.items()}
        used = {p: min(t[-1] for t in runs) for p, runs in of.items()}
        ratios = best["scvi-tools"] / best["sc"], used["scvi-tools"] / max(used["sc"], 0.01)
        print(f"| {name} | {best['scvi-tools']:.3f} | {best['sc']:.3f} | {ratios[0]:.1f} | {ratios[1]:.1f} |")


if __name__ == "__main__":
    main()
