//! candle's own matrix product gives the same bits on one thread and on two.
//!
//! gemm reads the number of threads from the environment, so each number needs a process of its own: the test starts
//! itself again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs
)]

use std::process::Command;

use sc_tensor::{DType, Device, Rng, ops};

const CHILD: &str = "SC_TENSOR_MATMUL_CHILD";

/// `[m, k] x [k, n]`: hidden layers, a decoder, the gradient of its weight, and sizes that fit no block.
const SIZES: [(usize, usize, usize); 6] = [
    (128, 128, 128),
    (128, 128, 4000),
    (4000, 128, 128),
    (128, 4000, 128),
    (131, 777, 257),
    (1, 1000, 1000),
];

fn fingerprint() -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for (m, k, n) in SIZES {
        for dtype in [DType::F32, DType::F64] {
            let mut stream = Rng::new(0)
                .stream("matmul")
                .at(&[m as u64, k as u64, n as u64]);
            let a = stream.normal((m, k), dtype, &Device::Cpu).unwrap();
            let b = stream.normal((k, n), dtype, &Device::Cpu).unwrap();
            let bt = stream.normal((n, k), dtype, &Device::Cpu).unwrap();
            for y in [a.matmul(&b).unwrap(), ops::linear(&a, &bt, None).unwrap()] {
                let y = y.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
                for v in y.to_vec1::<f64>().unwrap() {
                    hash = (hash ^ v.to_bits()).wrapping_mul(0x0000_0100_0000_01b3);
                }
            }
        }
    }
    hash
}

#[test]
fn one_thread_or_two() {
    if std::env::var_os(CHILD).is_some() {
        println!("fingerprint={:016x}", fingerprint());
        return;
    }
    let run = |threads: &str| -> String {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "one_thread_or_two", "--nocapture"])
            .env(CHILD, "1")
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let at = text
            .find("fingerprint=")
            .expect("the child printed no fingerprint");
        text[at..].chars().take(28).collect()
    };
    let one = run("1");
    assert_eq!(one, run("2"), "gemm on two threads");
    assert_eq!(one, run("3"), "gemm on three threads");
}
