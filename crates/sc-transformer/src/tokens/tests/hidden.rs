use super::*;

#[test]
fn known_genes_come_first() {
    let data = counts(30, 80, 4);
    let all: Vec<usize> = (0..30).collect();
    let batch = tokenizer(
        80,
        TokenizerOptions {
            max_len: None,
            ..TokenizerOptions::default()
        },
    )
    .batch(&data, &all, 0)
    .unwrap();
    let split = GenerativeSplit::new(GenerativeOptions {
        max_len: Some(20),
        ..GenerativeOptions::default()
    })
    .unwrap();
    let found = split.split(&batch, 1).unwrap();
    found.check().unwrap();
    let mut ratios = std::collections::BTreeSet::new();
    for (i, s) in found.segments.iter().enumerate() {
        let (ids, values) = of_cell(&batch, i);
        assert!(s.rows <= 20 && found.ids[s.start] == ids[0]);
        let mut seen = std::collections::HashSet::new();
        for row in s.start..s.start + s.rows {
            let at = ids.iter().position(|&g| g == found.ids[row]).unwrap();
            assert!(seen.insert(at));
            assert_eq!(found.targets[row], values[at]);
            let unknown = row >= s.start + s.keys;
            assert_eq!(found.scored[row], unknown);
            assert_eq!(found.values[row], if unknown { -1.0 } else { values[at] });
        }
        if s.rows == 20 {
            ratios.insert(s.rows - s.keys);
        }
    }
    // A quarter, a half, and three quarters of 19.
    assert!(
        ratios.iter().all(|r| [4, 9, 14].contains(r)) && ratios.len() > 1,
        "{ratios:?}"
    );
    // Cells are split by themselves.
    let one = tokenizer(
        80,
        TokenizerOptions {
            max_len: None,
            ..TokenizerOptions::default()
        },
    )
    .batch(&data, &[17], 0)
    .unwrap();
    assert_eq!(
        of_cell(&split.split(&one, 1).unwrap(), 17),
        of_cell(&found, 17)
    );
    assert_ne!(split.split(&batch, 2).unwrap().ids, found.ids);
    assert!(split.split(&found, 1).is_err());
    assert!(split.split_at(&batch, 0, 1.0).is_err());
}

#[test]
fn each_value_is_hidden_with_its_probability() {
    let data = counts(200, 80, 5);
    let all: Vec<usize> = (0..200).collect();
    let mut batch = tokenizer(80, TokenizerOptions::default())
        .batch(&data, &all, 0)
        .unwrap();
    let masker = Masker::new(MaskOptions {
        hide: Hide::Each(0.4),
        mask_value: -1.0,
        cls: false,
        generator: Generator::Seeded(1),
    })
    .unwrap();
    let before = batch.clone();
    masker.mask(&mut batch, 0);
    let genes = (batch.n_tokens() - 200) as f64;
    let hidden = batch.scored.iter().filter(|s| **s).count() as f64;
    assert!((hidden / genes - 0.4).abs() < 5.0 * (0.24 / genes).sqrt());
    for i in 0..batch.n_tokens() {
        assert_eq!(
            batch.values[i],
            if batch.scored[i] {
                -1.0
            } else {
                before.values[i]
            }
        );
        assert_eq!(batch.targets[i], before.values[i]);
    }
    assert!(batch.segments.iter().all(|s| !batch.scored[s.start]));
}
