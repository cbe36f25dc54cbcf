use proptest::prelude::*;

use super::*;

fn failure<T: std::fmt::Debug>(result: Result<T>, has: &[&str]) {
    let message = result.unwrap_err().to_string();
    for part in has {
        assert!(message.contains(part), "{message}");
    }
}

fn parsed(text: &str) -> std::result::Result<GeneVocab, String> {
    read::parse(text)
}

#[test]
fn entries_come_in_any_order() {
    let vocab = parsed(r#"{"b": 1, "<pad>": 2, "a": 0}"#).unwrap();
    assert_eq!(vocab.tokens(), ["a", "b", "<pad>"]);
    assert_eq!(vocab.default_id(), Some(2));
    assert_eq!((vocab.id("c"), vocab.id_or_default("c")), (None, Some(2)));
    assert_eq!((vocab.token(1), vocab.token(3)), (Some("b"), None));
}

#[test]
fn wrong_entries_are_named() {
    let wrong = [
        (
            r#"{"a": 0, "b": 2}"#,
            ["no token with the number 1", "\"b\", 2"],
        ),
        (
            r#"{"a": 1, "b": 2}"#,
            ["no token with the number 0", "\"a\", 1"],
        ),
        (r#"{"a": 0, "b": 0}"#, ["number 0", "\"a\" and \"b\""]),
        (r#"{"a": 0, "a": 1}"#, ["\"a\" twice", "keep one"]),
        (r#"{"a": -1}"#, ["\"a\"", "-1"]),
        (r#"{"a": 0, "b": 4294967296}"#, ["\"b\"", "4294967296"]),
        (r#"{"a": 0.5}"#, ["\"a\"", "0.5"]),
        (r#"{"a": "0"}"#, ["\"a\"", "\"0\""]),
        (r#"["a"]"#, ["not a vocabulary", "object"]),
        (r#"{"a": 0"#, ["not a vocabulary", "EOF"]),
    ];
    for (text, has) in wrong {
        let message = parsed(text).unwrap_err();
        assert!(has.iter().all(|h| message.contains(h)), "{text}: {message}");
    }
    assert!(parsed("{}").unwrap().is_empty());
}

#[test]
fn files_that_are_none() {
    failure(
        GeneVocab::read("/no/such/vocab.json"),
        &["/no/such/vocab.json", "read"],
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vocab.json");
    std::fs::write(&path, "{\"a\": 7}").unwrap();
    failure(GeneVocab::read(&path), &["vocab.json", "number 0"]);
}

#[test]
fn special_tokens_that_are_missing() {
    let vocab = GeneVocab::new(["a"]).unwrap();
    failure(vocab.pad(), &["<pad>", "1 tokens", "with_specials"]);
    failure(vocab.cls(), &["<cls>", "embedding of a cell"]);
    failure(
        vocab.clone().with_default(Some("x")),
        &["\"x\"", "unknown genes"],
    );
    let vocab = vocab.with_specials(&SPECIALS).unwrap();
    assert_eq!((vocab.pad().unwrap(), vocab.cls().unwrap()), (1, 2));
    assert_eq!(vocab.default_id(), None);
    let vocab = vocab.with_default(Some(PAD)).unwrap();
    assert_eq!(vocab.id_or_default("x"), Some(1));
    // Those that are there keep their place.
    let vocab = GeneVocab::new(["<cls>", "a"])
        .unwrap()
        .with_specials(&SPECIALS)
        .unwrap();
    assert_eq!(vocab.tokens(), ["<cls>", "a", "<pad>", "<eoc>"]);
    failure(
        GeneVocab::from_genes(&["<pad>"], &SPECIALS, SpecialsAt::First),
        &["\"<pad>\" twice"],
    );
}

#[test]
fn genes_of_a_data_set() {
    let vocab = GeneVocab::new(["CD3D", "C1orf112", "LYZ", "<pad>"]).unwrap();
    let data = ["LYZ", "cd3d", "X", "LYZ", "C1ORF112"];
    let found = vocab.match_genes(&data, GeneCase::Exact).unwrap();
    assert_eq!(found.ids(), [Some(2), None, None, Some(2), None]);
    assert_eq!(found.columns(), [0, 3]);
    let report = found.report();
    assert_eq!((report.n_genes, report.matched), (5, 2));
    assert_eq!(report.missing, ["cd3d", "X", "C1ORF112"]);
    assert_eq!(report.duplicated, ["LYZ"]);
    let found = vocab.match_genes(&data, GeneCase::Ignore).unwrap();
    assert_eq!(found.ids(), [Some(2), Some(0), None, Some(2), Some(1)]);
    assert_eq!(found.report().by_case.len(), 2);
    let some = found.only(&[1, 2]).unwrap();
    assert_eq!(some.columns(), [1]);
    assert!(some.only(&[5]).is_err());
    // Two tokens that differ in case only.
    let vocab = GeneVocab::new(["ab", "AB"]).unwrap();
    let found = vocab.match_genes(&["Ab", "ab"], GeneCase::Ignore).unwrap();
    assert_eq!(found.ids(), [None, Some(0)]);
}

#[test]
fn no_gene_in_common() {
    let vocab = GeneVocab::new(["CD3D", "LYZ"]).unwrap();
    let of = |genes: &[&str]| vocab.match_genes(genes, GeneCase::Exact);
    failure(
        of(&["Cd3d"]),
        &["none of the 1 genes", "Cd3d", "GeneCase::Ignore"],
    );
    failure(of(&["ENSG00000223972"]), &["Ensembl ids", "symbols"]);
    failure(of(&["x", "y"]), &["x, y", "CD3D, LYZ"]);
    failure(of(&[]), &["have no genes"]);
}

proptest! {
    #[test]
    fn saved_and_read_again(tokens in proptest::collection::hash_set(".{0,8}", 0..40)) {
        let vocab = GeneVocab::new(tokens).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vocab.json");
        vocab.save(&path).unwrap();
        prop_assert_eq!(GeneVocab::read(&path).unwrap(), vocab);
    }

    #[test]
    fn any_order_of_entries_is_the_same(n in 0usize..50, seed in any::<u64>()) {
        let order = sc_tensor::Rng::new(seed).stream("order").permutation(n);
        let entries = order.into_iter().map(|i| (format!("g{i}"), i as u32));
        let vocab = GeneVocab::from_ids(entries).unwrap();
        prop_assert_eq!(vocab, GeneVocab::new((0..n).map(|i| format!("g{i}"))).unwrap());
    }

    #[test]
    fn nothing_makes_it_panic(text in ".{0,60}") {
        let _ = parsed(&text);
    }
}
