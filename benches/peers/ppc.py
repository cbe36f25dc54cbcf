#!/usr/bin/env python3
"""Posterior predictive checks of scvi-tools beside those of `sc check`: the figures, and how long they take.

For each data set and seed, both programs train scVI with the same hyper-parameters and split, and each checks its own
model on the same cells. Printed are, by program, the mean and the range over seeds of every figure, and how many standard
errors the means lie apart (Welch's t); and the seconds of one check, by the clock and of processor time: of our whole program,
and of the peer without its start and the reading of data.

    python benches/peers/ppc.py cells.h5ad:batch_key:labels_key ... --seeds 0 1 2

With `--json FILE` the figures of each run are added to the file as soon as they are there, and runs that it has are not
repeated: a long comparison can be made in parts (`--only` one program, a few seeds), and broken off. With `--models FOLDER`
the peer's models are kept there, and `--only crossed` lets `sc check` judge those: a difference that is still there comes from
drawing and checking, one that has gone from training.

The peer's figures are computed by `scvi.criticism` itself. Its calibration only knows a model called "model1", so that is its
name here. Needs scvi-tools 1.4.2 with sparse, xarray and leidenalg.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("data", nargs="+", metavar="DATA.h5ad:BATCH_KEY:LABELS_KEY", help="BATCH_KEY may be empty")
    parser.add_argument("--sc", default=str(ROOT / "target" / "release" / "sc"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--genes", type=int, help="keep so many genes: those whose ln(1 + count) varies most")
    parser.add_argument("--only", choices=["scvi-tools", "sc", "crossed"], help="run only this program")
    parser.add_argument("--models", type=pathlib.Path, metavar="FOLDER", help="where the peer's models are kept")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="keep all figures here, and take those that are there")
    return parser.parse_args()


def scores(raw, model):
    """How two coefficients of variation agree, as the report of scvi-hub has it, and R2 with the raw ones as truth."""
    import numpy as np
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import mean_absolute_error, r2_score

    both = np.isfinite(raw) & np.isfinite(model)
    raw, model = raw[both], model[both]
    return {
        "MAE": mean_absolute_error(raw, model),
        "Pearson": pearsonr(raw, model)[0],
        "Spearman": spearmanr(raw, model)[0],
        "R2": r2_score(raw, model),
        "R2 swapped": r2_score(model, raw),
    }


def kept(args, path, seed):
    """The folder of a model of the peer."""
    return str(args.models / f"{pathlib.Path(path).stem}-{args.epochs}-{seed}")


def peer(args, path, batch_key, labels_key, seed):
    """Train and check with scvi-tools."""
    import anndata
    import numpy as np
    import scvi
    import torch
    from scvi.criticism import PosteriorPredictiveCheck

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    scvi.settings.seed = seed
    adata = anndata.read_h5ad(path)
    adata.X = adata.X.astype(np.int32)  # its coefficient of variation fails on sparse floating-point counts
    scvi.model.SCVI.setup_anndata(adata, batch_key=batch_key or None)
    model = scvi.model.SCVI(adata)
    model.train(max_epochs=args.epochs, accelerator="cpu", enable_progress_bar=False, logger=False)
    if args.models:
        model.save(kept(args, path, seed), overwrite=True)

    start, used = time.perf_counter(), time.process_time()
    check = PosteriorPredictiveCheck(adata, {"model1": model}, n_samples=args.samples)
    sampled = time.perf_counter() - start
    check.coefficient_of_variation("features")
    check.coefficient_of_variation("cells")
    check.zero_fraction()
    check.calibration_error()
    check.differential_expression(labels_key, p_val_thresh=1e-3)
    found = {"seconds": time.perf_counter() - start, "processor seconds": time.process_time() - used}
    print(f"  scvi-tools: {found}, samples alone {sampled:.1f} s", file=sys.stderr, flush=True)
    for name, key in [("CV by cell", "cv_cell"), ("CV by gene", "cv_gene")]:
        table = check.metrics[key]
        for score, value in scores(table["Raw"].to_numpy(), table["model1"].to_numpy()).items():
            found[f"{name}, {score}"] = float(value)
    nonzero = check.metrics["zero_fraction"]
    found["zeros, MAE"] = float(np.abs(nonzero["model1"] - nonzero["Raw"]).mean())
    found["calibration error"] = float(check.metrics["calibration"]["model1"].iloc[0])
    table = check.metrics["diff_exp"]["summary"]
    for column in ["gene_f1", "lfc_mae", "lfc_pearson", "lfc_spearman", "roc_auc", "pr_auc"]:
        found[f"DE, {column}"] = float(table[column].mean())
    return found


def table_of(report, section, caption):
    """The rows of a table of our report."""
    for part in report["sections"]:
        if part["title"] == section:
            for table in part["tables"]:
                if table["caption"].startswith(caption):
                    return table["rows"]
    raise KeyError(f"{section}: {caption}")


def children_seconds():
    """Processor seconds of all programs that were run and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ours(args, path, batch_key, labels_key, seed):
    """Train and check with `sc`."""
    with tempfile.TemporaryDirectory() as place:
        train = [args.sc, "train", "scvi", path, "--out", f"{place}/model", "--seed", str(seed)]
        train += ["--max-epochs", str(args.epochs), "--threads", str(args.threads)]
        train += ["--batch-key", batch_key] if batch_key else []
        subprocess.run(train, check=True, capture_output=True)
        return check(args, f"{place}/model", path, labels_key, seed)


def crossed(args, path, _batch_key, labels_key, seed):
    """Check what the peer trained with `sc`."""
    return check(args, kept(args, path, seed), path, labels_key, seed)


def check(args, model, path, labels_key, seed):
    """The figures of `sc check`."""
    with tempfile.TemporaryDirectory() as place:
        check = [args.sc, "check", model, path, "--out", f"{place}/report.html", "--upstream", "--json"]
        check += ["--samples", str(args.samples), "--seed", str(seed), "--threads", str(args.threads)]
        check += ["--labels-key", labels_key]
        start, used = time.perf_counter(), children_seconds()
        done = subprocess.run(check, check=True, capture_output=True, text=True)
        seconds, used = time.perf_counter() - start, children_seconds() - used
    report = json.loads(done.stdout)
    found = {"seconds": seconds, "processor seconds": used}
    print(f"  sc: {found}", file=sys.stderr, flush=True)
    section = "Coefficient of variation"
    for name, caption in [("CV by cell", "Coefficients of variation of cells"), ("CV by gene", "Coefficients of variation of genes")]:
        row = table_of(report, section, caption)[0]
        for score, column in [("MAE", "MAE"), ("Pearson", "Pearson"), ("Spearman", "Spearman"), ("R2", "R²"), ("R2 swapped", "R² (model as truth)")]:
            found[f"{name}, {score}"] = row[column]
    summary = table_of(report, "Summary", "Each model")[0]
    found["zeros, MAE"] = summary["zeros, MAE"]
    found["calibration error"] = summary["calibration error"]
    rows = table_of(report, "Differential expression", "Groups")
    columns = {"gene_f1": "top genes F1", "lfc_mae": "LFC MAE", "lfc_pearson": "LFC Pearson", "lfc_spearman": "LFC Spearman", "roc_auc": "auROC", "pr_auc": "auPRC"}
    for theirs, column in columns.items():
        found[f"DE, {theirs}"] = sum(r[column] for r in rows) / len(rows)
    return found


def prepare(path, batch_key, labels_key, n_genes, out):
    """A copy that both programs take: counts as float32, no cell without a label, no group of one, no gene without counts."""
    import anndata
    import numpy as np

    adata = anndata.read_h5ad(path)
    labels = adata.obs[labels_key].astype(object).where(~adata.obs[labels_key].isna(), "none").astype(str)
    sizes = labels.value_counts()
    keep = labels.map(sizes) > 1
    obs = adata.obs[[k for k in [batch_key] if k]].assign(**{labels_key: labels})[keep]
    counts = adata.X[keep.to_numpy()].astype(np.float32)
    genes = np.flatnonzero(np.asarray(counts.sum(0)).ravel() > 0)
    if n_genes:
        logs = counts[:, genes].log1p().toarray()
        genes = np.sort(genes[np.argsort(-logs.var(0), kind="stable")[:n_genes]])
        enough = np.asarray(counts[:, genes].sum(1)).ravel() > 0
        counts, obs = counts[enough], obs[enough]
    plain = anndata.AnnData(counts[:, genes], obs=obs, var=adata.var[[]].iloc[genes])
    plain.write_h5ad(out)
    return plain.shape


def write(path, everything):
    """All or nothing."""
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(everything, indent=1) + "\n")
    beside.replace(path)


def compare(runs):
    """A row for each figure: means and ranges of both programs, and the difference of the means in standard errors."""
    from statistics import mean, stdev

    programs = [p for p in runs if runs[p]]
    print(f"| figure | {' | '.join(p + ': mean (range)' for p in programs)} | apart, standard errors |")
    print("|---" * (len(programs) + 2) + "|")
    for key in next(run for found in runs.values() for run in found.values()):
        cells, means, errors = [], [], []
        for program in programs:
            values = [run[key] for run in runs[program].values()]
            cells.append(f"{mean(values):.3f} ({min(values):.3f} .. {max(values):.3f})")
            means.append(mean(values))
            errors.append(stdev(values) ** 2 / len(values) if len(values) > 1 else float("nan"))
        apart = ", ".join(f"{(m - means[0]) / (errors[0] + e or float('nan')) ** 0.5:+.1f}" for m, e in zip(means[1:], errors[1:]))
        print(f"| {key} | {' | '.join(cells)} | {apart} |", flush=True)


def main():
    """Run, print a table for each data set."""
    args = arguments()
    for name in ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]:
        os.environ[name] = str(args.threads)
    # What old builds of OpenBLAS need on new processors slows the one that numpy brings.
    for name in ["OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"]:
        os.environ.pop(name, None)
    everything = json.loads(args.json.read_text()) if args.json and args.json.exists() else {}
    for argument in args.data:
        path, batch_key, labels_key = (argument.split(":") + ["", ""])[:3]
        name = f"{pathlib.Path(path).name}, {args.epochs} epochs, {args.samples} samples, genes {args.genes or 'all'}"
        runs = everything.setdefault(name, {"scvi-tools": {}, "sc": {}, "crossed": {}})
        with tempfile.TemporaryDirectory() as place:
            copy = f"{place}/{pathlib.Path(path).name}"
            shape = prepare(path, batch_key, labels_key, args.genes, copy)
            for seed in args.seeds:
                for program, run in [("scvi-tools", peer), ("sc", ours), ("crossed", crossed)]:
                    wanted = args.only or (program if program != "crossed" or args.models else None)
                    if str(seed) in runs[program] or program != wanted:
                        continue
                    print(f"{path} seed {seed}", file=sys.stderr, flush=True)
                    runs[program][str(seed)] = run(args, copy, batch_key, labels_key, seed)
                    if args.json:
                        write(args.json, everything)
        seeds = ", ".join(f"{program}: {' '.join(sorted(found, key=int))}" for program, found in runs.items() if found)
        print(f"\n### {name}: {shape[0]} cells x {shape[1]} genes, seeds of {seeds}\n")
        compare(runs)


if __name__ == "__main__":
    main()
