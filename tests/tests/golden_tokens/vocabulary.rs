use sc_tests::{json, shared};
use sc_transformer::vocab::{GeneCase, GeneVocab, SPECIALS, SpecialsAt};

use crate::common::*;

#[test]
fn vocabularies() {
    let Some(dir) = golden() else { return };
    let about = json(&dir.join("tokenizer/vocab.json"));
    let of_file = &about["from_file"];
    let vocab = GeneVocab::read(dir.join(of_file["file"].as_str().unwrap())).unwrap();
    assert_eq!(vocab.tokens(), texts(&of_file["tokens_in_id_order"]));
    assert_eq!(
        vocab.default_id().map(u64::from),
        of_file["default_index"].as_u64()
    );
    let found: Vec<u32> = texts(&of_file["query"])
        .iter()
        .map(|g| vocab.id_or_default(g).unwrap())
        .collect();
    assert_eq!(found, u32s(&of_file["ids"]));

    let appended = &about["specials_appended"];
    let entries = appended["vocab_without_specials"].as_object().unwrap();
    let entries = entries
        .iter()
        .map(|(t, id)| (t.clone(), id.as_u64().unwrap() as u32));
    let vocab = GeneVocab::from_ids(entries).unwrap();
    assert_eq!(vocab.default_id(), None);
    let vocab = vocab.with_specials(&SPECIALS).unwrap();
    for (token, id) in appended["appended"].as_object().unwrap() {
        assert_eq!(vocab.id(token).map(u64::from), id.as_u64());
    }
    assert_eq!(vocab.default_id(), None);

    let list = &about["from_list"];
    for (at, key) in [
        (SpecialsAt::First, "special_first"),
        (SpecialsAt::Last, "special_last"),
    ] {
        let vocab = GeneVocab::from_genes(&texts(&list["genes"]), &SPECIALS, at).unwrap();
        assert_eq!(vocab.tokens(), texts(&list[key]));
    }
}

#[test]
fn the_released_vocabulary() {
    let Some(dir) = shared() else { return };
    let vocab = GeneVocab::read(dir.join("data/vocab/default_census_vocab.json")).unwrap();
    let before = vocab.len();
    let vocab = vocab.with_specials(&SPECIALS).unwrap();
    assert_eq!((before, vocab.len()), (60_694, 60_697));
    for (gene, id) in [
        ("A1BG", 0),
        ("CD3D", 4377),
        ("GAPDH", 9833),
        ("MS4A1", 17_014),
        ("<pad>", 60_694),
    ] {
        assert_eq!(vocab.id(gene), Some(id));
    }
    // Case may be ignored: no two tokens differ in it alone.
    let found = vocab
        .match_genes(&["cd3d", "Gapdh"], GeneCase::Ignore)
        .unwrap();
    assert_eq!(found.ids(), [Some(4377), Some(9833)]);
}
