//! Optimal transport between clouds of points.
