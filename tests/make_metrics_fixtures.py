#!/usr/bin/env python3
"""Make tests/data/metrics_peers.json: small inputs, and what scikit-learn, SciPy, POT and scanpy make of them.

    python tests/make_metrics_fixtures.py tests/data/metrics_peers.json

Run with scikit-learn 1.9.1, SciPy 1.17.1, POT 0.9.7 and scanpy 1.11.5. The expected calibration
error is NumPy's rendering of Guo et al. (2017), equation 3; the isolated label's F1 is scikit-learn's for every cluster.
"""

import json
import sys
import warnings

import numpy as np

warnings.filterwarnings("ignore")


def f32(a):
    """What single precision keeps of numbers."""
    return np.asarray(a, dtype=np.float32).astype(np.float64)


def classification(rng):
    """Labels, confidences and scores."""
    from sklearn import metrics

    n, classes = 200, np.array(["B", "CD4 T", "CD8 T", "NK", "pDC"])
    truth = rng.choice(classes, n, p=[0.3, 0.3, 0.2, 0.17, 0.03])
    found = np.where(rng.random(n) < 0.7, truth, rng.choice(classes[:4], n))
    confidence = np.clip(np.where(found == truth, rng.beta(6, 2, n), rng.beta(3, 3, n)), 0, 1)
    confidence[:5] = [0.0, 0.1, 0.2, 0.3, 1.0]
    right = (found == truth).astype(float)
    bins = np.ceil(confidence * 10).clip(1, 10).astype(int)
    ece = sum(abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins))
    unknown = rng.random(n) < 0.2
    score = np.round(1 - confidence + 0.3 * unknown, 2)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(truth, found, labels=classes, zero_division=0)
    return {
        "truth": truth.tolist(),
        "found": found.tolist(),
        "confidence": confidence.tolist(),
        "unknown": unknown.tolist(),
        "score": score.tolist(),
        "classes": classes.tolist(),
        "accuracy": metrics.accuracy_score(truth, found),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, found),
        "macro_f1": metrics.f1_score(truth, found, average="macro", zero_division=0),
        "weighted_f1": metrics.f1_score(truth, found, average="weighted", zero_division=0),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
        "confusion": metrics.confusion_matrix(truth, found, labels=classes).tolist(),
        "ece_10": float(ece),
        "auroc": metrics.roc_auc_score(unknown, score),
        "average_precision": metrics.average_precision_score(unknown, score),
    }


def distribution(rng):
    """Two clouds."""
    import ot
    from scipy import stats
    from sklearn.metrics import pairwise_distances
    from sklearn.metrics.pairwise import rbf_kernel

    x, y = f32(rng.normal(size=(40, 3))), f32(rng.normal(size=(55, 3)) * 1.3 + [0.5, 0, -0.2])
    same = y[:40]
    gamma = 0.3
    k = lambda a, b: rbf_kernel(a, b, gamma=gamma)
    d = lambda a, b: pairwise_distances(a, b)
    off = lambda m: (m.sum() - np.trace(m)) / (len(m) * (len(m) - 1))
    uniform = np.full(40, 1 / 40)
    return {
        "x": x.tolist(),
        "y": y.tolist(),
        "gamma": gamma,
        "wasserstein_1": stats.wasserstein_distance(x[:, 0], y[:, 0]),
        "wasserstein_2_same_size": float(np.sqrt(np.mean((np.sort(x[:, 0]) - np.sort(same[:, 0])) ** 2))),
        "wasserstein_2_1d": float(ot.wasserstein_1d(x[:, 0], y[:, 0], p=2) ** 0.5),
        "energy_1d": stats.energy_distance(x[:, 0], y[:, 0]) ** 2,
        "energy": float(2 * d(x, y).mean() - d(x, x).mean() - d(y, y).mean()),
        "mmd_biased": float(k(x, x).mean() + k(y, y).mean() - 2 * k(x, y).mean()),
        "mmd_unbiased": float(off(k(x, x)) + off(k(y, y)) - 2 * k(x, y).mean()),
        "exact_1": float(ot.emd2(uniform, uniform, d(x, same))),
        "exact_2": float(np.sqrt(ot.emd2(uniform, uniform, d(x, same) ** 2))),
    }


def trajectory(rng):
    """A branching line, and scanpy's diffusion pseudotime along it."""
    import anndata
    import scanpy as sc

    t = np.linspace(0, 1, 150)
    branch = (np.arange(150) % 2) * 2 - 1
    x = f32(np.stack([6 * t, branch * 4 * np.clip(t - 0.5, 0, 1), 0 * t], 1) + 0.25 * rng.normal(size=(150, 3)))
    adata = anndata.AnnData(np.zeros((150, 1), dtype=np.float32))
    adata.obsm["X"] = x.astype(np.float32)
    sc.pp.neighbors(adata, n_neighbors=15, use_rep="X")
    sc.tl.diffmap(adata, n_comps=15)
    adata.uns["iroot"] = 0
    sc.tl.dpt(adata, n_dcs=15)
    return {
        "x": x.tolist(),
        "eigenvalues": [float(v) for v in adata.uns["diffmap_evals"]],
        "pseudotime": [float(v) for v in adata.obs["dpt_pseudotime"]],
    }


def regression(rng):
    """Numbers that explain an embedding, by scikit-learn's principal components and regressions."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LinearRegression

    cycle = rng.normal(size=(80, 2))
    x = f32(rng.normal(size=(80, 6)) * [3, 2, 1, 1, 0.5, 0.5] + cycle @ rng.normal(size=(2, 6)))
    pca = PCA().fit(x)
    scores = pca.transform(x)
    explained = lambda k: float(
        sum(LinearRegression().fit(cycle, scores[:, j]).score(cycle, scores[:, j]) * pca.explained_variance_[j] for j in range(k))
        / pca.explained_variance_[:k].sum()
    )
    return {"x": x.tolist(), "cycle": cycle.tolist(), "all": explained(6), "first_2": explained(2)}


def clusters(rng):
    """Labels in few batches, and the best F1 of any cluster."""
    from sklearn.metrics import f1_score

    labels = rng.integers(0, 4, 90)
    batches = np.where(labels >= 2, 0, rng.integers(0, 3, 90))
    sweep = [np.where(rng.random(90) < noise, rng.integers(0, 5, 90), labels % (3 + i)) for i, noise in enumerate([0.1, 0.4])]
    best = lambda l: max(f1_score(labels == l, c == j) for c in sweep for j in np.unique(c))
    return {
        "labels": labels.tolist(),
        "batches": batches.tolist(),
        "sweep": [c.tolist() for c in sweep],
        "isolated_f1": float(np.mean([best(2), best(3)])),
    }


def main():
    """Writes them."""
    rng = np.random.default_rng(0)
    parts = [classification, distribution, trajectory, regression, clusters]
    fixture = {part.__name__: part(rng) for part in parts}
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(fixture, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
