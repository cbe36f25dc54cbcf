//! How many threads there are, and what kind of memory they use.

use crate::error::{Error, Result};

/// Makes all products and kernels use `threads` threads; `None` takes all cores, or `RAYON_NUM_THREADS`.
pub(crate) fn set_up(threads: Option<usize>) -> Result<()> {
    set_environment(threads);
    rayon::ThreadPoolBuilder::new()
        // 0 is as many as there are cores, or what `RAYON_NUM_THREADS` says.
        .num_threads(threads.unwrap_or(0))
        .stack_size(STACK)
        .build_global()
        .map_err(|e| Error::Message(format!("cannot start the threads: {e}")))
}

/// The stack of a thread: commands run on one of them, and want no less than a main thread has.
const STACK: usize = 8 << 20;

/// Runs a command on one of the threads. From outside of them each parallel step puts the caller to sleep and wakes others: in
/// three epochs of scANVI 150,000 times instead of 4,000.
pub(crate) fn inside<R: Send>(command: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| command())
}

/// candle takes its numbers of threads from environment variables only, and a process can't safely change its own: it
/// starts itself again with them, under the same process id.
///
/// `CANDLE_NUM_THREADS` is for element-wise operations, whose threads spin while they wait; that costs more than it
/// gives. `RAYON_NUM_THREADS` is for matrix products. `MIMALLOC_ALLOW_LARGE_OS_PAGES` lets the allocator ask for huge
/// pages: large arrays take a few thousand page faults less, and reading a file a quarter less time.
#[cfg(unix)]
fn set_environment(threads: Option<usize>) {
    use std::os::unix::process::CommandExt;

    let mut wanted = Vec::new();
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        wanted.push(("CANDLE_NUM_THREADS", "1".to_owned()));
    }
    if std::env::var_os("MIMALLOC_ALLOW_LARGE_OS_PAGES").is_none() {
        wanted.push(("MIMALLOC_ALLOW_LARGE_OS_PAGES", "1".to_owned()));
    }
    if let Some(n) = threads.map(|n| n.to_string())
        && std::env::var("RAYON_NUM_THREADS").ok().as_ref() != Some(&n)
    {
        wanted.push(("RAYON_NUM_THREADS", n));
    }
    if wanted.is_empty() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        // Only returns if it failed; then all goes on, a little slower.
        let error = std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .envs(wanted)
            .exec();
        tracing::debug!("cannot start again with the numbers of threads: {error}");
    }
}

#[cfg(not(unix))]
fn set_environment(_: Option<usize>) {}
