//! Read and write single-cell files: h5ad, 10x h5, MatrixMarket, and PyTorch checkpoints
