#!/usr/bin/env python3
"""Gather the 130,887 lineage-traced cells of Weinreb et al. 2020 in their plane into one file.

    larry_plane.py FOLDER LABELLED.h5ad OUT.h5ad

FOLDER has coordinates, days, clonal fates and published predictions, each in a file of its own; LABELLED.h5ad some of the same
cells with a label (`obs["state_info"]`) and their coordinates (`obsm["X_emb"]`), by which they are found. In OUT, `X` and
`obsm["X_emb"]` are the coordinates, and `obs` has

    day               2, 4 or 6
    state_info        the label, missing for most cells
    fate_NAME         the share of a fate among differentiated clone-mates, NaN where that is not known
    smoothed, heldout P(neutrophil) of clones, smoothed over neighbours, of cells of day 2; which of them were held out
    wot, pba, fateid  what three methods predicted for the same cells
"""

import argparse
import pathlib

import anndata
import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

PREDICTIONS = {
    "smoothed": "smoothed_groundtruth_from_heldout",
    "wot": "WOT_predictions",
    "pba": "PBA_predictions",
    "fateid": "FateID_predictions",
}


def labels_of(cells, labelled):
    """Labels of the cells that are in both files; two with the same place are of the same day, or it is an error."""
    far, row = cKDTree(cells[["x", "y"]].to_numpy()).query(np.asarray(labelled.obsm["X_emb"]))
    day = labelled.obs["time_info"].astype(str).astype(float).to_numpy()
    if far.max() > 0.01 or len(set(row)) != len(row) or (cells["day"].to_numpy()[row] != day).any():
        raise SystemExit("the labelled cells are not among those of the folder")
    labels = np.full(len(cells), None, dtype=object)
    labels[row] = labelled.obs["state_info"].astype(str).to_numpy()
    return pd.Categorical(labels)


def main():
    parser = argparse.ArgumentParser(description="gather cells, fates and predictions in one file")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("labelled")
    parser.add_argument("out")
    args = parser.parse_args()

    def array(name):
        return np.load(args.folder / f"{name}.npy")

    cells = pd.DataFrame(
        {"x": array("coordinates_x"), "y": array("coordinates_y"), "day": array("timepoints").astype(float)}
    )
    obs = pd.DataFrame({"day": cells["day"], "state_info": labels_of(cells, anndata.read_h5ad(args.labelled))})
    fates = pd.read_csv(args.folder / "F_obs.csv", index_col=0)
    for fate in fates.columns:
        obs[f"fate_{fate}"] = fates[fate].reindex(obs.index)
    early = (array("neutrophil_monocyte_trajectory_mask") & (cells["day"] == 2)).to_numpy()
    for name, file in PREDICTIONS.items():
        obs[name] = np.nan
        # Probabilities; rounding left some of them 1e-14 below 0.
        obs.loc[early, name] = np.clip(array(file), 0, 1)
    obs["heldout"] = False
    obs.loc[early, "heldout"] = array("heldout_mask")
    obs.index = obs.index.astype(str)
    places = cells[["x", "y"]].to_numpy(np.float32)
    out = anndata.AnnData(X=places, obs=obs, var=pd.DataFrame(index=["x", "y"]), obsm={"X_emb": places})
    out.write_h5ad(args.out)
    print(f"{len(obs)} cells, {obs.state_info.notna().sum()} with a label, {len(fates)} with fates")


if __name__ == "__main__":
    main()
