//! scGPT and scBERT.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use candle_core::Device;
use common::{CELLS, Place, SCGPT, json, says, small};
use sc_data::{AnnData, Column};
use sc_transformer::scbert::{GenePanel, Scbert};
use sc_transformer::scgpt::{Layout, ScGpt};
use sc_transformer::vocab::{GeneVocab, SPECIALS};

/// A folder as the original writes it, whose vocabulary lacks the last 20 genes of the data.
fn released(place: &Place, data: &AnnData) {
    let genes = data.var.index();
    let known = genes[..genes.len() - 20].iter().cloned();
    let vocab = GeneVocab::new(known)
        .unwrap()
        .with_specials(&SPECIALS)
        .unwrap();
    let params = ScGpt::params(&vocab).unwrap().d_model(16).n_heads(2);
    let params = params.d_hid(16).n_layers(2).check().unwrap();
    let model = params.init(&Device::Cpu, 3).unwrap();
    std::fs::create_dir_all(place.path("released")).unwrap();
    model.export(place.path("released"), Layout::Flash).unwrap();
}

fn scbert(place: &Place, data: &AnnData) {
    let panel = GenePanel::new(data.var.index().iter().cloned()).unwrap();
    let params = Scbert::params(panel).dim(16).depth(2).heads(2).dim_head(8);
    let model = params.check().unwrap().init(&Device::Cpu, 0).unwrap();
    model.save(place.path("bert")).unwrap();
    model.save_scbert(place.path("bert.pth")).unwrap();
    std::fs::write(place.path("panel.txt"), data.var.index().join("\n")).unwrap();
}

#[test]
fn cells_are_embedded() {
    let mut data = small();
    let names = data.var.index().iter().map(|g| Some(g.as_str()));
    let column = sc_data::Categorical::from_options(names.collect::<Vec<_>>().into_iter());
    data.var
        .insert("symbol", Column::Categorical(column))
        .unwrap();
    let place = Place::with(&data);
    released(&place, &data);
    scbert(&place, &data);
    let said = json(&place.ok("transformer embed released cells.h5ad --out a.h5ad --json"));
    assert_eq!(said["n_cells"], CELLS);
    assert_eq!(said["genes"]["n_used"], common::GENES - 20);
    assert_eq!(said["genes"]["n_missing"], 20);
    let a = place.obsm("a.h5ad", "X_scGPT");
    assert_eq!(a.dim(), (CELLS, 16));
    for row in a.rows() {
        assert!((row.dot(&row) - 1.0).abs() < 1e-4);
    }
    // Neither threads nor minibatches, nor reading from disk, change a bit.
    for more in [
        "--threads 1",
        "--batch-tokens 300",
        "--backed",
        "--gene-key symbol",
    ] {
        place.ok(&format!(
            "transformer embed released cells.h5ad --out b.h5ad {more}"
        ));
        assert_eq!(a, place.obsm("b.h5ad", "X_scGPT"), "{more}");
    }
    // Samples of the genes depend on the seed.
    let of = |seed: u64| {
        place.ok(&format!(
            "transformer embed released cells.h5ad --out s.h5ad --max-length 20 --seed {seed}"
        ));
        place.obsm("s.h5ad", "X_scGPT")
    };
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));

    // scBERT, and the same model in the format of the original.
    place.ok("transformer embed bert cells.h5ad --out c.h5ad --min-genes 1");
    place.ok("transformer embed bert.pth cells.h5ad --out d.h5ad --min-genes 1 --panel panel.txt");
    let c = place.obsm("c.h5ad", "X_scBERT");
    assert_eq!(c.dim(), (CELLS, 16));
    assert_eq!(c, place.obsm("d.h5ad", "X_scBERT"));
    place.ok("transformer embed bert cells.h5ad --out e.h5ad --min-genes 1 --pooling mean");
    assert_ne!(c, place.obsm("e.h5ad", "X_scBERT"));
    let said =
        json(&place.ok("transformer embed bert cells.h5ad --out f.h5ad --min-genes 60 --json"));
    let f = place.obsm("f.h5ad", "X_scBERT");
    let left_out = f.rows().into_iter().filter(|r| r[0].is_nan()).count();
    assert_eq!(said["n_left_out"], left_out);
    assert!(left_out > 0 && left_out < CELLS);
}

#[test]
fn types_are_learned_and_given() {
    let place = Place::new();
    let train = format!(
        "transformer finetune annotate cells.h5ad --labels-key cell.type {SCGPT} --lr 3e-3 --batch-size 16 --json"
    );
    let said = json(&place.ok(&format!("{train} --out model --max-epochs 4")));
    assert_eq!(said["epochs"], 4);
    let losses = said["history"]["train_loss_epoch"].as_array().unwrap();
    assert!(losses[3].as_f64() < losses[0].as_f64(), "{losses:?}");
    assert!(place.text("model/history.csv").contains("validation_loss"));
    assert!(!place.path("model/checkpoint.safetensors").exists());

    let said = json(&place.ok("transformer annotate model cells.h5ad --out a.h5ad --json"));
    let agreement = said["agreement"].as_f64().unwrap();
    // Nine types, of which the largest has about a fourth of the cells.
    assert!(agreement > 0.4, "{said}");
    let out = sc_io::read(place.path("a.h5ad")).unwrap();
    let Some(Column::Categorical(types)) = out.obs.get("C_scGPT") else {
        panic!("no types")
    };
    assert!(types.iter().all(|t| t.is_some_and(|t| t != "Unassigned")));
    let sure = out.obs.get("C_scGPT_confidence").unwrap();
    let sure = sure.to_f64("confidence").unwrap();

    let said = json(&place.ok(
        "transformer annotate model cells.h5ad --out b.h5ad --novel-below 0.5 --key found --probabilities --json",
    ));
    let novel = sure.iter().filter(|&&p| p < 0.5).count();
    assert_eq!(said["n_unassigned"], novel);
    let p = place.obsm("b.h5ad", "found_probabilities");
    for row in p.rows() {
        assert!((row.sum() - 1.0).abs() < 1e-4);
    }
    // Training can begin with a model of ours, or of the original.
    released(&place, &small());
    for from in ["model", "released"] {
        place.ok(&format!(
            "transformer finetune annotate cells.h5ad --labels-key batch --out {from}2 --from {from} --freeze --max-epochs 1"
        ));
        place.ok(&format!(
            "transformer annotate {from}2 cells.h5ad --out c.h5ad"
        ));
    }
}

#[test]
fn scbert_learns_types() {
    let place = Place::new();
    scbert(&place, &small());
    let said = json(&place.ok(
        "transformer finetune annotate cells.h5ad --model scbert --from bert --labels-key cell.type --out model \
         --max-epochs 2 --batch-size 32 --lr 1e-3 --min-genes 1 --json",
    ));
    assert_eq!(said["epochs"], 2);
    let said = json(&place.ok(
        "transformer annotate model cells.h5ad --out a.h5ad --min-genes 60 --novel-below 0.9 --json",
    ));
    let left_out = said["n_left_out"].as_u64().unwrap();
    assert!(left_out > 0);
    let out = sc_io::read(place.path("a.h5ad")).unwrap();
    let Some(Column::Categorical(types)) = out.obs.get("C_scBERT") else {
        panic!("no types")
    };
    let without = types.iter().filter(Option::is_none).count() as u64;
    assert_eq!(without, left_out);
}

#[test]
fn batches_are_integrated() {
    let place = Place::new();
    place.ok(&format!(
        "transformer finetune integrate cells.h5ad --batch-key batch --out model {SCGPT} --n-hvg 40 --max-epochs 1"
    ));
    place.ok("transformer embed model cells.h5ad --out a.h5ad");
    assert_eq!(place.obsm("a.h5ad", "X_scGPT").dim(), (CELLS, 16));
    // For another task it is told no batches any more.
    place.ok(
        "transformer finetune annotate cells.h5ad --labels-key cell.type --from model --out b --max-epochs 1",
    );
    let mut other = small();
    let wrong = sc_data::Categorical::from_labels(&vec!["new"; CELLS]);
    other
        .obs
        .insert("batch", Column::Categorical(wrong))
        .unwrap();
    place.put("other.h5ad", &other);
    says(
        &place.error("transformer embed model other.h5ad --out b.h5ad"),
        &["other.h5ad", "batch", "new"],
    );
}

#[test]
fn an_interrupted_training_goes_on() {
    let place = Place::new();
    let train = format!(
        "transformer finetune annotate cells.h5ad --labels-key cell.type {SCGPT} --batch-size 16 --lr 1e-3"
    );
    place.ok(&format!("{train} --out whole --max-epochs 3"));
    let mut command = place.command(&format!(
        "{train} --out parts --max-epochs 3 --checkpoint-minutes 0"
    ));
    command.stderr(std::process::Stdio::null());
    let mut child = common::spawn(&mut command);
    let checkpoint = place.path("parts/checkpoint.safetensors");
    while !checkpoint.is_file() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        checkpoint.is_file(),
        "it was done before it could be killed"
    );
    says(
        &place.error(&format!("{train} --out parts --max-epochs 3")),
        &["--resume", "--overwrite"],
    );
    says(
        &place.error(&format!(
            "{train} --out parts --max-epochs 3 --resume --seed 7"
        )),
        &["seed", "0 then, 7 now"],
    );
    place.ok(&format!("{train} --out parts --max-epochs 3 --resume"));
    assert_eq!(place.weights("whole"), place.weights("parts"));
}

#[test]
fn models_are_pretrained() {
    let place = Place::new();
    let said = json(&place.ok(&format!(
        "transformer pretrain cells.h5ad --out gpt {SCGPT} --max-epochs 3 --batch-size 32 --lr 3e-3 --prompt-after 5 --json"
    )));
    let losses = said["history"]["gep_validation"].as_array().unwrap();
    assert!(losses[2].as_f64() < losses[0].as_f64(), "{losses:?}");
    place.ok("transformer embed gpt cells.h5ad --out a.h5ad");
    place.ok("transformer finetune annotate cells.h5ad --labels-key cell.type --from gpt --out b --max-epochs 1");
    let said = json(&place.ok(
        "transformer pretrain cells.h5ad --model scbert --out bert --dim 16 --depth 2 --heads 2 --dim-head 8 --min-genes 5 \
         --max-epochs 2 --batch-size 32 --lr 1e-3 --json",
    ));
    assert_eq!(said["epochs"], 2);
    place.ok("transformer embed bert cells.h5ad --out c.h5ad --min-genes 1");
    says(
        &place.error("transformer pretrain cells.h5ad --from bert --out d"),
        &["bert: holds scBERT"],
    );
}

#[test]
fn genes_are_compared() {
    let data = small();
    let place = Place::with(&data);
    released(&place, &data);
    let names = data.var.index();
    let sets = format!(
        "first\t\t{}\nlast\t\t{}\n",
        names[..30].join("\t"),
        names[30..90].join("\t")
    );
    std::fs::write(place.path("sets.gmt"), sets).unwrap();
    let said = json(&place.ok(
        "transformer genes released cells.h5ad --out network.tsv --min-similarity 0.3 --programs programs.tsv \
         --resolution 2 --gmt sets.gmt --enrichment tests.tsv --json",
    ));
    assert_eq!(said["n_genes"], common::GENES - 20);
    let text = place.text("network.tsv");
    let pairs: Vec<Vec<&str>> = text
        .lines()
        .skip(1)
        .map(|l| l.split('\t').collect())
        .collect();
    assert_eq!(said["n_edges"], pairs.len());
    assert!(pairs.len() > 100);
    for pair in &pairs {
        assert_ne!(pair[0], pair[1]);
        let cosine: f32 = pair[2].parse().unwrap();
        assert!((0.3..1.0).contains(&cosine));
    }
    let programs = place.text("programs.tsv");
    let sizes = said["programs"].as_array().unwrap();
    let sum: u64 = sizes.iter().map(|s| s.as_u64().unwrap()).sum();
    assert!(sum > 50 && programs.lines().count() as u64 == sum + 1);
    assert!(place.text("tests.tsv").lines().count() > 2);
    says(
        &place.error("transformer genes released cells.h5ad --out n.tsv --only no_such"),
        &["cells.h5ad: var", "no_such"],
    );

    scbert(&place, &data);
    place
        .ok("transformer explain bert cells.h5ad --out e.tsv --labels-key cell.type --min-genes 1");
    let text = place.text("e.tsv");
    let mut sums = std::collections::BTreeMap::new();
    for line in text.lines().skip(1) {
        let parts: Vec<&str> = line.split('\t').collect();
        let value: f64 = parts[2].parse().unwrap();
        *sums.entry(parts[0].to_owned()).or_insert(0.0) += value;
    }
    // What is missing to 1 is the attention to the cell's own position.
    assert!(
        sums.len() > 5 && sums.values().all(|s| (0.9..1.0).contains(s)),
        "{sums:?}"
    );
    says(
        &place.error("transformer explain bert cells.h5ad --out e.tsv"),
        &["gives cells no types", "--labels-key"],
    );
    says(
        &place.error("transformer explain released cells.h5ad --out e.tsv"),
        &["attention is compared", "--labels-key"],
    );
}

#[test]
fn what_cannot_be_done_is_explained() {
    let data = small();
    let place = Place::with(&data);
    released(&place, &data);
    let embed = |model: &str| {
        place.error(&format!(
            "transformer embed {model} cells.h5ad --out a.h5ad"
        ))
    };
    says(&embed("nowhere"), &["nowhere", "no such folder"]);
    std::fs::create_dir(place.path("empty")).unwrap();
    says(&embed("empty"), &["model.safetensors", "best_model.pt"]);
    std::fs::copy(
        place.path("released/vocab.json"),
        place.path("empty/vocab.json"),
    )
    .unwrap();
    says(&embed("empty"), &["there is no best_model.pt, args.json"]);
    place.train("scvi", "--max-epochs 1");
    says(&embed("scvi"), &["kind \"scvi\"", "`sc embed`"]);
    says(&embed("cells.h5ad"), &["is a file", "--panel"]);
    std::fs::write(place.path("released/vocab.json"), "{\"a\": 0}").unwrap();
    says(&embed("released"), &["<pad>"]);

    released(&place, &data);
    says(
        &place.error("transformer annotate released cells.h5ad --out a.h5ad"),
        &["no classifier", "finetune annotate"],
    );
    says(
        &place.error("transformer embed released cells.h5ad --out a.h5ad --gene-key no_such"),
        &["cells.h5ad: var", "no_such"],
    );
    let mut other = data.clone();
    let names: Vec<String> = (0..common::GENES).map(|i| format!("other{i}")).collect();
    other.var = sc_data::Table::new(names);
    place.put("other.h5ad", &other);
    says(
        &place.error("transformer embed released other.h5ad --out a.h5ad"),
        &["other.h5ad", "none of the 120 genes", "--ignore-case"],
    );
    says(
        &place.error("transformer finetune annotate cells.h5ad --labels-key no_such --out m"),
        &["cells.h5ad: obs", "no_such", "cell.type"],
    );
    says(
        &place.error("transformer finetune annotate cells.h5ad --labels-key cell.type --out m --from released --d-model 8"),
        &["--from takes the sizes", "--d-model"],
    );
    place.misuse("transformer annotate released cells.h5ad --out a.h5ad --novel-below 2");
}
