//! An atlas on a laptop: a model and a few numbers a cell instead of the counts, and a new study that finds its place on it.
//!
//! `cargo run --release --example atlas_on_a_laptop` plays two people. The first trains scANVI on six batches of worm
//! neurons (Packer et al., Science 2019) and publishes model and cells, without counts, as a hub folder. The second has the
//! seventh batch, opens that folder, maps the new cells onto the atlas, labels them, and asks the atlas which genes differ
//! and where cells become more frequent. Everything lies in `target/atlas_on_a_laptop` afterwards.

// A program at a terminal: its output is what it is for.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Device;
use ndarray::{Array2, Axis, concatenate};
use sc_data::{AnnData, Categorical, Column};
use sc_examples::report::Table;
use sc_examples::view::rank_correlation;
use sc_examples::{output_dir, test_data};
use sc_io::h5ad::WriteOptions;
use sc_latent::de::{Change, DeOptions, Groups, differential_expression};
use sc_latent::hub::{ADATA, HubModel, PackOptions};
use sc_latent::milo::{self, Counts, Design, NeighbourhoodOptions, Neighbourhoods, TestOptions};
use sc_latent::minify::{MinifyOptions, SizeInput, SizeReport};
use sc_latent::{
    Cells, ClassifierConfig, Labels, Likelihood, NormIn, PredictAt, QueryOptions, Scanvi, Scvi,
    SemiSupervised, Setup,
};
use sc_model::KlWarmup;
use sc_model::train::{ProgressBar, TrainConfig};
use sc_neighbors::{
    InfuseOptions, LabelTransfer, Labelled, UmapParams, connectivities, infuse, knn,
    principal_axes, umap,
};
use sc_plot::Figure;
use sc_preprocess::{HvgFlavor, highly_variable_genes};

// Training allocates and frees many tensors of a few sizes, which mimalloc is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Everything random follows from it.
const SEED: u64 = 0;
/// The batch of the second person.
const HELD_OUT: &str = "Murray_b01";
const TYPE: &str = "cell.type";
const UNKNOWN: &str = "Unknown";

fn main() -> Result<()> {
    let started = Instant::now();
    let out = output_dir("atlas_on_a_laptop")?;
    let data = sc_io::read(test_data("worm_embryo.h5ad"))?;
    let batches = data.obs.column("obs", "batch")?.to_categorical("batch")?;
    let (query, reference): (Vec<usize>, Vec<usize>) =
        (0..data.n_obs()).partition(|&i| batches.get(i) == Some(HELD_OUT));
    let reference = data.select_obs(&reference)?;
    let query = data.select_obs(&query)?;

    let hub = publish(&out, &reference)?;
    use_it(&out, &hub, &reference, query)?;
    println!("everything is in {}", out.display());
    println!("{:.1} s in all", started.elapsed().as_secs_f64());
    Ok(())
}

/// The first person: trains, minifies, packs.
fn publish(out: &Path, reference: &AnnData) -> Result<PathBuf> {
    let counts = reference.matrix(None)?.to_csr();
    let variable = highly_variable_genes(&counts, 2000, HvgFlavor::SeuratV3)?;
    let reference = reference.select_vars(&variable.genes)?;
    let model = train(&reference)?;

    // The atlas: the posterior of each cell instead of its counts. Sums of counts are kept by cell type and batch, so that
    // differential expression can still speak of raw means.
    let hub = out.join("hub");
    std::fs::create_dir_all(&hub)?;
    let options = MinifyOptions::default();
    let atlas = model.minify(&reference, &options)?;
    let with_counts = out.join("reference_with_counts.h5ad");
    sc_io::write(&with_counts, &reference, &WriteOptions::gzip(4))?;
    sc_io::write(hub.join(ADATA), &atlas, &WriteOptions::gzip(4))?;

    // The model, its card and the metadata that scvi-hub asks for. scvi-tools opens this folder, too.
    let mut model = model;
    model.set_minified(Some(model.minified_keys(&options)));
    let mut card = PackOptions::default();
    card.license = Some("mit".into());
    card.description = "Amphid neurons of *C. elegans* embryos, six batches.".into();
    card.references = "Packer et al., Science 2019".into();
    card.tissues = vec!["embryo".into()];
    card.is_annotated = Some(true);
    HubModel::pack(&hub, &model, &card)?;
    let size = SizeReport::measure(&with_counts, &hub.join(ADATA), None)?;
    println!(
        "published {} cells: {:.2} MB instead of {:.2} MB with counts",
        atlas.n_obs(),
        size.minified_bytes as f64 / 1e6,
        size.counts_bytes as f64 / 1e6
    );
    // Names of genes and their sums take the same space however many cells there are.
    let x = reference.matrix(None)?.to_csr();
    let density = x.n_stored() as f64 / (x.n_rows() * x.n_cols()) as f64;
    let many = SizeInput::new(1e6, x.n_cols() as f64, density, 10.0);
    println!(
        "a million such cells would take {:.0} times less\n",
        many.gzipped().estimate().ratio()
    );
    Ok(hub)
}

/// scVI first, then scANVI from it: with layer normalisation and the batch in the encoder, as references are best built.
fn train(reference: &AnnData) -> Result<Scanvi> {
    let setup = Setup {
        batch_key: Some("batch".into()),
        ..Setup::default()
    };
    let cells = Cells::new(reference, &setup)?;
    let mut scvi = Scvi::params(&cells)
        .likelihood(Likelihood::Nb)
        .encode_covariates(true)
        .layer_norm(NormIn::Both)
        .batch_norm(NormIn::None)
        .dropout_rate(0.2)
        .check()?
        .init(&Device::Cpu, SEED)?;
    scvi.fit(&cells, &epochs(80), &mut ProgressBar::new("elbo_train"))?;
    let labels = Labels {
        key: Some(TYPE.into()),
        unlabeled_category: UNKNOWN.into(),
    };
    let classifier = ClassifierConfig::default();
    let mut model = Scanvi::from_scvi(&scvi, &reference.obs, &labels, classifier, SEED)?;
    let cells = Cells::for_model(reference, model.registry())?;
    let mut semi = SemiSupervised::default();
    semi.n_samples_per_label = Some(100);
    let bar = &mut ProgressBar::new("train_accuracy");
    model.fit(&cells, &epochs(20), &semi, bar)?;
    Ok(model)
}

fn epochs(n: usize) -> TrainConfig {
    let mut config = TrainConfig::default();
    config.max_epochs = Some(n);
    config.kl_warmup = KlWarmup {
        n_epochs: Some(n.min(40)),
        ..KlWarmup::default()
    };
    config.seed = SEED;
    config
}

/// The second person: has new cells, and of the atlas only the hub folder. `truth` is for comparing.
fn use_it(out: &Path, hub: &Path, truth: &AnnData, query: AnnData) -> Result<()> {
    let hub = HubModel::open(hub)?;
    let model = hub.model(&Device::Cpu)?;
    let model = model.scanvi().ok_or("the hub holds no scANVI model")?;
    let data = sc_io::read(hub.dir().join(ADATA))?;
    let cells = Cells::for_model(&data, model.registry())?;
    let atlas = Atlas {
        model,
        data: &data,
        places: model.scvi().latent(&cells)?.mean,
        types: data.obs.column("obs", TYPE)?.to_categorical(TYPE)?,
    };
    let new = map(&atlas, query)?;
    which_genes(&atlas, &cells, truth)?;
    let picture = picture(&atlas.places, &new.places)?;
    where_more(out, &atlas, &picture)?;
    write_back(&atlas, &new)?;
    draw(out, &atlas, &new, &picture)?;
    let mut mapped = new.data;
    mapped
        .obs
        .insert("cell_type", Column::Categorical(new.labels))?;
    mapped.obsm.insert("X_scANVI".into(), new.places.into());
    sc_io::write(out.join("mapped.h5ad"), &mapped, &WriteOptions::gzip(4))?;
    Ok(())
}

/// The reference without its counts.
struct Atlas<'a> {
    model: &'a Scanvi,
    data: &'a AnnData,
    places: Array2<f32>,
    types: Categorical,
}

/// New cells on the atlas.
struct Mapped {
    data: AnnData,
    places: Array2<f32>,
    labels: Categorical,
    uncertainty: Vec<f64>,
}

/// Finds the places of new cells: inputs for their batch are added to the model, and only those are trained. Then labels:
/// from the classifier, and from the neighbours in the atlas with their uncertainty.
fn map(atlas: &Atlas<'_>, mut data: AnnData) -> Result<Mapped> {
    // Nobody has labelled the new cells yet.
    let truth = data.obs.column("obs", TYPE)?.to_categorical(TYPE)?;
    data.obs.remove(TYPE);
    let (cells, report) = Cells::for_query(&data, atlas.model.registry())?;
    let shared = (report.genes.shared, report.genes.n_reference);
    println!(
        "{} new cells share {} of {} genes",
        data.n_obs(),
        shared.0,
        shared.1
    );
    let options = QueryOptions::default();
    let mut model = atlas.model.load_query(&cells, &options, SEED)?;
    let mut config = options.train_config();
    config.max_epochs = Some(60);
    let semi = SemiSupervised::default();
    model.fit(&cells, &config, &semi, &mut ProgressBar::new("elbo_train"))?;
    let places = model.scvi().latent(&cells)?.mean;

    let said = model.predict(&cells, PredictAt::PosteriorMean)?;
    let voted = LabelTransfer::fit(atlas.places.view(), &atlas.types)?.transfer(places.view())?;
    let labels = voted.labels_or_unknown(0.2)?;
    let unsure = labels.iter().filter(|l| *l == Some(UNKNOWN)).count();
    let mut table = Table::new(&["labels of the new cells", "right"]);
    table.numbers("by the classifier", &[right(&said.hard(), &truth)], 3);
    table.numbers("by neighbours", &[voted.accuracy(&truth)?], 3);
    println!("\n{table}");
    println!("{unsure} of {} votes are uncertain\n", labels.len());
    let uncertainty = voted.uncertainty().to_vec();
    drop(cells);
    Ok(Mapped {
        data,
        places,
        labels,
        uncertainty,
    })
}

/// The new study knows lineages; written back, the atlas knows them where they are certain.
fn write_back(atlas: &Atlas<'_>, new: &Mapped) -> Result<()> {
    let lineage = new.data.obs.column("obs", "lineage")?;
    let lineage = lineage.to_categorical("lineage")?;
    let side = |latent, labels| Labelled {
        latent,
        labels,
        compartments: None,
    };
    let how = InfuseOptions {
        reach: Some(2.0),
        ..InfuseOptions::default()
    };
    let reference = side(atlas.places.view(), &atlas.types);
    let infused = infuse(reference, side(new.places.view(), &lineage), &how)?;
    let taken = infused.taken.iter().filter(|&&t| t).count();
    println!("{taken} cells of the atlas took a lineage from the new study\n");
    Ok(())
}

/// Atlas and new cells in one picture.
fn draw(out: &Path, atlas: &Atlas<'_>, new: &Mapped, picture: &Array2<f32>) -> Result<()> {
    let n = atlas.data.n_obs();
    let all = atlas.types.iter().chain(new.labels.iter());
    let types: Vec<&str> = all.map(Option::unwrap_or_default).collect();
    let whose = |i: usize| if i < n { "atlas" } else { "new" };
    let whose: Vec<&str> = (0..types.len()).map(whose).collect();
    let unsure: Vec<f64> = std::iter::repeat_n(f64::NAN, n)
        .chain(new.uncertainty.iter().copied())
        .collect();
    let figure = |name: &str, title: &'static str| {
        Figure::new(out.join(name), title).panel("atlas and new cells", picture)
    };
    figure("umap_types.svg", "Cell types: given, and transferred")
        .by_label(&Categorical::from_labels(&types))?;
    figure("umap_new.svg", "Where the new cells lie")
        .by_label(&Categorical::from_labels(&whose))?;
    figure(
        "umap_uncertainty.svg",
        "Uncertainty of the transferred labels",
    )
    .by_value("uncertainty", &unsure)?;
    Ok(())
}

/// Share of the labels that are the true ones.
fn right(found: &[&str], truth: &Categorical) -> f64 {
    let hits = found
        .iter()
        .zip(truth.iter())
        .filter(|(f, t)| Some(**f) == *t);
    hits.count() as f64 / found.len() as f64
}

/// Genes that differ between two kinds of neurons, asked of the atlas without counts and, to compare, of the counts.
fn which_genes(atlas: &Atlas<'_>, cells: &Cells<'_>, truth: &AnnData) -> Result<()> {
    let model = atlas.model;
    let groups = Groups::against(&atlas.types, &["AWC"], "ASG")?;
    let mut options = DeOptions::change();
    options.batch_correction = true;
    options.n_samples = 2000;
    let lean = differential_expression(model.scvi(), cells, &groups, &options)?;
    let with_counts = Cells::for_model(truth, model.registry())?;
    let full = differential_expression(model.scvi(), &with_counts, &groups, &options)?;
    let [found, expected] = [&lean, &full].map(|t| t.comparisons.first());
    let (Some(found), Some(expected)) = (found, expected) else {
        return Ok(());
    };
    println!(
        "genes that tell {} apart, of the atlas without counts:",
        found.name()
    );
    let Some(change) = found.statistics.change() else {
        return Ok(());
    };
    let mut table = Table::new(&["gene", "log2 fold change", "probability"]);
    for (row, &gene) in found.genes.iter().enumerate().take(8) {
        let values = [change.lfc_mean[row], change.proba_de[row]];
        table.numbers(&lean.gene_names()[gene], &values, 2);
    }
    println!("\n{table}");
    let in_order = |change: Option<&Change>, genes: &[usize]| -> Vec<f64> {
        let mut of_gene = vec![0.0; genes.len()];
        for (&gene, &lfc) in genes.iter().zip(change.map_or(&[][..], |c| &c.lfc_mean)) {
            of_gene[gene] = lfc;
        }
        of_gene
    };
    let a = in_order(found.statistics.change(), &found.genes);
    let b = in_order(expected.statistics.change(), &expected.genes);
    println!(
        "rank correlation with the same asked of the counts: {:.4}\n",
        rank_correlation(&a, &b)
    );
    Ok(())
}

/// A UMAP of atlas and new cells together.
fn picture(places: &Array2<f32>, new_places: &Array2<f32>) -> Result<Array2<f32>> {
    let all = concatenate(Axis(0), &[places.view(), new_places.view()])?;
    let graph = connectivities(&knn(all.view(), 15)?)?;
    let start = principal_axes(all.view(), 2)?;
    Ok(umap(&graph, start.view(), &UmapParams::default())?)
}

/// Milo: which states become more frequent as the embryo grows? Four samples were taken at 300, 400 and 500 minutes.
fn where_more(out: &Path, atlas: &Atlas<'_>, picture: &Array2<f32>) -> Result<()> {
    let (atlas, places) = (atlas.data, &atlas.places);
    let time = atlas.obs.column("obs", "time.point")?;
    let time = time.to_categorical("time.point")?;
    let minutes = |i: usize| -> Option<f64> { time.get(i)?.strip_suffix("_minutes")?.parse().ok() };
    let timed: Vec<usize> = (0..atlas.n_obs())
        .filter(|&i| minutes(i).is_some())
        .collect();
    let mut obs = atlas.obs.select_rows(&timed)?;
    let hours = timed.iter().filter_map(|&i| minutes(i)).map(|m| m / 60.0);
    obs.insert("hours", Column::Float(hours.collect()))?;
    let samples = obs.column("obs", "batch")?.to_categorical("batch")?;
    let places = places.select(Axis(0), &timed);

    let neighbors = knn(places.view(), 30)?;
    let mut options = NeighbourhoodOptions::default();
    options.proportion = 0.3;
    let neighbourhoods = Neighbourhoods::new(
        places.view(),
        &connectivities(&neighbors)?,
        &milo::kth_distances(&neighbors),
        &options,
    )?;
    let counts = Counts::new(&neighbourhoods, &samples, "batch")?;
    let design = Design::new("~ hours", &obs, &samples)?;
    let test = TestOptions::default();
    let table =
        milo::differential_abundance(&neighbourhoods, places.view(), &counts, &design, &test)?;
    let types = obs.column("obs", TYPE)?.to_categorical(TYPE)?;
    let table = table.with_annotations(&neighbourhoods.annotate(&types)?);
    let (fewer, more) = table.n_changed(0.1);
    println!(
        "of {} neighbourhoods {more} become more and {fewer} less frequent with age (spatial FDR 10 %)\n",
        table.n_tested()
    );
    table.write(&mut std::fs::File::create(out.join("milo.tsv"))?, '\t')?;
    let mut change = vec![f64::NAN; picture.nrows()];
    for row in table.rows.iter().filter(|r| r.spatial_fdr < 0.1) {
        change[timed[row.index_cell]] = row.log_fc;
    }
    Figure::new(
        out.join("umap_milo.svg"),
        "Neighbourhoods that change with age",
    )
    .panel("log2 fold change an hour", picture)
    .by_value("log2 FC", &change)?;
    Ok(())
}
