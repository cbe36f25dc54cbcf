//! CLUE, its matchings and GLUE's graph against scglue's numbers (`$SC_SHARED/golden/integrate`).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clue;
mod golden;
mod graph;
mod matching;
