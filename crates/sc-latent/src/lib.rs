//! scVI and LinearSCVI: variational auto-encoders of single-cell counts
