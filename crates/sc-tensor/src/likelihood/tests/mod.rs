#![allow(missing_docs)]
#[allow(clippy::print_stdout)]
mod timing;
