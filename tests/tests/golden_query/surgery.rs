//! Where surgery puts the weights.

use super::*;

#[test]
fn upstream_surgery_puts_every_weight_where_upstream_does() {
    for case in Case::all() {
        let reference = case.reference(DType::F32);
        let loaded = case.loaded(DType::F32);
        let (cells, _) = Cells::for_query(&case.query, reference.registry()).unwrap();
        let ours = load_query(&reference, &cells, &upstream(), 7);
        let surgery = case.json["surgery"].as_object().unwrap();
        for p in params(&ours).iter() {
            let theirs = params(&loaded).get(p.name()).unwrap().export().unwrap();
            let found = p.export().unwrap();
            let Some(resized) = surgery.get(p.name()) else {
                assert_eq!(
                    values(&found),
                    values(&theirs),
                    "{} {}",
                    case.name,
                    p.name()
                );
                continue;
            };
            let dim = resized["axes"][0].as_u64().unwrap() as usize;
            let from = &resized["source_index_in_reference_or_-1_if_random"];
            let old = params(&reference).get(p.name()).unwrap().export().unwrap();
            for (i, from) in from.as_array().unwrap().iter().enumerate() {
                let found = slice(&found, dim, i);
                match usize::try_from(from.as_i64().unwrap()) {
                    Ok(from) => {
                        assert_eq!(found, slice(&old, dim, from), "{} {i}", p.name());
                        assert_eq!(found, slice(&theirs, dim, i), "{} {i}", p.name());
                    }
                    // Of the prior of the library size, the new entries are not random.
                    Err(_) if p.is_buffer() => {
                        let theirs = slice(&theirs, dim, i);
                        case.near(p.name(), worst_relative(&found, &theirs), 1e-5);
                    }
                    Err(_) => assert_ne!(found, slice(&theirs, dim, i), "{} {i}", p.name()),
                }
            }
        }
    }
}

#[test]
fn the_untrained_query_model_gives_the_same_numbers() {
    for case in Case::all() {
        let model = case.loaded(DType::F32);
        let cells = Cells::for_model(&case.query, model.registry()).unwrap();
        let latent = model.scvi().latent(&cells).unwrap();
        let (mean, var) = (numbers(&latent.mean), numbers(&latent.variance));
        let e = &case.expected;
        case.near("qzm", worst(&mean, e.get("loaded_qzm"), |_| 1.0), 2e-5);
        case.near("qzv", worst_relative(&var, e.get("loaded_qzv")), 1e-4);
        let mut options = Expression::default();
        options.library_size = LibrarySize::Fixed(1e4);
        options.n_samples = 0;
        let found = numbers(
            &model
                .scvi()
                .normalized_expression(&cells, &options)
                .unwrap(),
        );
        let expected = e.get("loaded_normexpr_lib1e4_zmean");
        let found = &found[..expected.len()];
        case.near("expression", worst_relative(found, expected), 1e-4);
    }
}
