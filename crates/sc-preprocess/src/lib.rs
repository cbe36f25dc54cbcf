//! Single-cell preprocessing: normalise, log1p, highly variable genes, PCA
