"""Writes tests/data/de: what scikit-learn and scvi-tools make of inputs that the tests make up again.

    python3 tests/make_de_fixtures.py [robust] [mixtures] [importance]      # scikit-learn, scvi-tools 1.4.2

Inputs come from integer arithmetic that the tests in Rust repeat exactly, so that only results are stored.
"""

import json
import sys
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scvi
import sklearn
import torch
from sklearn.covariance import EllipticEnvelope, MinCovDet
from sklearn.mixture import GaussianMixture

OUT = Path(__file__).parent / "data" / "de"
SEEDS = range(10)


def bells(n, seed):
    """About normal: sums of twelve uniforms of a linear congruential generator."""
    state, out = seed, np.empty(n)
    for i in range(n):
        total = 0
        for _ in range(12):
            state = (1103515245 * state + 12345) % 2**31
            total += state
        out[i] = total / 2**31 - 6
    return out


def points(n, p, far, seed):
    """Correlated points of which the first `far` lie apart."""
    x = bells(n * p, seed).reshape(n, p)
    x[:far] = x[:far] * 0.5 + 4
    x[:, 1] += 0.5 * x[:, 0]
    x[:, p - 1] *= 10
    return x


def robust():
    sets = []
    for n, p, far, seed in [(120, 3, 8, 1), (331, 5, 60, 2), (900, 4, 45, 3), (2500, 10, 400, 4)]:
        x = points(n, p, far, seed)
        outliers, log_dets, within = [], [], set()
        for s in SEEDS:
            fit = EllipticEnvelope(contamination=0.1, random_state=s).fit(x)
            outliers.append(set(np.flatnonzero(fit.predict(x) < 0).tolist()))
            raw = MinCovDet(random_state=s).fit(x)
            log_dets.append(float(np.linalg.slogdet(raw.raw_covariance_)[1]))
            within.add(int(raw.raw_support_.sum()))
        best = MinCovDet(random_state=int(np.argmin(log_dets))).fit(x)
        # Some seeds end far from the least determinant, and tell nothing of it.
        near = [o for o, d in zip(outliers, log_dets) if d < min(log_dets) + 0.02]
        sets.append({
            "n": n, "p": p, "far": far, "seed": seed,
            "h": sorted(within),
            "log_det": log_dets,
            "location": best.location_.tolist(),
            "covariance": best.covariance_.ravel().tolist(),
            "always_outliers": sorted(set.intersection(*near)),
            "ever_outliers": sorted(set.union(*near)),
        })
        print(n, p, "h", within, "log det", min(log_dets), max(log_dets),
              "outliers", len(sets[-1]["always_outliers"]), len(sets[-1]["ever_outliers"]))
    return sets


def changes(kind, seed):
    """Mean log fold changes of genes."""
    x = bells(900, seed)
    k = np.arange(900)
    match kind:
        case "three groups":
            return 0.1 * x + np.array([-2.0, 0.0, 1.0])[k % 3]
        case "few change":
            return np.where(k % 50 == 0, 2.5 + 0.3 * x, np.where(k % 41 == 0, -1.5 + 0.3 * x, 0.05 * x))
        case "one bell":
            return 0.4 * x
        case "skewed":
            return np.where(x > 0, 1.5 * x * x, 0.3 * x)
        case "nothing":
            return 0.001 * x


def delta(x, seed):
    means = GaussianMixture(3, random_state=seed).fit(x[:, None]).means_
    return max(0.1, 0.6 * np.mean([abs(means.min()), abs(means.max())]))


def mixtures():
    sets = []
    for k, kind in enumerate(["three groups", "few change", "one bell", "skewed", "nothing"]):
        x = changes(kind, k + 1)
        deltas = [float(delta(x, s)) for s in range(30)]
        sets.append({"kind": kind, "seed": k + 1, "delta": deltas})
        print(kind, min(deltas), max(deltas))
    return sets


CELLS, GENES = 48, 12


def cells():
    i, g = np.mgrid[:CELLS, :GENES]
    x = (i * 5 + g * 7 + i * i * (g + 1)) % 13 + np.where(g % 3 == i % 3, 9, 0)
    i = np.arange(CELLS)
    obs = pd.DataFrame({
        "batch": pd.Categorical(np.where(i % 2 == 0, "x", "y")),
        "size": x.sum(1) / 100.0 + i % 5 * 0.1,
    }, index=[f"cell {k}" for k in i])
    var = pd.DataFrame(index=[f"gene {k}" for k in range(GENES)])
    return anndata.AnnData(x.astype(np.float32), obs=obs, var=var)


MODELS = {
    "zinb": ({}, {}),
    "nb_gene_batch": ({"dispersion": "gene-batch", "gene_likelihood": "nb"}, {}),
    "learned_library": ({"use_observed_lib_size": False}, {}),
    "size_factor": ({"gene_likelihood": "nb"}, {"size_factor_key": "size"}),
}


def importance(name):
    model_kwargs, setup = MODELS[name]
    data = cells()
    scvi.settings.seed = 0
    scvi.model.SCVI.setup_anndata(data, batch_key="batch", **setup)
    model = scvi.model.SCVI(data, n_hidden=8, n_latent=3, **model_kwargs)
    model.train(30, train_size=1.0, batch_size=16, plan_kwargs={"lr": 1e-2}, accelerator="cpu",
                enable_progress_bar=False, logger=False)
    model.save(str(OUT / name), overwrite=True)
    return {"name": name, **weights_of(model, data), **means_of(model, data)}


SAMPLES = 3


def noise():
    """What turns posterior means into draws of z, `[samples, cells, latent]`."""
    s, i, j = np.mgrid[:SAMPLES, :CELLS, :3]
    return ((5 * i + 3 * j + 2 * s) % 7 - 3) / 3


def weights_of(model, data):
    """Log weights of draws of z at given noise, with all cells as anchors."""
    module = model.module.eval()
    batch = next(iter(model._make_data_loader(adata=data, batch_size=CELLS)))
    with torch.no_grad():
        inputs = module._get_inference_input(batch)
        posterior = module.inference(**inputs)
        qz = posterior["qz"]
        logs = []
        for eps in noise():
            posterior["z"] = qz.loc + torch.tensor(eps, dtype=torch.float32) * qz.scale
            px = module.generative(**module._get_generative_input(batch, posterior))["px"]
            logs.append(repeats(model, data, qz, px, posterior["z"]))
    return {"log_weights": np.concatenate(logs, 1)}


def repeats(model, data, qz, px, z):
    runs = []
    for seed in SEEDS:
        scvi.settings.seed = seed
        w = model.get_importance_weights(data, np.arange(CELLS), qz, px, z, n_mc_samples=2000)
        runs.append(np.log(np.asarray(w, dtype=float)))
    return np.array(runs)


def means_of(model, data):
    """Mean expression of the first batch's cells, each draw alike and by its weight: mean and standard error over seeds.

    The weights of many draws are asked for at once; drawing by them, as get_normalized_expression does, fails for as many.
    """
    copies = 60
    some = data[::2].copy()
    repeated = data[np.tile(np.arange(0, CELLS, 2), copies)].copy()
    module = model.module.eval()
    uniform, importance = [], []
    for seed in SEEDS:
        scvi.settings.seed = seed
        with torch.no_grad():
            one, many = (
                next(iter(model._make_data_loader(adata=model._validate_anndata(d), batch_size=len(d))))
                for d in (some, repeated)
            )
            qz = module.inference(**module._get_inference_input(one))["qz"]
            posterior = module.inference(**module._get_inference_input(many))
            px = module.generative(**module._get_generative_input(many, posterior))["px"]
            w = model.get_importance_weights(some, np.arange(len(some)), qz, px, posterior["z"])
        scale = px.scale.numpy().astype(float)
        uniform.append(scale.mean(0))
        importance.append(np.asarray(w, dtype=float) @ scale / np.sum(w, dtype=float))
    importance = np.array(importance)
    return {
        "uniform_mean": np.mean(uniform, 0).tolist(),
        "importance_mean": importance.mean(0).tolist(),
        "importance_error": (importance.std(0, ddof=1) / np.sqrt(len(importance))).tolist(),
    }


def summary(found):
    """Mean and standard error of log weights over seeds, up to a constant for each set of draws."""
    logs = found.pop("log_weights").reshape(len(SEEDS), SAMPLES, CELLS)
    logs -= logs.mean(2, keepdims=True)
    error = logs.std(0, ddof=1) / np.sqrt(len(logs))
    return {**found, "log_weights": logs.mean(0).tolist(), "log_weights_error": error.tolist()}


def write(name, what):
    versions = {"scikit-learn": sklearn.__version__, "scvi-tools": scvi.__version__}
    text = json.dumps({"made_with": versions, "sets": what}, separators=(",", ":"))
    (OUT / name).write_text(text + "\n")


def main():
    warnings.filterwarnings("ignore")
    scvi.settings.verbosity = 40
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    parts = {
        "robust": robust,
        "mixtures": mixtures,
        "importance": lambda: [summary(importance(name)) for name in MODELS],
    }
    for part in sys.argv[1:] or parts:
        write(f"{part}.json", parts[part]())


if __name__ == "__main__":
    main()
