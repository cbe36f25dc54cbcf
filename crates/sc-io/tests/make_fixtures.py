"""Writes the HDF5 fixtures of tests/data/formats that are made up (needs anndata 0.12, h5py, pandas, scipy).

    python make_fixtures.py ../../../tests/data/formats
"""
import sys

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

folder = sys.argv[1]
x = np.array([[1, 0, 2, 0], [0, 0, 0, 5], [3, 1, 0, 0]], dtype=np.float32)


def modern(path):
    obs = pd.DataFrame(index=["c1", "c2", "c3"])
    obs["batch"] = pd.Categorical(["b", None, "a"], categories=["b", "a", "unused"])
    obs["stage"] = pd.Categorical([2, 1, 2], categories=[1, 2], ordered=True)
    obs["n"] = np.array([1, 2, 3], dtype=np.int32)
    obs["big"] = np.array([1, 2, 1 << 40])
    obs["score"] = np.array([0.5, np.nan, 1.5])
    obs["score32"] = np.array([0.5, 0.25, 1.5], dtype=np.float32)
    obs["ok"] = [True, False, True]
    obs["maybe"] = pd.array([True, None, False], dtype="boolean")
    obs["count"] = pd.array([7, None, 9], dtype="Int64")
    obs["tiny"] = np.array([200, 1, 0], dtype=np.uint8)
    obs["text"] = ["ä", "", "日本"]
    var = pd.DataFrame({"hv": [True, False, True, False]}, index=pd.Index(list("wxyz"), name="gene"))
    a = ad.AnnData(sp.csr_matrix(x), obs=obs, var=var)
    a.layers["csc"] = sp.csc_matrix(x)
    a.layers["dense64"] = x.astype(np.float64)
    a.layers["ints"] = x.astype(np.int64)
    a.obsm["X_pca"] = np.arange(6, dtype=np.float32).reshape(3, 2)
    a.obsm["frame"] = pd.DataFrame({"p": [1.0, 2.0, 3.0]}, index=obs.index)
    a.obsm["sparse"] = sp.csc_matrix(np.eye(3))
    a.obsm["cube"] = np.zeros((3, 2, 2))
    a.varm["PCs"] = np.ones((4, 2))
    a.obsp["dist"] = sp.csr_matrix(np.array([[0, 1.5, 0], [1.5, 0, 0], [0, 0, 0]]))
    a.varp["cor"] = np.eye(4)
    a.raw = ad.AnnData(sp.csr_matrix(np.ones((3, 5), np.float32)), obs=obs[[]], var=pd.DataFrame(index=list("vwxyz")))
    names = np.rec.fromarrays([np.array(["g1", "gene2"], object), np.array(["g3", "ü"], object), np.array([1.5, 2.5])],
                              dtype=[("b", "O"), ("a", "O"), ("score", "f8")])
    a.uns = {
        "title": "made up", "three": 3, "half": 0.5, "yes": True, "nothing": None,
        "ints": np.arange(4).reshape(2, 2), "floats": np.array([1.5, np.inf]), "f32": np.array([0.5], np.float32),
        "bools": np.array([True, False]), "texts": np.array(["p", "q"], dtype=object),
        "deep": {"er": {"and": {"deeper": "end"}}}, "empty": {},
        "sparse": sp.csr_matrix(np.eye(2, dtype=np.float32)), "frame": pd.DataFrame({"q": [1, 2]}, index=["r", "s"]),
        "names": names, "complex": np.array([1 + 2j]),
    }
    ad.settings.allow_write_nullable_strings = True
    a.write_h5ad(path)
    with h5py.File(path, "a") as f:  # as with pandas 3, also for the index
        order = list(f["obs"].attrs["column-order"])
        f["obs"].attrs["column-order"] = np.array(order + ["note"], dtype=object)
        ad.io.write_elem(f["obs"], "note", pd.array(["x", None, "z"], dtype="string"))
        for frame in ("obs", "obsm/frame"):
            del f[frame]["_index"]
            ad.io.write_elem(f[frame], "_index", pd.array(["c1", "c2", "c3"], dtype="string"))


def strings(group, name, values):
    group.create_dataset(name, data=np.array(values, dtype=object), dtype=h5py.string_dtype())


def frame_07(parent, name, index, columns, categories):
    g = parent.create_group(name)
    g.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.1.0", "_index": "_index"})
    g.attrs["column-order"] = np.array(list(columns), dtype=object) if columns else np.zeros(0)
    strings(g, "_index", index)
    for key, values in columns.items():
        g.create_dataset(key, data=values)
    cats = g.create_group("__categories")
    for key, (labels, ordered) in categories.items():
        strings(cats, key, labels)
        cats[key].attrs["ordered"] = ordered
        g[key].attrs["categories"] = cats[key].ref


def anndata_07(path):
    with h5py.File(path, "w") as f:
        m = sp.csr_matrix(x)
        g = f.create_group("X")
        g.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": np.array(x.shape)})
        for part in ("data", "indices", "indptr"):
            g.create_dataset(part, data=getattr(m, part), compression="lzf", chunks=True, maxshape=(None,))
        frame_07(f, "obs", ["c1", "c2", "c3"], {"kind": np.array([1, -1, 0], np.int8), "n": np.array([1, 2, 3])},
                 {"kind": (["a", "b"], True)})
        frame_07(f, "var", list("wxyz"), {}, {})
        f.create_group("uns")["number"] = 4


def anndata_05(path):
    with h5py.File(path, "w") as f:
        f.create_dataset("X", data=x, compression="gzip")
        f.create_dataset("obs", compression="gzip", shuffle=True, data=np.array(
            [(b"c1", 1, 0.5, True), (b"c2", 0, 1.5, False), (b"c3", 1, 2.5, True)],
            dtype=[("index", "S4"), ("kind", "i1"), ("score", "<f4"), ("ok", "?")]))
        f.create_dataset("var", data=np.array([(c,) for c in (b"w", b"x", b"y", b"z")], dtype=[("index", "S1")]))
        f.create_dataset("obsm", data=np.array(
            [([1, 2],), ([3, 4],), ([5, 6],)], dtype=[("X_pca", "<f4", (2,))]))
        f["uns/kind_categories"] = np.array([b"a", b"b"])
        f["uns/method"] = np.array([b"umap"])
        for name, parent in (("raw.X", f), ("connectivities", f.create_group("uns/neighbors"))):
            m = sp.csr_matrix(x if name == "raw.X" else np.eye(3))
            g = parent.create_group(name)
            g.attrs.update({"h5sparse_format": "csr", "h5sparse_shape": np.array(m.shape)})
            for part in ("data", "indices", "indptr"):
                g[part] = getattr(m, part)
        f.copy("var", f, name="raw.var")


modern(f"{folder}/anndata_0_12.h5ad")
anndata_07(f"{folder}/anndata_0_7.h5ad")
anndata_05(f"{folder}/anndata_0_5.h5ad")
