use super::*;

#[test]
fn a_stream_depends_on_seed_name_and_counters_only() {
    let rng = Rng::new(1);
    let draw = |mut s: Stream| s.next_u64();
    let first = draw(rng.stream("a").at(&[1, 2]));
    let mut used = rng.stream("a");
    used.next_u64();
    assert_eq!(draw(used.at(&[1, 2])), first);
    let others = [
        draw(rng.stream("a").at(&[2, 1])),
        draw(rng.stream("a").at(&[1, 2, 0])),
        draw(rng.stream("a").at(&[1])),
        draw(rng.stream("a")),
        draw(rng.stream("b").at(&[1, 2])),
        draw(rng.child("a").stream("a").at(&[1, 2])),
        draw(Rng::new(2).stream("a").at(&[1, 2])),
    ];
    for (i, other) in others.iter().enumerate() {
        assert_ne!(*other, first);
        assert!(!others[..i].contains(other));
    }
}

#[test]
fn the_numbers_never_change() {
    // A change here breaks everybody's seeds: say so in the change log.
    let mut s = Rng::new(0).stream("pinned").at(&[7]);
    assert_eq!(s.next_u64(), PINNED_U64);
    let mut v = [0f64; 2];
    s.fill_normal(&mut v);
    assert_eq!(v, PINNED_NORMAL);
}
const PINNED_U64: u64 = 7_340_543_276_681_432_403;
const PINNED_NORMAL: [f64; 2] = [0.305_205_679_751_985_04, -0.815_864_226_545_151_6];

#[test]
fn moments() {
    let n = 200_000;
    let mut v = vec![0f32; n];
    Rng::new(3).stream("n").fill_normal(&mut v);
    let mean = v.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
    let var = v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n as f64;
    let fourth = v.iter().map(|&x| f64::from(x).powi(4)).sum::<f64>() / n as f64;
    assert!(mean.abs() < 0.01, "{mean}");
    assert!((var - 1.0).abs() < 0.015, "{var}");
    assert!((fourth - 3.0).abs() < 0.1, "{fourth}");

    Rng::new(3).stream("u").fill_uniform(-1.0, 3.0, &mut v);
    let mean = v.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
    assert!((mean - 1.0).abs() < 0.02, "{mean}");
    assert!(v.iter().all(|x| (-1.0..=3.0).contains(x)));

    let mut m = vec![0u8; n];
    Rng::new(3).stream("b").fill_bernoulli(0.3, &mut m);
    let kept = m.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
    assert!((kept - 0.3).abs() < 0.005, "{kept}");
    Rng::new(3).stream("b").fill_bernoulli(1.0, &mut m);
    assert!(m.iter().all(|&x| x == 1));
}

#[test]
fn threads_do_not_matter() {
    let draw = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| {
            let mut v = vec![0f32; 3 * CHUNK + 5];
            Rng::new(3).stream("n").fill_normal(&mut v);
            v
        })
    };
    assert_eq!(draw(1), draw(2));
}

#[test]
fn a_permutation_has_everything_once() {
    let mut p = Rng::new(0).stream("p").permutation(100);
    assert_ne!(p, (0..100).collect::<Vec<_>>());
    p.sort_unstable();
    assert_eq!(p, (0..100).collect::<Vec<_>>());
}

#[test]
fn bad_arguments_are_errors() {
    let mut s = Rng::new(0).stream("p");
    assert!(s.normal(3, DType::U32, &Device::Cpu).is_err());
    assert!(s.bernoulli(1.5, 3, DType::F32, &Device::Cpu).is_err());
    assert!(s.bernoulli(f64::NAN, 3, DType::F32, &Device::Cpu).is_err());
}
