#!/usr/bin/env python3
"""Whether scvi-tools opens the model of a query that `sc` mapped, and gets the same numbers out of it.

    sc train scanvi cells.h5ad --out model --labels-key L --unlabeled-category Unknown --encode-covariates
    python benches/peers/check_query.py model query.h5ad --sc target/release/sc

Maps the query with `sc map --scvi-tools`, loads what that wrote with scvi-tools, and compares places, and of scANVI the
labels and their probabilities, with those of `sc map` and `sc annotate`. Then trains the loaded model for one epoch, as
scvi-tools' users would go on. Prints one JSON line; the exit code says whether all is within the tolerance.
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
    parser = argparse.ArgumentParser(description="open the model of a query with scvi-tools and compare numbers")
    parser.add_argument("model", help="the reference: of sc train, or of scvi-tools")
    parser.add_argument("query", metavar="QUERY.h5ad")
    parser.add_argument("--sc", default="sc", help="the sc program")
    parser.add_argument("--max-epochs", default="20")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="absolute, of places and probabilities")
    return parser.parse_args()


def main():
    args = arguments()
    warnings.simplefilter("ignore")
    import anndata
    import numpy as np
    import scvi

    scvi.settings.verbosity = 40
    query = anndata.read_h5ad(args.query)
    with tempfile.TemporaryDirectory() as folder:
        mapped, labels = os.path.join(folder, "mapped"), os.path.join(folder, "labels.h5ad")
        run = lambda *a: subprocess.run([args.sc, *a], check=True, stdout=sys.stderr)
        run("map", args.model, args.query, "--out", mapped, "--scvi-tools", "--max-epochs", args.max_epochs)
        ours = anndata.read_h5ad(os.path.join(mapped, "query.h5ad"))
        is_scanvi = "X_scANVI" in ours.obsm
        kind = scvi.model.SCANVI if is_scanvi else scvi.model.SCVI
        setup = kind.load_registry(mapped)["setup_args"]
        if is_scanvi and setup["labels_key"] not in query.obs:
            query.obs[setup["labels_key"]] = setup["unlabeled_category"]
        kind.prepare_query_anndata(query, mapped)
        model = kind.load(mapped, query, accelerator="cpu")
        places = np.abs(model.get_latent_representation() - ours.obsm["X_scANVI" if is_scanvi else "X_scVI"]).max()
        report = {"cells": query.n_obs, "model": kind.__name__, "places": float(places)}
        worst = places
        if is_scanvi:
            run("annotate", mapped, args.query, "--out", labels, "--probabilities")
            ours = anndata.read_h5ad(labels)
            theirs = model.predict(soft=True).to_numpy()
            probabilities = np.abs(theirs - np.asarray(ours.obsm["C_scANVI_probabilities"])).max()
            report["probabilities"] = float(probabilities)
            report["other_labels"] = int((ours.obs["C_scANVI"].astype(str).to_numpy() != model.predict().astype(str)).sum())
            worst = max(worst, probabilities)
        model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
        report["trains_on"] = bool(np.isfinite(model.get_latent_representation()).all())
    print(json.dumps(report))
    return 0 if worst <= args.tolerance and report.get("other_labels", 0) == 0 and report["trains_on"] else 1


if __name__ == "__main__":
    sys.exit(main())
