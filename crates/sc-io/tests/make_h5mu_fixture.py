"""Writes the .h5mu fixture of tests/data/formats, which is made up (needs mudata 0.3).

    python make_h5mu_fixture.py ../../../tests/data/formats
"""
import sys

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import scipy.sparse as sp

md.set_options(pull_on_update=False)
x = np.array([[1, 0, 2], [0, 0, 5], [3, 1, 0]], dtype=np.float32)
rna = ad.AnnData(sp.csr_matrix(x), obs=pd.DataFrame({"n": [1, 2, 3]}, index=["c1", "c2", "c3"]),
                 var=pd.DataFrame(index=["CD3E", "CD19", "GATA1"]))
rna.layers["counts"] = sp.csr_matrix(x)
adt = ad.AnnData(np.array([[7, 8], [9, 10]], dtype=np.float32), obs=pd.DataFrame(index=["c4", "c3"]),
                 var=pd.DataFrame(index=["CD3", "CD19"]))
m = md.MuData({"rna": rna, "adt": adt})
m.obs["batch"] = pd.Categorical(["a", "b", "a", "b"])
m.obsm["X_joint"] = np.arange(8, dtype=np.float32).reshape(4, 2)
m.uns["said"] = "yes"
m.write_h5mu(f"{sys.argv[1]}/mudata_0_3.h5mu")
