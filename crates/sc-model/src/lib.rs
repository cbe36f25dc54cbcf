//! What every single-cell model shares: parameters, layers, optimisers, the training loop, observers, checkpoints, traits
