#!/usr/bin/env python3
"""Time the metrics of integration with scib-metrics and with the Rust library in turns, on the same cells, and print a
table of times, ratios and values.

Cells are made up (--cells, in --work) unless an .h5ad file is given. Each program runs the whole set of metrics several
times in one warm process, and the fastest run counts; scib-metrics compiles in its first run, which is listed too. Processor
time is what all threads of the process used, which other programs disturb less. Ratios above 1 mean that the Rust library
needs less.

    metrics.py --work FOLDER --cells 20000 --python VENV/bin/python --bench target/release/metrics
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Their columns and our names.
SAME = {
    "Isolated labels": "isolated labels",
    "KMeans NMI": "NMI (k-means)",
    "KMeans ARI": "ARI (k-means)",
    "Leiden NMI": "NMI (Leiden)",
    "Leiden ARI": "ARI (Leiden)",
    "Silhouette label": "silhouette (label)",
    "cLISI": "cLISI",
    "BRAS": "BRAS",
    "iLISI": "iLISI",
    "KBET": "kBET",
    "Graph connectivity": "graph connectivity",
    "PCR comparison": "PCR comparison",
}


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="compare the metrics of scib-metrics and of the Rust library")
    parser.add_argument("data", nargs="?", metavar="DATA.h5ad", help="cells with embeddings [default: made up]")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("."), help="folder for made-up cells")
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--embedding", default="X_emb")
    parser.add_argument("--before", default="X_pca")
    parser.add_argument("--batch-key", default="batch")
    parser.add_argument("--label-key", default="cell_type")
    parser.add_argument("--leiden", action="store_true", help="also the metrics of Leiden clusters")
    parser.add_argument("--bench", default=str(ROOT / "target" / "release" / "metrics"), help="our program")
    parser.add_argument("--python", default=sys.executable, help="a Python with scib-metrics")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2, help="runs in one process")
    parser.add_argument("--turns", type=int, default=1, help="processes of each program, in turns")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write all numbers here")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def make(path, cells):
    """Cells of twelve kinds of very different sizes in eight batches; before integration these are moved further."""
    import anndata
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    share = 1 / np.arange(2, 14)
    kind = rng.choice(12, cells, p=share / share.sum())
    batch = rng.choice(8, cells)
    centres, shifts = rng.normal(size=(12, 30)), rng.normal(size=(8, 30))
    noise = rng.normal(size=(cells, 30))
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical([f"kind {k}" for k in kind]), "batch": pd.Categorical([f"donor {b}" for b in batch])},
        index=[f"cell{i}" for i in range(cells)],
    )
    adata = anndata.AnnData(np.zeros((cells, 1), dtype=np.float32), obs=obs)
    adata.obsm["X_emb"] = (1.5 * centres[kind] + 0.3 * shifts[batch] + noise).astype(np.float32)
    adata.obsm["X_pca"] = (1.5 * centres[kind] + 1.5 * shifts[batch] + noise).astype(np.float32)
    adata.write_h5ad(path)


def peer(args):
    """The metrics of scib-metrics; one line of JSON."""
    import resource
    import warnings

    warnings.filterwarnings("ignore")
    import anndata
    from scib_metrics.benchmark import BatchCorrection, Benchmarker, BioConservation

    adata = anndata.read_h5ad(args.data)
    seconds, busy = [], []
    for _ in range(args.repeats):
        start, before = time.perf_counter(), time.process_time()
        benchmark = Benchmarker(
            adata,
            batch_key=args.batch_key,
            label_key=args.label_key,
            embedding_obsm_keys=[args.embedding],
            pre_integrated_embedding_obsm_key=args.before,
            bio_conservation_metrics=BioConservation(nmi_ari_cluster_labels_leiden=args.leiden),
            batch_correction_metrics=BatchCorrection(),
            n_jobs=args.threads,
            progress_bar=False,
        )
        benchmark.prepare()
        benchmark.benchmark()
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - before)
    table = benchmark.get_results(min_max_scale=False)
    values = {k: float(v) for k, v in table.loc[args.embedding].items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"program": "scib-metrics", "seconds": seconds, "processor_seconds": busy, "mib_peak": peak, "values": values}))


def last_line(command, environment):
    """The JSON that a program prints last."""
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    """Runs both."""
    args = arguments()
    if args.peer:
        return peer(args)
    if not args.data:
        args.data = str(args.work / f"metrics_{args.cells}.h5ad")
        if not pathlib.Path(args.data).exists():
            make(args.data, args.cells)
    n = str(args.threads)
    environment = dict(os.environ)
    for name in ["OMP_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]:
        environment[name] = n
    # What old builds of OpenBLAS need on new processors slows the one that numpy brings.
    for name in ["OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"]:
        environment.pop(name, None)
    ours_command = [args.bench, args.data, args.embedding, args.before, args.batch_key, args.label_key]
    ours_command += ["leiden"] * args.leiden + [str(args.repeats)]
    theirs_command = [args.python, __file__, args.data, "--peer", "--threads", n, "--repeats", str(args.repeats)]
    for name in ["embedding", "before", "batch_key", "label_key"]:
        theirs_command += ["--" + name.replace("_", "-"), getattr(args, name)]
    theirs_command += ["--leiden"] * args.leiden
    ours, theirs = [], []
    for _ in range(args.turns):
        ours.append(last_line(ours_command, environment))
        theirs.append(last_line(theirs_command, environment))
    fastest = lambda runs: min(s for r in runs for s in r["seconds"])
    first = min(r["seconds"][0] for r in theirs)
    a, b = fastest(ours), fastest(theirs)
    load = os.getloadavg()[0]
    print(f"{ours[0]['cells']} cells, {n} threads, load {load:.1f}")
    print(f"{'':24}{'sc':>10}{'scib-metrics':>16}{'ratio':>8}")
    c, d = (min(s for r in runs for s in r["processor_seconds"]) for runs in (ours, theirs))
    print(f"{'processor seconds':24}{c:10.2f}{d:16.2f}{d / c:8.1f}")
    print(f"{'seconds':24}{a:10.2f}{b:16.2f}{b / a:8.1f}")
    print(f"{'seconds, first run':24}{ours[0]['seconds'][0]:10.2f}{first:16.2f}{first / ours[0]['seconds'][0]:8.1f}")
    print(f"{'memory, MiB':24}{ours[0]['mib_peak']:10}{theirs[0]['mib_peak']:16}{theirs[0]['mib_peak'] / ours[0]['mib_peak']:8.1f}")
    for stage, s in ours[0]["stages"].items():
        print(f"  {stage:22}{s:10.2f}")
    print("values")
    for key, name in SAME.items():
        mine, other = ours[0]["values"].get(name), theirs[0]["values"].get(key)
        if mine is not None and other is not None:
            print(f"  {name:22}{mine:10.4f}{other:16.4f}  {abs(mine - other):.1e}")
    if args.json:
        args.json.write_text(json.dumps({"ours": ours, "theirs": theirs, "load": load}, indent=1))
    return None


if __name__ == "__main__":
    main()
