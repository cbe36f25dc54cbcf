#!/usr/bin/env python3
"""Annotate the cells of one platform or study with what was learned on another: scGPT and scBERT of this workspace, from
random weights and pre-trained, and scANVI of this workspace, beside logistic regression and nearest neighbours of scikit-learn.

FOLDER holds `sc_mixology_5batches.h5ad` (five cell lines on CEL-seq2 and Drop-seq; wells that demuxlet calls doublets are left
out), `pbmc3k_raw_celltypes.h5ad` (types from clusters) and `pbmc_facs_zheng17.h5ad` (types from sorting). Labels of the two
PBMC sets meet in the types of COMMON. Cells of a type that training lacks are not scored by accuracy and macro-F1; how well
1 - the largest probability tells them from the others is (AUROC).

Genes are chosen on the training side: those that both sides have, the most variable first. A fifth of the training cells of
each type validates: it chooses the epoch of the transformers, the C of the regression and the k of the neighbours. All methods
train on the same four fifths; pre-training sees all cells of the training side, without labels. Cells of the test side are seen by scANVI, as cells without labels, and by "regression, each side
scaled by itself"; by the others only at the end.

Build the other side first: cargo build --release -p sc-benches --bin annotate_platforms
A run that was stopped goes on where it was: what is in --json is not done again.
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

# Names of both PBMC sets to common ones. "novel-" marks types that the other set lacks.
COMMON = {
    "pbmc3k": {
        "Naive CD4 T": "CD4 T",
        "Memory CD4 T": "CD4 T",
        "CD8 T": "CD8 T",
        "NK": "NK",
        "B": "B",
        "CD14+ Mono": "Monocyte",
        "FCGR3A+ Mono": "Monocyte",
        "DC": "novel-DC",
        "Platelet": "novel-Platelet",
    },
    "sorted": {
        "CD4+ T Helper2": "CD4 T",
        "CD4+/CD45RO+ Memory": "CD4 T",
        "CD4+/CD25 T Reg": "CD4 T",
        "CD4+/CD45RA+/CD25- Naive T": "CD4 T",
        "CD8+ Cytotoxic T": "CD8 T",
        "CD8+/CD45RA+ Naive Cytotoxic": "CD8 T",
        "CD56+ NK": "NK",
        "CD19+ B": "B",
        "CD14+ Monocyte": "Monocyte",
        "CD34+": "novel-CD34+",
    },
}
# From, to, and the type that is taken out of training.
TASKS = {
    "CEL-seq2 -> Drop-seq": ("CEL-seq2", "Drop-seq", None),
    "Drop-seq -> CEL-seq2": ("Drop-seq", "CEL-seq2", None),
    "sorted -> PBMC 3k": ("sorted", "pbmc3k", None),
    "PBMC 3k -> sorted": ("pbmc3k", "sorted", None),
    "CEL-seq2 without HCC827 -> Drop-seq": ("CEL-seq2", "Drop-seq", "HCC827"),
    "sorted without B -> PBMC 3k": ("sorted", "pbmc3k", "B"),
}
METHODS = {
    "logistic regression": lambda run: regression(run, apart=False),
    "logistic regression, each side scaled by itself": lambda run: regression(run, apart=True),
    "kNN on PCA": lambda run: neighbours(run),
    "scANVI": lambda run: scanvi(run),
    "scGPT, from scratch": lambda run: transformer(run, "scgpt", False),
    "scGPT, pre-trained": lambda run: transformer(run, "scgpt", True),
    "scBERT, from scratch": lambda run: transformer(run, "scbert", False),
    "scBERT, pre-trained": lambda run: transformer(run, "scbert", True),
}


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--genes", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS), metavar="TASK")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--scgpt", type=int, nargs=3, default=[64, 8000, 4000], metavar=("DIM", "PRETRAINING", "FINETUNING"), help="its width, and the cells it sees, rounded to epochs")
    parser.add_argument("--scbert", type=int, nargs=3, default=[32, 4000, 4000], metavar=("DIM", "PRETRAINING", "FINETUNING"))
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--lr", type=float, nargs=2, default=[3e-3, 1e-3], metavar=("SCGPT", "SCBERT"), help="chosen by the validation cells of the first task")
    parser.add_argument("--pretraining-lr", type=float, nargs=2, default=[3e-3, 1e-3], metavar=("SCGPT", "SCBERT"))
    parser.add_argument("--pretraining-batch", type=int, nargs=2, default=[8, 32], metavar=("SCGPT", "SCBERT"), help="cells of a minibatch; of fine-tuning 32")
    parser.add_argument("--max-length", type=int, default=128, help="tokens of a cell that scGPT reads, at most")
    parser.add_argument("--scanvi-epochs", type=int, nargs=2, default=[100, 20])
    parser.add_argument("--max-test", type=int, default=1000, help="test on so many cells, drawn at random, if there are more")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--binary", default="target/release/annotate_platforms")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="all numbers; what is there is not done again")
    parser.add_argument("--work", type=pathlib.Path, metavar="FOLDER", help="keeps the files, and pre-trained models for the next run")
    return parser.parse_args()


def sides(folder):
    """The four sides: cells with counts, `batch`, and `label`, which begins with "novel-" if only this side has it."""
    import anndata

    mixology = anndata.read_h5ad(folder / "sc_mixology_5batches.h5ad")
    mixology = mixology[mixology.obs["demuxlet_cls"] == "SNG"].copy()
    mixology.obs["label"] = mixology.obs["cell_line"].astype(str)
    mixology.obs["batch"] = mixology.obs["batch"].astype(str)
    out = {p: mixology[mixology.obs["platform"] == p].copy() for p in ("CEL-seq2", "Drop-seq")}
    for name, file, key in (("pbmc3k", "pbmc3k_raw_celltypes.h5ad", "cell_type"), ("sorted", "pbmc_facs_zheng17.h5ad", "celltype")):
        cells = anndata.read_h5ad(folder / file)
        cells.obs["label"] = cells.obs[key].astype(str).map(COMMON[name])
        cells.obs["batch"] = name
        out[name] = cells[cells.obs["label"].notna()].copy()
    return out


class Task:
    """What to annotate and what to learn from, whatever the seed."""

    def __init__(self, args, all_sides, name, folder):
        import numpy as np
        import scanpy as sc

        source, target, held_out = TASKS[name]
        self.args, self.folder = args, folder
        train, test = all_sides[source], all_sides[target]
        train = train[~train.obs["label"].str.startswith("novel-") & (train.obs["label"] != held_out)]
        known = set(test.var_names)
        genes = [g for g in train.var_names if g in known]
        train, test = train[:, genes].copy(), test[:, genes].copy()
        if test.n_obs > args.max_test:
            drawn = np.random.default_rng(0).choice(test.n_obs, args.max_test, replace=False)
            test = test[np.sort(drawn)].copy()
        batch = "batch" if train.obs["batch"].nunique() > 1 else None
        sc.pp.highly_variable_genes(train, n_top_genes=args.genes, flavor="seurat_v3", batch_key=batch)
        chosen = train.var["highly_variable"].to_numpy()
        # Scaled by all genes, before some are chosen.
        self.logs = [log_normalised(side.X)[:, chosen].toarray() for side in (train, test)]
        self.train, self.test = train[:, chosen].copy(), test[:, chosen].copy()
        self.truth = test.obs["label"].to_numpy()
        self.is_known = np.isin(self.truth, train.obs["label"].unique())
        folder.mkdir(parents=True, exist_ok=True)


def log_normalised(counts):
    """ln(1 + x), x scaled to 10,000 a cell."""
    import numpy as np
    import scipy.sparse as sp

    x = sp.csr_matrix(counts, dtype=np.float64)
    x = sp.diags(1e4 / np.maximum(np.asarray(x.sum(1)).ravel(), 1)) @ x
    x.data = np.log1p(x.data)
    return x.tocsr()


class Run:
    """A task with a seed: what the methods are given."""

    def __init__(self, task, seed):
        import numpy as np

        self.task, self.args, self.seed, self.folder = task, task.args, seed, task.folder
        self.train, self.test = task.train, task.test
        rng = np.random.default_rng(seed)
        labels = self.train.obs["label"].to_numpy()
        part = np.full(len(labels), "train", dtype=object)
        for label in np.unique(labels):
            mine = rng.permutation(np.flatnonzero(labels == label))
            part[mine[: len(mine) // 5]] = "validation"
        self.train.obs["part"] = part
        self.save()

    def save(self):
        """The files of the Rust side."""
        import anndata
        import numpy as np

        only = lambda side, *columns: anndata.AnnData(side.X.astype("float32"), side.obs[list(columns)].astype(str), side.var[[]])
        both = anndata.concat([only(s, "batch") for s in (self.train, self.test)], index_unique="-", keys=["train", "test"])
        known = np.where(self.train.obs["part"] == "train", self.train.obs["label"], "Unknown")
        both.obs["label"] = [*known, *["Unknown"] * self.test.n_obs]
        both.obs["is_test"] = [False] * self.train.n_obs + [True] * self.test.n_obs
        for name, side in (("train", only(self.train, "label", "part")), ("test", only(self.test)), ("both", both)):
            side.write_h5ad(self.folder / f"{name}.h5ad")

    def rows(self, part):
        """Numbers of the training cells of a part."""
        import numpy as np

        return np.flatnonzero(self.train.obs["part"] == part)

    def rust(self, *command):
        """A command of the Rust side, and what it reports."""
        environment = os.environ | {"RAYON_NUM_THREADS": str(self.args.threads)}
        command = [self.args.binary, command[0], self.folder, "--seed", self.seed, *command[1:]]
        done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True, env=environment)
        return json.loads(done.stdout)


def scaled(run, apart):
    """Log-normalised genes with unit variance: train, test."""
    import numpy as np
    from sklearn.preprocessing import StandardScaler

    train, test = run.task.logs
    scaler = StandardScaler().fit(train[run.rows("train")])
    of_test = StandardScaler().fit(test) if apart else scaler
    return tuple(np.clip(s.transform(x), -10, 10) for s, x in ((scaler, train), (of_test, test)))


def chosen(run, x, makers):
    """The classifier with the lowest log loss on the validation cells."""
    import numpy as np
    from sklearn.metrics import log_loss

    y, train, validation = run.train.obs["label"].to_numpy(), run.rows("train"), run.rows("validation")
    best = None
    for name, maker in makers.items():
        model = maker().fit(x[train], y[train])
        p = np.clip(model.predict_proba(x[validation]), 1e-3, None)
        loss = log_loss(y[validation], p / p.sum(1, keepdims=True), labels=model.classes_)
        if best is None or loss < best[0]:
            best = (loss, name, model)
    return best


def regression(run, apart):
    """Multinomial logistic regression."""
    from sklearn.linear_model import LogisticRegression

    x, new = scaled(run, apart)
    makers = {f"C = {c}": lambda c=c: LogisticRegression(C=c, max_iter=3000) for c in (1e-4, 1e-3, 1e-2, 1e-1, 1)}
    _, name, model = chosen(run, x, makers)
    return model.predict_proba(new), list(model.classes_), {"chosen": name}


def neighbours(run):
    """Votes of the nearest cells in the space of 30 principal components."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KNeighborsClassifier

    x, new = scaled(run, apart=False)
    pca = PCA(30, random_state=run.seed).fit(x[run.rows("train")])
    makers = {f"k = {k}": lambda k=k: KNeighborsClassifier(n_neighbors=k) for k in (5, 10, 15, 30)}
    _, name, model = chosen(run, pca.transform(x), makers)
    return model.predict_proba(pca.transform(new)), list(model.classes_), {"chosen": name}


def probabilities(path, report):
    """Those that the Rust side wrote, the columns called as it said."""
    import anndata

    cells = anndata.read_h5ad(path)
    rows = cells.obs["is_test"].to_numpy() if "is_test" in cells.obs else slice(None)
    return cells.obsm["probabilities"][rows], report.pop("labels"), report


def scanvi(run):
    """scANVI on both sides together."""
    first, second = run.args.scanvi_epochs
    out = run.folder / "scanvi.h5ad"
    report = run.rust("scanvi", "--out", out, "--epochs", first, "--label-epochs", second)
    return probabilities(out, report)


def transformer(run, kind, pretrained):
    """scGPT or scBERT."""
    import numpy as np

    args, which = run.args, kind == "scbert"
    dim, pretraining, finetuning = args.scbert if which else args.scgpt
    epochs = lambda seen, cells: max(1, round(seen / cells))
    # Expressed genes of a cell shall have tokens in the middle of scBERT's scale.
    expressed = np.median(np.asarray((run.train.X > 0).sum(1)))
    sizes = ["--model", kind, "--dim", dim, "--layers", args.layers, "--target-sum", 5 * expressed]
    sizes += ["--max-length", args.max_length]
    more, report = [], {}
    if pretrained:
        # Once for each task: it sees the same cells whatever the seed.
        rate, batch = args.pretraining_lr[which], args.pretraining_batch[which]
        folder = run.folder / f"{kind}-{dim}-{pretraining}-{batch}-{rate}"
        if not folder.exists():
            n = epochs(pretraining, run.train.n_obs)
            report = run.rust("pretrain", "--out", folder, "--epochs", n, "--lr", rate, "--batch", batch, *sizes)
            report = {f"pretraining_{k}": v for k, v in report.items()}
        more = ["--from", folder]
    out = run.folder / f"{kind}.h5ad"
    n = epochs(finetuning, len(run.rows("train")))
    report |= run.rust("finetune", "--out", out, "--epochs", n, "--lr", args.lr[which], *sizes, *more)
    return probabilities(out, report)


def judge(run, p, labels):
    """Accuracy and macro-F1 of cells whose type was in training; AUROC of the others against them."""
    import numpy as np
    from sklearn.metrics import f1_score, roc_auc_score

    known, truth = run.task.is_known, run.task.truth
    found = np.asarray(labels)[p.argmax(1)]
    types = np.unique(truth[known])
    f1 = f1_score(truth[known], found[known], labels=types, average=None)
    out = {
        "accuracy": float((found == truth)[known].mean()),
        "macro_f1": float(f1.mean()),
        "f1": dict(zip(types, map(float, f1))),
        "n_test": int(known.sum()),
        "n_novel": int((~known).sum()),
    }
    if not known.all():
        out["auroc"] = float(roc_auc_score(~known, 1 - p.max(1)))
    return out


def table(runs, of, tasks, methods):
    """One line a method, one column a task: mean and standard deviation over seeds."""
    import statistics

    print("| | " + " | ".join(tasks) + " |\n|" + "---|" * (1 + len(tasks)))
    for method in methods:
        cells = []
        for task in tasks:
            values = [[r[k] for r in runs if r["task"] == task and r["method"] == method and k in r] for k in of]
            if not values[0]:
                cells.append("")
                continue
            spread = lambda v: statistics.stdev(v) if len(v) > 1 else 0.0
            cells.append(" / ".join(f"{statistics.fmean(v):.3f} ± {spread(v):.3f}" for v in values))
        print(f"| {method} | " + " | ".join(cells) + " |")
    print()


def save(args, runs):
    """All numbers, whole or not at all."""
    if args.json:
        new = args.json.with_suffix(".new")
        new.write_text(json.dumps({"arguments": {k: str(v) if isinstance(v, pathlib.Path) else v for k, v in vars(args).items()}, "runs": runs}, indent=1))
        new.replace(args.json)


def everything(args, runs, folder):
    """All runs that are not there yet; all tasks of a seed first."""
    done = {(r["task"], r["method"], r["seed"]) for r in runs}
    cells, tasks = sides(args.folder), {}
    for seed in args.seeds:
        for name in args.tasks:
            missing = [m for m in args.methods if (name, m, seed) not in done]
            if not missing:
                continue
            if name not in tasks:
                tasks[name] = Task(args, cells, name, folder / str(list(TASKS).index(name)))
            run = Run(tasks[name], seed)
            for method in missing:
                start = time.perf_counter()
                p, labels, report = METHODS[method](run)
                row = {"task": name, "method": method, "seed": seed} | judge(run, p, labels) | report
                row["all_seconds"] = time.perf_counter() - start
                runs.append(row)
                print(json.dumps(row), flush=True)
                save(args, runs)


def main():
    """Run what is missing and print the tables."""
    args = arguments()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    runs = json.loads(args.json.read_text())["runs"] if args.json and args.json.exists() else []
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
        import warnings

        warnings.filterwarnings("ignore")
        everything(args, runs, args.work or pathlib.Path(folder))
    print("Accuracy / macro-F1\n")
    table(runs, ["accuracy", "macro_f1"], args.tasks, args.methods)
    print("AUROC of novel cells\n")
    table(runs, ["auroc"], [t for t in args.tasks if any("auroc" in r for r in runs if r["task"] == t)], args.methods)


if __name__ == "__main__":
    main()
