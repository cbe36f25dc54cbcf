#![allow(clippy::print_stdout, missing_docs)]
use candle_core::Device;
use ndarray::Array2;
use sc_latent::*;
use sc_model::KlWarmup;
use sc_model::train::TrainConfig;
use sc_neighbors::*;
use sc_preprocess::*;
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn show(name: &str, p: &Array2<f32>, b: &[u32], t: &[u32]) {
    let near = knn(p.view(), 15).unwrap();
    let l = leiden(&connectivities(&near).unwrap(), 1.0, 0).unwrap();
    let same: f64 = (0..p.nrows()).map(|i| near.indices.row(i).iter().filter(|&&j| t[j as usize] == t[i]).count() as f64 / 15.0).sum::<f64>() / p.nrows() as f64;
    let sb = silhouette(p.view(), b).unwrap();
    println!("{name}: ilisi {:.3} sil {:.3} ari {:.3} purity {same:.3} batchsil {sb:.3} clusters {}", ilisi(&knn(p.view(), 90).unwrap(), b, None).unwrap(), silhouette(p.view(), t).unwrap(), adjusted_rand_index(&l, t).unwrap(), l.iter().max().unwrap() + 1);
}
fn main() {
    let data = sc_io::read("tests/data/worm_embryo.h5ad").unwrap();
    let counts = data.matrix(None).unwrap().to_csr();
    let b = data.obs.get("batch").unwrap().to_categorical("").unwrap().complete_codes("").unwrap();
    let t = data.obs.get("cell.type").unwrap().to_categorical("").unwrap().complete_codes("").unwrap();
    let norm = log1p(&normalize_total(&counts, Some(1e4)).unwrap()).unwrap();
    for (g, flavor) in [(1000, HvgFlavor::SeuratV3), (2000, HvgFlavor::SeuratV3), (2000, HvgFlavor::Seurat), (4000, HvgFlavor::SeuratV3)] {
        let hv = match flavor { HvgFlavor::Seurat => highly_variable_genes(&norm, g, flavor), _ => highly_variable_genes(&counts, g, flavor) }.unwrap();
        let subset = data.select_vars(&hv.genes).unwrap();
        let nn = norm.select_columns(&hv.columns()).unwrap();
        for d in [10, 30, 50] { show(&format!("genes {g} {flavor:?} pca {d}"), &pca(&nn, d, 0).unwrap().scores, &b, &t); }
        let cells = Cells::new(&subset, &Setup { batch_key: Some("batch".into()), ..Setup::default() }).unwrap();
        for (lik, epochs, latent, seed) in [(Likelihood::Zinb, 100, 10, 0), (Likelihood::Nb, 100, 10, 0), (Likelihood::Nb, 60, 10, 0), (Likelihood::Nb, 100, 20, 0), (Likelihood::Nb, 100, 10, 1)] {
            let mut m = Scvi::params(&cells).n_latent(latent).likelihood(lik).check().unwrap().init(&Device::Cpu, seed).unwrap();
            let mut c = TrainConfig::default();
            c.max_epochs = Some(epochs);
            c.kl_warmup = KlWarmup { n_epochs: Some(epochs / 2), ..KlWarmup::default() };
            c.validate_every = Some(1);
            c.seed = seed;
            let f = m.fit(&cells, &c, &mut ()).unwrap();
            let v = f.history.values("elbo_validation");
            let best = v.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).unwrap();
            show(&format!("genes {g} {lik:?} e{epochs} z{latent} s{seed} val {:.1} best {:.1}@{} {:.1}s", v.last().unwrap(), best.1, best.0, f.history.epoch_seconds.iter().sum::<f64>()), &m.latent(&cells).unwrap().mean, &b, &t);
        }
    }
}
