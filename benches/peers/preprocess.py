#!/usr/bin/env python3
"""Preprocess the same counts with scanpy and with the Rust library in turns; compare the results and the times.

Each step runs several times in one warm process and the fastest run counts. Ratios above 1 mean that the Rust library needs
less. scanpy's thread pools get as many threads as ours. Sets of variable genes are compared as sets, spaces of components by
the sine of the largest angle between them.

    preprocess.py COUNTS.h5ad --bench target/release/preprocess [--batch-key batch] [--threads 2]
    preprocess.py BIG.h5ad --memory target/release/sc

The second form runs `sc preprocess ... --backed` and in memory, and prints how much memory each took at most.
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
import warnings

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
N_TOP, COMPONENTS = 2000, 50
STEPS = {
    "qc": "quality control",
    "lognorm": "normalise, log1p",
    "hvg_seurat": "variable genes, seurat",
    "hvg_seurat_batch": "variable genes, seurat, batches",
    "hvg_cell_ranger": "variable genes, cell_ranger",
    "hvg_seurat_v3": "variable genes, seurat_v3",
    "hvg_seurat_v3_batch": "variable genes, seurat_v3, batches",
    "hvg_pearson": "variable genes, Pearson residuals",
    "pca": "50 components of 2000 genes, exact",
    "pca_covariance": "the same, scanpy with `covariance_eigh`",
    "pca_randomized": "50 components of 2000 genes, randomised",
    "pca_all_genes": "50 components of all genes, exact",
    "scale": "scale 2000 genes",
    "lsi": "LSI, 50 dimensions",
    "clr": "CLR by feature",
    "harmony": "Harmony",
}


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="compare preprocessing of scanpy and of the Rust library")
    parser.add_argument("data", metavar="COUNTS.h5ad", type=pathlib.Path)
    parser.add_argument("--bench", default=str(ROOT / "target" / "release" / "preprocess"), help="our program")
    parser.add_argument("--memory", metavar="SC", help="the sc command: measure memory instead")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-key", default="batch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--turns", type=int, default=2, help="processes of each program, in turns")
    parser.add_argument("--steps", nargs="*", default=[], metavar="STEP", help=f"only these: {', '.join(STEPS)}; with --memory the commands")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write all times here")
    parser.add_argument("--peer", metavar="RESULTS.json", help=argparse.SUPPRESS)
    return parser.parse_args()


class Report:
    """Times and results of the Python side."""

    def __init__(self, repeats, steps):
        self.repeats = repeats
        self.steps = steps
        self.times = {"program": "scanpy"}
        self.results = {}

    def wants(self, name):
        """Whether a step is asked for."""
        return not self.steps or name in self.steps

    def only(self, name, step):
        """Time a step if it is asked for."""
        return self.time(name, step) if self.wants(name) else None

    def time(self, name, step):
        """Run a step several times; a step that fails is named and left out. One that is not asked for only runs."""
        if not self.wants(name):
            return step()
        seconds, used, last = [], time.process_time(), None
        try:
            for _ in range(self.repeats):
                start = time.perf_counter()
                last = step()
                seconds.append(time.perf_counter() - start)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
            return None
        self.times[name] = [*seconds, (time.process_time() - used) / self.repeats]
        return last

    def genes(self, name, choose, always=False):
        """Time a choice of genes and keep it."""
        if not always and not self.wants(name):
            return None
        table = self.time(name, choose)
        if table is None:
            return None
        mask = table["highly_variable"].to_numpy()
        self.results[name] = [int(g) for g in mask.nonzero()[0]]
        return mask


def lsi(counts):
    """What GLUE does: TF-IDF, cells scaled to a sum of 1e4, log1p, randomised singular vectors."""
    import numpy as np
    import scipy.sparse as sp
    from sklearn.utils.extmath import randomized_svd

    counts = counts.astype(np.float64)
    tf = sp.diags(1 / np.asarray(counts.sum(axis=1)).ravel()) @ counts
    totals = np.asarray(counts.sum(axis=0)).ravel()
    idf = np.divide(counts.shape[0], totals, out=np.zeros_like(totals), where=totals > 0)
    x = (tf @ sp.diags(idf)).tocsr()
    x = sp.diags(1e4 / np.asarray(x.sum(axis=1)).ravel()) @ x
    u, _, vh = randomized_svd(x.log1p().tocsr(), COMPONENTS, n_iter=15, random_state=0)
    return (u - u.mean(1, keepdims=True)) / u.std(1, ddof=1, keepdims=True), vh


def clr(counts):
    """Seurat's centred log ratio over the cells of each feature."""
    import numpy as np
    import scipy.sparse as sp

    means = np.asarray(counts.log1p().mean(axis=0)).ravel()
    return (counts @ sp.diags(np.exp(-means))).log1p()


def peer(args):
    """The Python side: times as one line of JSON, results in a file."""
    import numpy as np
    import scanpy as sc
    from sklearn.decomposition import TruncatedSVD  # noqa: F401 - loaded before anything is timed

    warnings.simplefilter("ignore")
    report = Report(args.repeats, args.steps)
    counts = sc.read_h5ad(args.data)
    key = args.batch_key
    counts.obs[key] = counts.obs[key].astype(str).astype("category")
    # Names that sort as they stand: with batches scanpy may return genes in the order of their names.
    counts.var_names = [f"{i:06d}" for i in range(counts.n_vars)]

    def log_normalised():
        logs = counts.copy()
        sc.pp.normalize_total(logs, target_sum=1e4)
        sc.pp.log1p(logs)
        return logs

    report.only("qc", lambda: sc.pp.calculate_qc_metrics(counts, inplace=False))
    logs = report.time("lognorm", log_normalised)
    choose, residuals = sc.pp.highly_variable_genes, sc.experimental.pp.highly_variable_genes
    options = {"n_top_genes": N_TOP, "inplace": False}
    chosen = report.genes("hvg_seurat", lambda: choose(logs, **options), always=True)
    report.genes("hvg_seurat_batch", lambda: choose(logs, batch_key=key, **options))
    report.genes("hvg_cell_ranger", lambda: choose(logs, flavor="cell_ranger", **options))
    report.genes("hvg_seurat_v3", lambda: choose(counts, flavor="seurat_v3", **options))
    report.genes("hvg_seurat_v3_batch", lambda: choose(counts, flavor="seurat_v3", batch_key=key, **options))
    report.genes("hvg_pearson", lambda: residuals(counts, **options))
    logs.var["chosen"] = chosen

    def components(mask, solver="arpack"):
        found = sc.pp.pca(logs, n_comps=COMPONENTS, mask_var=mask, svd_solver=solver, copy=True)
        return found.obsm["X_pca"], found.varm["PCs"].T, found.uns["pca"]["variance_ratio"]

    some = report.time("pca", lambda: components("chosen"))
    report.results["pca"], report.results["pca_ratio"] = some[1].tolist(), some[2].tolist()
    if report.wants("pca_covariance"):
        found = report.time("pca_covariance", lambda: components("chosen", "covariance_eigh"))
        report.results["pca_covariance"] = found[1].tolist()
    if report.wants("pca_randomized"):
        dense = logs[:, chosen].copy()
        dense.X = dense.X.toarray()
        # Of sparse data scanpy has no randomised components: of the same genes as a dense array.
        report.time("pca_randomized", lambda: sc.pp.pca(dense, n_comps=COMPONENTS, svd_solver="randomized", copy=True))
        report.results["pca_randomized"] = report.results["pca"]
    if report.wants("pca_all_genes"):
        report.results["pca_all_genes"] = report.time("pca_all_genes", lambda: components(None))[1].tolist()
    few = logs[:, chosen].copy()
    report.only("scale", lambda: sc.pp.scale(few, max_value=10, copy=True))
    if report.wants("lsi"):
        report.results["lsi"] = report.time("lsi", lambda: lsi(counts.X))[1].tolist()
    report.only("clr", lambda: clr(counts.X))
    with contextlib.suppress(ImportError):
        import harmonypy

        report.only("harmony", lambda: harmonypy.run_harmony(np.asarray(some[0]), counts.obs, [key]))
    pathlib.Path(args.peer).write_text(json.dumps(report.results))
    return report.times


def run(command, threads):
    """A program's report, the last line of its output."""
    count = str(threads)
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"]
    environment = os.environ | dict.fromkeys(names, count)
    # What old builds of OpenBLAS need on new processors slows the one that numpy brings.
    for name in ["OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"]:
        environment.pop(name, None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    sys.stderr.write(done.stderr)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed")
    return json.loads(done.stdout.strip().splitlines()[-1])


def agreement(name, theirs, ours):
    """How far the results of a step agree, in words."""
    import numpy as np

    if name not in theirs or name not in ours:
        return ""
    if name.startswith("hvg"):
        a, b = set(theirs[name]), set(ours[name])
        return "the same genes" if a == b else f"{len(a & b)} of {len(b)} genes shared"
    a, b = np.array(theirs[name], dtype=float), np.array(ours[name], dtype=float)
    # Directions whose variances are alike may be mixed; the last ones with those left out.
    sines = [np.linalg.norm(b[:k] - b[:k] @ a[:k].T @ a[:k], ord=2) for k in (10, COMPONENTS)]
    return "sine of the angle {:.0e} (first 10), {:.0e} (all)".format(*sines)


def compare(args):
    """Both programs, and a table."""
    with tempfile.TemporaryDirectory() as work:
        files = [pathlib.Path(work) / name for name in ("theirs.json", "ours.json")]
        theirs = [sys.executable, __file__, str(args.data), "--peer", str(files[0]), "--batch-key", args.batch_key]
        theirs += ["--repeats", str(args.repeats), "--steps", *args.steps]
        ours = [args.bench, str(args.data), str(files[1]), args.batch_key, str(args.repeats)]
        # What scanpy does in two ways we do in one.
        ours += [",".join("pca" if s == "pca_covariance" else s for s in args.steps)] if args.steps else []
        reports = [run(command, args.threads) for _ in range(args.turns) for command in (theirs, ours)]
        results = [json.loads(f.read_text()) for f in files]
        for ours in [results[1], *(r for r in reports if r["program"] == "sc")]:
            if "pca" in ours:
                ours["pca_covariance"] = ours["pca"]
    if args.json:
        args.json.write_text(json.dumps(reports, indent=1))
    print(f"{args.data.name}: load average {os.getloadavg()[0]:.1f}, {args.threads} threads")
    print("| step | scanpy, s | here, s | ratio | ratio of processor time | agreement |")
    print("|---|---:|---:|---:|---:|---|")
    for key, name in STEPS.items():
        of = {p: [r[key] for r in reports if r["program"] == p and key in r] for p in ("scanpy", "sc")}
        if not of["sc"] or (args.steps and key not in args.steps):
            continue
        if not of["scanpy"]:
            print(f"| {name} | failed | {min(min(t[:-1]) for t in of['sc']):.3f} | | | |")
            continue
        best = {p: min(min(t[:-1]) for t in runs) for p, runs in of.items()}
        used = {p: min(t[-1] for t in runs) for p, runs in of.items()}
        ratios = best["scanpy"] / best["sc"], used["scanpy"] / max(used["sc"], 0.01)
        words = agreement(key, *results)
        print(f"| {name} | {best['scanpy']:.3f} | {best['sc']:.3f} | {ratios[0]:.1f} | {ratios[1]:.1f} | {words} |")


def peak(command):
    """Seconds and MB at most of a program."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    message = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(command)} failed:\n{message}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def memory(args):
    """How much memory the commands need, with the counts on disk and in memory."""
    size = args.data.stat().st_size / 1e6
    print(f"{args.data.name}: {size:.0f} MB, {args.threads} threads")
    print("| command | --backed, MB | in memory, MB | --backed, s | in memory, s |")
    print("|---|---:|---:|---:|---:|")
    commands = [
        "qc",
        "hvg --flavor seurat_v3",
        f"hvg --flavor seurat_v3 --batch-key {args.batch_key}",
        "hvg --flavor pearson_residuals",
        "hvg --flavor seurat --lognorm 1e4",
        "pca --lognorm 1e4 --n-comps 50",
        "pca --lognorm 1e4 --n-comps 50 --scale --solver randomized",
        "lsi --n-comps 50",
        "normalize --target-sum 1e4",
        "clr",
        "scale --no-zero-center --max-value 10",
    ]
    commands = [c for c in commands if not args.steps or c.split()[0] in args.steps]
    with tempfile.TemporaryDirectory() as work:
        out = pathlib.Path(work) / "out.h5ad"
        for command in commands:
            name, *rest = command.split()
            line = [args.memory, "preprocess", name, str(args.data), "--out", str(out), *rest]
            line += ["--threads", str(args.threads)]
            (disk_s, disk), (whole_s, whole) = peak([*line, "--backed"]), peak(line)
            print(f"| {command} | {disk:.0f} | {whole:.0f} | {disk_s:.1f} | {whole_s:.1f} |", flush=True)


def main():
    """Measure and print."""
    args = arguments()
    if args.peer:
        with contextlib.redirect_stdout(sys.stderr):
            report = peer(args)
        print(json.dumps(report))
    elif args.memory:
        memory(args)
    else:
        compare(args)


if __name__ == "__main__":
    main()
