use candle_core::{DType, Device};

use super::*;
use crate::testing::{numbers, random};
use crate::{Var, backward, ops};

fn var(name: &str, dims: &[usize]) -> Var {
    Var::from_tensor(&random(name, -1.0, 1.0, dims, DType::F64)).unwrap()
}

/// A network whose tensors are used once and twice, by kernels and by candle.
fn loss(x: &Var, w: &Var, b: &Var) -> Tensor {
    let h = ops::linear(x, w, Some(b)).unwrap();
    let a = ops::softplus(&h).unwrap();
    let s = ops::add_layer_norm(&a, &h, None, Some(b), Some(b), 1e-5).unwrap();
    let t = ops::linear(&s, w, None).unwrap();
    let all = ((&t * &a).unwrap() + s.sqr().unwrap()).unwrap();
    let again = ops::sigmoid(&all.reshape((2, 10)).unwrap()).unwrap();
    (again.sum_all().unwrap() + h.sum_all().unwrap()).unwrap()
}

/// The same of plain operations.
fn plain(x: &Var, w: &Var, b: &Var) -> Tensor {
    use ops::composed;
    let h = composed::linear(x, w, Some(b)).unwrap();
    let a = composed::softplus(&h).unwrap();
    let s = composed::layer_norm(&(&a + &h).unwrap(), Some(b), Some(b), 1e-5).unwrap();
    let t = composed::linear(&s, w, None).unwrap();
    let all = ((&t * &a).unwrap() + s.sqr().unwrap()).unwrap();
    let again = composed::sigmoid(&all.reshape((2, 10)).unwrap()).unwrap();
    (again.sum_all().unwrap() + h.sum_all().unwrap()).unwrap()
}

fn variables() -> [Var; 3] {
    [var("x", &[5, 4]), var("w", &[4, 4]), var("b", &[4])]
}

#[test]
fn gradients_reach_everything() {
    let [x, w, b] = &variables();
    let expected = plain(x, w, b).backward().unwrap();
    let graph = loss(x, w, b);
    // By candle and by this crate, in turns: what one has used up is no trouble to the other.
    for by_candle in [true, false, false, true] {
        let grads = match by_candle {
            true => graph.backward().unwrap(),
            false => backward(&graph).unwrap(),
        };
        for v in [x, w, b] {
            let (found, expected) = (grads.get(v).unwrap(), expected.get(v).unwrap());
            for (f, e) in numbers(found).iter().zip(numbers(expected)) {
                assert!((f - e).abs() < 1e-12, "{f} is not {e}");
            }
        }
        assert_eq!(grads.get_ids().count(), 3);
    }
    assert!(LEFT.with_borrow(HashMap::is_empty) && TO_TAKE.with_borrow(HashMap::is_empty));
}

#[test]
fn another_thread_may_go_back() {
    let [x, w, b] = &variables();
    let (here, graph) = (backward(&loss(x, w, b)).unwrap(), loss(x, w, b));
    let there = std::thread::spawn(move || graph.backward().unwrap());
    let there = there.join().unwrap();
    for v in [x, w, b] {
        assert_eq!(
            numbers(here.get(v).unwrap()),
            numbers(there.get(v).unwrap())
        );
    }
}

#[test]
fn nothing_stays_behind() {
    let linked = |t: &Tensor| links(|links| links.contains_key(&t.id()));
    let [x, w, b] = &variables();
    let h = ops::linear(x, w, Some(b)).unwrap();
    let y = ops::relu(&h).unwrap();
    let (ids, calls) = ([h.id(), y.id()], [&h, &y].map(linked));
    assert_eq!(calls, [true, true]);
    assert!(!linked(&h.detach()) && !linked(x));
    drop(h);
    // Kept by what was made of it.
    assert!(links(|links| links.contains_key(&ids[0])));
    drop(y);
    assert!(links(|links| ids.iter().all(|id| !links.contains_key(id))));
}

#[test]
fn an_interrupted_way_back_is_forgotten() {
    let w = Var::new(&[[1f64]], &Device::Cpu).unwrap();
    let y = ops::linear(&w, &w, None).unwrap();
    let one = y.reshape((1, 1, 1)).unwrap();
    // candle has no gradient for a transposed convolution; the sum with `y` is visited before.
    let bad = one.conv_transpose1d(&one, 0, 0, 1, 1, 1).unwrap();
    let both = (bad.reshape((1, 1)).unwrap() + &y).unwrap();
    assert!(backward(&both).is_err());
    let grads = backward(&y).unwrap();
    assert_eq!(numbers(grads.get(&w).unwrap()), [2.0]);
}

#[test]
fn memory_of_gradients_is_used_again_and_nobody_notices() {
    // Large enough for the pool.
    let x = random("x", -1.0, 1.0, &[600, 128], DType::F32);
    let w = Var::from_tensor(&random("w", -0.1, 0.1, &[128, 128], DType::F32)).unwrap();
    let run = || {
        let h = ops::linear_relu(&x, &w, None, None).unwrap();
        let h = ops::add_layer_norm(
            &h,
            &ops::linear(&h, &w, None).unwrap(),
            None,
            None,
            None,
            1e-5,
        )
        .unwrap();
        let h = ops::linear(&h, &w, None).unwrap();
        numbers(
            backward(&h.sqr().unwrap().sum_all().unwrap())
                .unwrap()
                .get(&w)
                .unwrap(),
        )
    };
    let first = run();
    for _ in 0..3 {
        assert!(run() == first);
    }
}
