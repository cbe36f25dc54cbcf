#!/usr/bin/env python3
"""Whether scvi-tools opens a hub folder that `sc` made, and gets the same numbers out of it.

    sc minify model cells.h5ad --out atlas
    sc hub pack atlas folder --license mit
    python benches/peers/check_hub.py folder --sc target/release/sc

Opens the folder with `scvi.hub.HubModel` and with the model class itself, and compares latent means, their variances and
the expression at the posterior mean with what `sc embed` and `sc expression` write for the same folder. Prints one JSON
line; the exit code says whether all is within the tolerances. Needs huggingface_hub and requests beside requirements.txt.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="open sc's hub folder with scvi-tools and compare numbers")
    parser.add_argument("folder")
    parser.add_argument("--sc", default="sc", help="the sc program")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="relative, of variances and expression")
    return parser.parse_args()


def ours(args):
    """Latent mean, variance and expression as `sc` gives them."""
    import anndata

    data = os.path.join(args.folder, "adata.h5ad")
    with tempfile.TemporaryDirectory() as folder:
        run = lambda *a: subprocess.run([args.sc, *a], check=True, stdout=sys.stderr)
        latent, expression = (os.path.join(folder, n) for n in ("latent.h5ad", "expression.h5ad"))
        run("embed", args.folder, data, "--out", latent, "--variance")
        run("expression", args.folder, data, "--out", expression, "--posterior-mean", "--library-size", "10000")
        latent, expression = anndata.read_h5ad(latent), anndata.read_h5ad(expression)
    key = "X_scANVI" if "X_scANVI" in latent.obsm else "X_scVI"
    return latent.obsm[key], latent.obsm[f"{key}_var"], expression.X


def without_noise():
    """Makes every draw of a normal its mean, so that nothing is random."""
    import torch

    mean = lambda self, sample_shape=(): self.loc.expand(tuple(sample_shape) + tuple(self.loc.shape))
    torch.distributions.Normal.rsample = mean
    torch.distributions.Normal.sample = mean


def main():
    args = arguments()
    warnings.simplefilter("ignore")
    import numpy as np
    import scvi
    from scvi.hub import HubModel

    mean, variance, expression = ours(args)
    without_noise()
    hub = HubModel(args.folder)
    theirs = {"hub": hub.model}
    cls = getattr(scvi.model, hub.metadata.model_cls_name)
    theirs["load"] = cls.load(args.folder, adata=hub.adata.copy(), accelerator="cpu")
    report = {
        "class": hub.metadata.model_cls_name,
        "minified": str(theirs["hub"].minified_data_type),
        "n_cells": int(hub.adata.n_obs),
        "card_characters": len(hub.model_card.content),
        "tags": list(hub.model_card.data.tags),
    }
    relative = lambda a, b: float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1e-30)))
    good = True
    for name, model in theirs.items():
        m, v = model.get_latent_representation(return_dist=True)
        x = model.get_normalized_expression(library_size=1e4, return_numpy=True)
        worst = {
            "latent_mean_abs": float(np.max(np.abs(m - mean))),
            "latent_variance_rel": relative(variance, v),
            "expression_rel": relative(np.asarray(expression), x),
        }
        report[name] = worst
        good &= worst["latent_mean_abs"] <= 2e-5
        good &= max(worst["latent_variance_rel"], worst["expression_rel"]) <= args.tolerance
    if report["minified"] == "latent_posterior_parameters":
        try:
            theirs["hub"].get_elbo()
            report["elbo_is_refused"] = good = False
        except ValueError:
            report["elbo_is_refused"] = True
    report["good"] = bool(good)
    print(json.dumps(report))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
