//! Feeds readers with damaged files: `fuzz READER CORPUS --executions N`, with READER one of `pickle`, `pytorch`, `mtx`, `h5ad`, `10x`, `loom`,
//! `csv`, `gtf`, and CORPUS a folder of whole files (`fuzz/corpus/READER`, or files of `tests/data`).
//!
//! Each execution takes one of the files, damages it in a few places (bits, bytes, numbers, pieces cut out, doubled or moved in from
//! another file, the end cut off) and reads it. A panic, or a read of more than ten seconds, ends the run and says which execution it
//! was: `--from K --executions 1` repeats that. Nothing looks at which lines of code were reached, as `cargo fuzz` does, which needs
//! a nightly compiler. Limit the memory from outside: `prlimit --as=2147483648`.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use sc_tensor::{Rng, Stream};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// So long may a reader take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Numbers at which things go wrong.
const NUMBERS: [&str; 10] = [
    "0",
    "-1",
    "1",
    "255",
    "65536",
    "2147483647",
    "4294967296",
    "1152921504606846976",
    "18446744073709551615",
    "1e308",
];

#[derive(Parser)]
struct Args {
    #[arg(value_enum)]
    reader: Reader,
    corpus: PathBuf,
    #[arg(long, default_value_t = 100_000)]
    executions: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the damaged files; best in memory
    #[arg(long, default_value = "/dev/shm")]
    work: PathBuf,
    /// Write the damaged file of the first execution here, and read nothing
    #[arg(long)]
    save: Option<PathBuf>,
    /// Stop after so many seconds
    #[arg(long)]
    seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Reader {
    Pickle,
    Pytorch,
    Mtx,
    H5ad,
    #[value(name = "10x")]
    TenX,
    Loom,
    Csv,
    Gtf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut seeds = Vec::new();
    for entry in std::fs::read_dir(&args.corpus)? {
        let path = entry?.path();
        if path.is_file() {
            seeds.push((path.clone(), std::fs::read(path)?));
        }
    }
    seeds.sort();
    if seeds.is_empty() {
        return Err(format!("{}: no file", args.corpus.display()).into());
    }
    let folder = tempfile::tempdir_in(&args.work)?;
    let rng = Rng::new(args.seed);
    let (start, mut slowest, mut whole) = (Instant::now(), Duration::ZERO, 0u64);
    let mut done = 0;
    for i in args.from..args.from + args.executions {
        if args.seconds.is_some_and(|s| start.elapsed().as_secs() >= s) {
            break;
        }
        let bytes = damaged(&seeds, &mut rng.stream("fuzz").at(&[i]));
        if let Some(path) = &args.save {
            return Ok(std::fs::write(path, bytes)?);
        }
        let since = Instant::now();
        let read = std::panic::catch_unwind(|| args.reader.read(&bytes, folder.path()));
        let took = since.elapsed();
        slowest = slowest.max(took);
        match read {
            Ok(Ok(ok)) => whole += u64::from(ok),
            Ok(Err(e)) => return Err(format!("execution {i}: {e}").into()),
            Err(_) => return Err(format!("execution {i} panicked").into()),
        }
        if took > PATIENCE {
            return Err(format!("execution {i} took {took:?}").into());
        }
        done += 1;
    }
    println!(
        "{:?}: {done} executions in {:.0} s, {whole} of them read without an error, the slowest in {slowest:?}",
        args.reader,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

impl Reader {
    /// Whether the bytes are read. An error of this function is one of the harness.
    fn read(self, bytes: &[u8], folder: &Path) -> std::io::Result<bool> {
        let put = |name: &str| {
            let path = folder.join(name);
            std::fs::write(&path, bytes).map(|()| path)
        };
        Ok(match self {
            Self::Pickle => sc_io::pytorch::parse_pickle(bytes).is_ok(),
            Self::Pytorch => sc_io::pytorch::read(put("x.pt")?).is_ok(),
            Self::Mtx => {
                put("matrix.mtx")?;
                let names = |n: usize| (0..n).map(|i| format!("n{i}\n")).collect::<String>();
                std::fs::write(folder.join("barcodes.tsv"), names(4))?;
                std::fs::write(folder.join("genes.tsv"), names(5))?;
                sc_io::mtx::read_dir(folder).is_ok()
            }
            Self::H5ad => {
                let path = put("x.h5ad")?;
                _ = sc_io::inspect(&path);
                sc_io::h5ad::read(&path).is_ok()
            }
            Self::TenX => sc_io::tenx::read_h5(put("x.h5")?).is_ok(),
            Self::Loom => sc_io::loom::read(put("x.loom")?).is_ok(),
            Self::Csv => sc_io::csv::read(put("x.csv")?).is_ok(),
            Self::Gtf => sc_io::genome::read_gtf(put("x.gtf")?, "gene_id").is_ok(),
        })
    }
}

/// One of the files with one to four damages.
fn damaged(seeds: &[(PathBuf, Vec<u8>)], stream: &mut Stream) -> Vec<u8> {
    let mut at = |n: usize| -> usize {
        let mut u = [0f64];
        stream.fill_uniform(0.0, 1.0, &mut u);
        ((u[0] * n as f64) as usize).min(n.saturating_sub(1))
    };
    let mut bytes = seeds[at(seeds.len())].1.clone();
    for _ in 0..=at(4) {
        if bytes.is_empty() {
            break;
        }
        let n = bytes.len();
        let from = at(n);
        let length = 1 << at(7);
        let to = (from + 1 + at(length)).min(n);
        match at(9) {
            0 => bytes[from] ^= 1 << at(8),
            1 => bytes[from] = at(256) as u8,
            2 => bytes[from] = [0, 1, 0x7f, 0x80, 0xff][at(5)],
            3 => bytes.truncate(from),
            4 => drop(bytes.drain(from..to)),
            5 => {
                let piece = bytes[from..to].to_vec();
                let place = at(n);
                bytes.splice(place..place, piece);
            }
            6 => {
                let other = &seeds[at(seeds.len())].1;
                let start = at(other.len());
                let end = (start + 1 + at(64)).min(other.len());
                let piece = other[start..end].to_vec();
                bytes.splice(from..to, piece);
            }
            7 => {
                // A number written in digits, or in eight bytes.
                let digits = (from..n).find(|&i| bytes[i].is_ascii_digit());
                if let Some(first) = digits {
                    let last = (first..n)
                        .find(|&i| !bytes[i].is_ascii_digit())
                        .unwrap_or(n);
                    bytes.splice(first..last, NUMBERS[at(NUMBERS.len())].bytes());
                }
            }
            _ => {
                let word = [u64::MAX, 1 << 60, 1 << 32, 0, i64::MAX as u64][at(5)].to_le_bytes();
                let width = [2, 4, 8][at(3)].min(n - from);
                bytes[from..from + width].copy_from_slice(&word[..width]);
            }
        }
    }
    bytes
}
