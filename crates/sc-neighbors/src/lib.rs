//! Nearest-neighbour graphs, Leiden clusters and UMAP of single cells
