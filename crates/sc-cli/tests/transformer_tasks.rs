//! scGPT for perturbations, several modalities, generation and attention.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeSet;

use common::{CELLS, GENES, Place, SCGPT, json, says, small};
use sc_data::{AnnData, Categorical, Column, Table};
use serde_json::Value;

fn with_column(mut data: AnnData, key: &str, labels: &[String]) -> AnnData {
    let column = Column::Categorical(Categorical::from_labels(labels));
    data.obs.insert(key, column).unwrap();
    data
}

/// The cell types of the worm stand in for perturbations of two of its genes and of two that are not measured.
fn screen() -> AnnData {
    let data = small();
    let types = data.obs.get("cell.type").unwrap();
    let types = types.to_categorical("cell.type").unwrap();
    let (a, b) = (data.var.index()[0].clone(), data.var.index()[1].clone());
    let names = [
        "control".to_owned(),
        format!("{a}+control"),
        b.clone(),
        format!("{a}+{b}"),
        "outside".to_owned(),
        format!("{a}+outside"),
        "beyond".to_owned(),
        format!("beyond+{b}"),
        "outside+beyond".to_owned(),
    ];
    let codes = types.codes().iter();
    let labels: Vec<String> = codes.map(|c| names[c.unwrap() as usize].clone()).collect();
    with_column(data, "condition", &labels)
}

#[test]
fn perturbations_are_learned_and_predicted() {
    let data = screen();
    let place = Place::with(&data);
    let (a, b) = (data.var.index()[0].clone(), data.var.index()[1].clone());
    let train = format!(
        "transformer finetune perturb cells.h5ad --control control {SCGPT} --lr 3e-3 --batch-size 16 --seed 1 --eval-cells 20 \
         --json"
    );
    let said = json(&place.ok(&format!("{train} --out model --max-epochs 3")));
    let losses = said["history"]["train_loss_epoch"].as_array().unwrap();
    assert!(losses[2].as_f64() < losses[0].as_f64(), "{losses:?}");
    let e = &said["evaluation"];
    let test = e["test"].as_array().unwrap();
    assert!(!test.is_empty() && !e["train"].as_array().unwrap().is_empty());
    for t in test {
        let seen = t["genes_seen"].as_u64().unwrap();
        assert!(seen <= t["n_genes"].as_u64().unwrap() && t["n_cells"].as_u64() > Some(0));
        let unchanged = &t["scores"]["no_change"];
        // No change has no difference to correlate, and the model has.
        assert!(unchanged["pearson_delta"].is_null() && unchanged["mse"].as_f64() > Some(0.0));
        let delta = t["scores"]["model"]["pearson_delta"].as_f64().unwrap();
        assert!((-1.0..=1.0).contains(&delta));
    }
    let table = place.text("model/evaluation.tsv");
    assert_eq!(table.lines().count(), 1 + 4 * test.len());
    // Baselines and tests are apart.
    let names = |v: &Value| -> BTreeSet<String> {
        let all = v.as_array().unwrap().iter();
        all.map(|n| n.as_str().unwrap().to_owned()).collect()
    };
    let trained = names(&e["train"]);
    assert!(
        test.iter()
            .all(|t| !trained.contains(t["perturbation"].as_str().unwrap()))
    );

    // A pair and an unmeasured gene, from ten controls.
    let predict = format!(
        "transformer perturb model cells.h5ad --genes {a},{b} --genes outside --n-cells 10 --out p.h5ad --effects e.tsv"
    );
    let said = json(&place.ok(&format!("{predict} --json")));
    assert_eq!(said["perturbations"][0]["n_genes"], 2);
    assert_eq!(said["n_missing"], 0);
    let made = sc_io::read(place.path("p.h5ad")).unwrap();
    assert_eq!((made.n_obs(), made.n_vars()), (30, GENES));
    let x = made.x.as_ref().unwrap().to_dense();
    // The controls are those of the data, scaled to 10,000 and log-transformed.
    for row in x.rows().into_iter().take(10) {
        let total: f64 = row.iter().map(|v| f64::from(*v).exp_m1()).sum();
        assert!((total - 1e4).abs() < 1.0, "{total}");
    }
    let effects = place.text("e.tsv");
    let rows: Vec<Vec<&str>> = effects
        .lines()
        .skip(1)
        .map(|l| l.split('\t').collect())
        .collect();
    assert_eq!(rows.len(), 2 * GENES);
    let number = |t: &str| t.parse::<f64>().unwrap();
    let column = made
        .var
        .index()
        .iter()
        .position(|g| g == rows[0][1])
        .unwrap();
    let mean = |from: usize| {
        (from..from + 10)
            .map(|r| f64::from(x[(r, column)]))
            .sum::<f64>()
            / 10.0
    };
    assert!((number(rows[0][2]) - mean(0)).abs() < 1e-6);
    assert!((number(rows[0][3]) - mean(10)).abs() < 1e-6);
    assert!(number(rows[0][4]).abs() >= number(rows[1][4]).abs());
    // Neither threads nor minibatches change a bit.
    for more in ["--threads 1", "--batch-size 3", "--backed"] {
        place.ok(&format!("{predict} {more}"));
        let again = sc_io::read(place.path("p.h5ad")).unwrap();
        assert_eq!(again.x.unwrap().to_dense(), x, "{more}");
    }
    // Cells without conditions are all before a perturbation.
    place.put("plain.h5ad", &small());
    let said = json(&place.ok(&format!(
        "transformer perturb model plain.h5ad --genes {a} --n-cells 1000 --out q.h5ad --json"
    )));
    assert_eq!(said["n_control_cells"], CELLS);

    says(
        &place.error("transformer perturb model cells.h5ad --genes no_such --out p.h5ad"),
        &["no_such", "not in the vocabulary"],
    );
    says(
        &place.error(&format!(
            "transformer perturb model cells.h5ad --genes {a} --out p.h5ad --control nothing"
        )),
        &[
            "cells.h5ad",
            "\"nothing\" in obs condition",
            "outside",
            "--control",
        ],
    );
    says(
        &place.error("transformer embed model cells.h5ad --out p.h5ad"),
        &["model of perturbations", "sc transformer perturb"],
    );
    says(
        &place.error(&format!("{train} --out m --only cell.type=no_such")),
        &["cells.h5ad", "no_such", "cell.type", "--only"],
    );
    says(
        &place.error(&format!("{train} --out m --gene-share 0")),
        &["gene_share", "--combination-share"],
    );
    says(
        &place.error("transformer finetune perturb cells.h5ad --out m"),
        &[
            "no cell has \"ctrl\" in obs condition",
            "control",
            "--control",
        ],
    );
    says(
        &place.error("transformer finetune perturb plain.h5ad --out m"),
        &["plain.h5ad: obs", "condition"],
    );
    place.misuse("transformer perturb model cells.h5ad --out p.h5ad");
}

#[test]
fn perturbations_begin_with_a_trained_model_and_go_on() {
    let place = Place::with(&screen());
    place.ok(&format!(
        "transformer pretrain cells.h5ad --out gpt {SCGPT} --max-epochs 1 --batch-size 32"
    ));
    let train = "transformer finetune perturb cells.h5ad --control control --from gpt --batch-size 16 --seed 1 --eval-cells 5";
    // The genes that are not measured are not in its vocabulary either.
    let said = json(&place.ok(&format!("{train} --out model --max-epochs 1 --json")));
    let e = said["evaluation"].to_string();
    assert!(!e.contains("outside") && !e.contains("beyond"), "{e}");
    assert!(said["n_train"].as_u64() < Some(CELLS as u64));
    says(
        &place.error("transformer perturb gpt cells.h5ad --genes x --out p.h5ad"),
        &["kind \"scgpt\"", "finetune perturb"],
    );
    says(
        &place.error(&format!("{train} --out m --d-model 8")),
        &["--d-model", "--from takes the sizes"],
    );

    let train = format!(
        "transformer finetune perturb cells.h5ad --control control {SCGPT} --batch-size 16 --max-epochs 3 --gene-share 1 \
         --combination-share 1"
    );
    place.ok(&format!("{train} --out whole"));
    let mut command = place.command(&format!("{train} --out parts --checkpoint-minutes 0"));
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
        &place.error(&format!("{train} --out parts --resume --n-hvg 50")),
        &["other settings"],
    );
    place.ok(&format!("{train} --out parts --resume"));
    assert_eq!(place.weights("whole"), place.weights("parts"));
}

/// Two files of the worm: genes of the first 200 cells, "proteins" of the last 200.
fn two_files(place: &Place) {
    let all = small();
    let cells = |from: usize, to: usize| (from..to).collect::<Vec<_>>();
    let rna = all.select_obs(&cells(0, 200)).unwrap();
    let rna = rna.select_vars(&cells(0, 90)).unwrap();
    place.put("rna.h5ad", &rna);
    let adt = all.select_obs(&cells(100, CELLS)).unwrap();
    let mut adt = adt.select_vars(&cells(90, GENES)).unwrap();
    adt.var = Table::new((0..30).map(|i| format!("CD{i}")).collect());
    place.put("adt.h5ad", &adt);
}

#[test]
fn modalities_are_learned_together() {
    let place = Place::empty();
    two_files(&place);
    let train = format!(
        "transformer finetune multiomic rna.h5ad --modality protein=adt.h5ad {SCGPT} --n-hvg 60 --max-epochs 2 --json"
    );
    let said = json(&place.ok(&format!("{train} --out model --batch-key batch")));
    assert_eq!(said["n_cells"], CELLS);
    assert_eq!(said["n_paired"], 100);
    assert_eq!(said["features"]["RNA"], 60);
    let proteins = said["features"]["protein"].as_u64().unwrap();
    assert!(proteins > 0 && proteins <= 30);
    assert!(said["history"]["dab_train"].is_array());
    let loss = |name: &str| said["history"][name].as_array().unwrap().clone();
    let losses = loss("train_loss_epoch");
    assert!(losses[1].as_f64() < losses[0].as_f64(), "{losses:?}");

    // All cells: those of both files, and those of one.
    place.ok("transformer embed model rna.h5ad --modality protein=adt.h5ad --out both.h5ad");
    let both = place.obsm("both.h5ad", "X_scGPT");
    assert_eq!(both.dim(), (CELLS, 16));
    let out = sc_io::read(place.path("both.h5ad")).unwrap();
    let Some(Column::Categorical(types)) = out.obs.get("cell.type") else {
        panic!("no types")
    };
    assert!(types.iter().all(|t| t.is_some()) && out.x.is_none());
    // A cell is what its own files make of it.
    place.ok("transformer embed model rna.h5ad --out rna_only.h5ad");
    let rna = place.obsm("rna_only.h5ad", "X_scGPT");
    assert_eq!(rna.dim(), (200, 16));
    assert_eq!(rna.row(7), both.row(7));
    assert_ne!(rna.row(150), both.row(150));
    place.ok("transformer embed model adt.h5ad --data-modality protein --out adt_only.h5ad");
    let adt = place.obsm("adt_only.h5ad", "X_scGPT");
    assert_eq!(adt.row(199), both.row(299));

    // Without batches, from the genes of another model.
    place.ok(&format!(
        "transformer finetune integrate rna.h5ad --batch-key batch --out gpt {SCGPT} --n-hvg 40 --max-epochs 1"
    ));
    let said = json(&place.ok(
        "transformer finetune multiomic rna.h5ad --modality protein=adt.h5ad --out second --from gpt --max-epochs 1 --n-layers 1 \
         --json",
    ));
    assert!(said["history"].get("dab_train").is_none());
    place.ok("transformer embed second rna.h5ad --out second.h5ad --seed 3");

    says(
        &place.error("transformer finetune multiomic rna.h5ad --out m"),
        &["one modality", "--modality NAME=FILE"],
    );
    says(
        &place.error(&format!("{train} --out m --modality protein=rna.h5ad")),
        &["adt.h5ad", "rna.h5ad", "both called protein"],
    );
    says(
        &place.error("transformer embed model rna.h5ad --modality ATAC=adt.h5ad --out x.h5ad"),
        &["adt.h5ad", "is called ATAC", "RNA, protein"],
    );
    says(
        &place.error("transformer embed model adt.h5ad --out x.h5ad"),
        &["adt.h5ad", "none of the features"],
    );
    says(
        &place.error("transformer embed gpt rna.h5ad --modality protein=adt.h5ad --out x.h5ad"),
        &["--modality", "gpt", "finetune multiomic"],
    );
    says(
        &place.error(&format!("{train} --out m --batch-key no_such")),
        &["rna.h5ad: obs", "no_such"],
    );
    says(
        &place.error("transformer generate model rna.h5ad --out x.h5ad"),
        &["model", "not made to generate"],
    );
    place.misuse(&format!("{train} --out m --modality adt.h5ad"));
    let mut negative = sc_io::read(place.path("adt.h5ad")).unwrap();
    negative.x = Some(negative.x.unwrap().to_dense().mapv(|v| v - 1.0).into());
    place.put("scaled.h5ad", &negative);
    says(
        &place.error(
            "transformer finetune multiomic rna.h5ad --modality protein=scaled.h5ad --out m",
        ),
        &["scaled.h5ad", "feature CD", "the value -1", "--layer"],
    );
}

#[test]
fn cells_are_generated() {
    let data = small();
    let place = Place::with(&data);
    place.ok(&format!(
        "transformer pretrain cells.h5ad --out gpt {SCGPT} --max-epochs 10 --batch-size 16 --lr 3e-3 --prompt-after 5"
    ));
    let types = data.obs.get("cell.type").unwrap();
    let types = types.to_categorical("cell.type").unwrap();
    let label = types.get(0).unwrap();
    let of_type = format!("--labels-key cell.type --label {label}");
    let said = json(&place.ok(&format!(
        "transformer generate gpt cells.h5ad --out a.h5ad {of_type} --n-cells 5 --json"
    )));
    assert_eq!(
        (said["n_cells"].as_u64(), said["n_genes"].as_u64()),
        (Some(5), Some(GENES as u64))
    );
    assert!(said["correlation"].as_f64().unwrap() > 0.3, "{said}");
    let a = sc_io::read(place.path("a.h5ad")).unwrap();
    let Some(Column::Categorical(found)) = a.obs.get("cell.type") else {
        panic!("no types")
    };
    assert!(found.iter().all(|l| l == Some(label)));
    let (x, round) = (a.x.unwrap().to_dense(), a.layers["round"].to_dense());
    let truth = a.layers["prompt"].to_dense();
    assert!(
        x.iter()
            .all(|v| (0.0..=50.0).contains(v) && v.fract() == 0.0)
    );
    for ((x, r), t) in x.iter().zip(&round).zip(&truth) {
        // Of a vector, all genes that the cell has are asked for, and no other.
        assert_eq!(*t > 0.0, *r > 0.0);
        assert!(*r > 0.0 || *x == 0.0);
    }
    // With genes, those that are known stay as they are.
    for prompt in ["genes", "both"] {
        place.ok(&format!(
            "transformer generate gpt cells.h5ad --out b.h5ad --prompt {prompt} --known-share 0.25 --n-cells 5"
        ));
        let b = sc_io::read(place.path("b.h5ad")).unwrap();
        let (x, round) = (b.x.unwrap().to_dense(), b.layers["round"].to_dense());
        let truth = b.layers["prompt"].to_dense();
        let mut known = 0;
        for ((x, r), t) in x.iter().zip(&round).zip(&truth) {
            if *r == 0.0 {
                assert_eq!(x, t);
                known += usize::from(*t > 0.0);
            }
        }
        let all = truth.iter().filter(|t| **t > 0.0).count();
        assert!(known > 0 && 2 * known < all, "{known} of {all}");
    }
    let gene = data.var.index()[0].clone();
    let of_set = format!("transformer generate gpt cells.h5ad --set {gene}=50 --rounds 2");
    place.ok(&format!("{of_set} --out c.h5ad --threads 1"));
    let c = sc_io::read(place.path("c.h5ad")).unwrap();
    assert_eq!((c.n_obs(), c.x.unwrap().to_dense()[(0, 0)]), (1, 50.0));
    let asked = c.layers["round"].to_dense();
    assert_eq!(asked.iter().filter(|r| **r > 0.0).count(), GENES - 1);
    place.ok(&format!(
        "transformer generate gpt cells.h5ad --prompt genes --known {gene} --ask all --n-cells 3 --out d.h5ad"
    ));
    // The same again, on one thread.
    for threads in [1, 2] {
        place.ok(&format!(
            "transformer generate gpt cells.h5ad --out t{threads}.h5ad --first random --threads {threads} --n-cells 20"
        ));
    }
    let x = |file: &str| sc_io::read(place.path(file)).unwrap().x.unwrap().to_dense();
    assert_eq!(x("t1.h5ad"), x("t2.h5ad"));

    says(
        &place.error("transformer generate gpt cells.h5ad --out x.h5ad --labels-key cell.type --label no_such"),
        &["cells.h5ad", "no_such", "cell.type", label],
    );
    says(
        &place.error("transformer generate gpt cells.h5ad --out x.h5ad --set no_such=3"),
        &["cells.h5ad", "no_such=3"],
    );
    says(
        &place.error(&format!(
            "transformer generate gpt cells.h5ad --out x.h5ad --set {gene}=51"
        )),
        &["=51", "0 to 50"],
    );
    says(
        &place.error("transformer generate gpt cells.h5ad --out x.h5ad --sample-zeros"),
        &["--sample-zeros", "leave it out"],
    );
    says(
        &place.error("transformer generate gpt cells.h5ad --out x.h5ad --known-share 0.5"),
        &["--known-share", "--prompt genes"],
    );
    place.misuse("transformer generate gpt cells.h5ad --out x.h5ad --set 3");
    place.misuse("transformer generate gpt cells.h5ad --out x.h5ad --label x");
}

#[test]
fn attention_is_compared() {
    let data = small();
    let place = Place::with(&data);
    place.ok(&format!(
        "transformer pretrain cells.h5ad --out gpt {SCGPT} --max-epochs 1 --batch-size 32"
    ));
    let genes = data.var.index();
    let sets = format!(
        "first\t\t{}\nlast\t\t{}\n",
        genes[..40].join("\t"),
        genes[40..].join("\t")
    );
    std::fs::write(place.path("sets.gmt"), sets).unwrap();
    let explain = "transformer explain gpt cells.h5ad --labels-key batch --max-cells 5";
    let said = json(&place.ok(&format!(
        "{explain} --out a.tsv --n-hvg 30 --top 50 --gmt sets.gmt --enrichment tests.tsv --json"
    )));
    let n = said["n_genes"].as_u64().unwrap();
    let n_types = said["types"].as_array().unwrap().len();
    assert_eq!((n, said["layer"].as_u64()), (30, Some(2)));
    let text = place.text("a.tsv");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .skip(1)
        .map(|l| l.split('\t').collect())
        .collect();
    assert_eq!(rows.len(), 50 * n_types);
    for pair in rows.chunks(50) {
        let by: Vec<f32> = pair.iter().map(|r| r[4].parse().unwrap()).collect();
        assert!(by.windows(2).all(|w| w[0] >= w[1]));
        assert!(
            pair.iter()
                .all(|r| r[1] != r[2] && (0.0..1.0).contains(&r[3].parse::<f32>().unwrap()))
        );
    }
    assert!(place.text("tests.tsv").lines().count() > 1);
    // Of one source, against one batch.
    let types = data.obs.get("batch").unwrap();
    let types = types.to_categorical("batch").unwrap();
    let base = &types.categories()[0];
    place.ok(&format!(
        "{explain} --out b.tsv --n-hvg 30 --source {} --baseline {base} --attention-layer 1",
        genes[5]
    ));
    let text = place.text("b.tsv");
    for line in text.lines().skip(1) {
        let row: Vec<&str> = line.split('\t').collect();
        assert_eq!(row[1], genes[5]);
        assert_eq!(row[0] == base, row[4].is_empty());
    }
    // Threads and minibatches change nothing.
    place.ok(&format!(
        "{explain} --out c.tsv --n-hvg 30 --threads 1 --batch-tokens 100 --top 50"
    ));
    assert_eq!(place.text("c.tsv"), place.text("a.tsv"));

    says(
        &place.error(&format!("{explain} --out x.tsv --source no_such")),
        &["cells.h5ad", "--source no_such"],
    );
    says(
        &place.error(&format!("{explain} --out x.tsv --baseline no_such")),
        &["cells.h5ad", "no_such", base],
    );
    says(
        &place.error(&format!("{explain} --out x.tsv --attention-layer 3")),
        &["--attention-layer 3", "2 layers"],
    );
}

#[test]
fn options_of_the_other_model_are_refused() {
    let place = Place::new();
    place.ok(
        "transformer pretrain cells.h5ad --model scbert --out bert --dim 16 --depth 1 --heads 2 --dim-head 8 --min-genes 5 \
         --max-epochs 1 --batch-size 64",
    );
    place.ok(&format!(
        "transformer pretrain cells.h5ad --out gpt {SCGPT} --max-epochs 1"
    ));
    let annotate = "transformer finetune annotate cells.h5ad --labels-key cell.type --out m";
    for (command, option, model) in [
        (
            "transformer embed bert cells.h5ad --out x.h5ad",
            "--max-length 20",
            "scBERT",
        ),
        (
            "transformer embed bert cells.h5ad --out x.h5ad",
            "--seed 3",
            "scBERT",
        ),
        (
            "transformer embed bert cells.h5ad --out x.h5ad",
            "--ignore-case",
            "scBERT",
        ),
        (
            "transformer embed gpt cells.h5ad --out x.h5ad",
            "--min-genes 3",
            "scGPT",
        ),
        (
            "transformer embed gpt cells.h5ad --out x.h5ad",
            "--pooling mean",
            "scGPT",
        ),
        (
            "transformer annotate bert cells.h5ad --out x.h5ad",
            "--batch-tokens 9",
            "scBERT",
        ),
        (
            "transformer explain bert cells.h5ad --out x.tsv",
            "--n-hvg 9",
            "scBERT",
        ),
        (
            "transformer explain gpt cells.h5ad --out x.tsv",
            "--min-genes 9",
            "scGPT",
        ),
        (annotate, "--dim 8", "scGPT"),
        (annotate, "--panel x.txt", "scGPT"),
        (
            "transformer pretrain cells.h5ad --out m",
            "--min-genes 9",
            "scGPT",
        ),
    ] {
        let message = place.error(&format!("{command} {option}"));
        let name = option.split(' ').next().unwrap();
        says(&message, &[name, &format!("the model is {model}")]);
    }
    for option in [
        "--freeze",
        "--max-length 9",
        "--d-model 8",
        "--dropout 0.1",
        "--ignore-case",
    ] {
        let message = place.error(&format!("{annotate} --model scbert {option}"));
        let name = option.split(' ').next().unwrap();
        says(&message, &[name, "the model is scBERT"]);
    }
    says(
        &place.error("transformer pretrain cells.h5ad --out m --model scbert --prompt-after 3"),
        &["--prompt-after", "the model is scBERT"],
    );
    says(
        &place.error("transformer pretrain cells.h5ad --out m --model scbert --from bert --dim 8"),
        &["--dim", "--from takes the sizes"],
    );
    says(
        &place.error("transformer embed gpt cells.h5ad --out x.h5ad --batch-key batch"),
        &["--batch-key", "told no batches"],
    );
}
