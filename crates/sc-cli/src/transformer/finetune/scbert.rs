//! scBERT before it is trained, and how it is.

use candle_core::Device;
use sc_model::train::{Fitted, Observer, ResumeState, TrainConfig};
use sc_transformer::scbert::{GenePanel, Scbert, ScbertCells};
use serde_json::Value;

use super::Common;
use super::run::{Job, select};
use super::scgpt::Sizes;
use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::train_run::Interrupt;
use crate::transformer::cells::{Data, GeneSummary};
use crate::transformer::model::{self, Foreign, Notes, Transformer};
use crate::transformer::query::{Given, ScbertOptions, Which, refuse};

/// What only scBERT has.
#[derive(Debug, clap::Args)]
pub(super) struct Bert {
    #[command(flatten)]
    foreign: Foreign,
    #[command(flatten)]
    pub(super) cells: ScbertOptions,
    /// Width of scBERT from scratch [default: 200]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    dim: Option<usize>,
    /// Its blocks [default: 6]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    depth: Option<usize>,
    /// Its attention heads [default: 10]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    heads: Option<usize>,
    /// Numbers of a head [default: 64]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    dim_head: Option<usize>,
}

impl Bert {
    fn sizes(&self) -> [(&'static str, Option<usize>); 4] {
        [
            ("--dim", self.dim),
            ("--depth", self.depth),
            ("--heads", self.heads),
            ("--dim-head", self.dim_head),
        ]
    }

    pub(super) fn given(&self) -> Vec<Given> {
        let mut all = self.foreign.given();
        all.extend(self.cells.given());
        all.extend(self.sizes().map(|(name, size)| (name, size.is_some())));
        all
    }

    /// The model to begin with; random, of the genes of the data, if none was named.
    pub(super) fn start(&self, common: &Common, data: &Data) -> Result<Scbert> {
        let Some(path) = &common.from else {
            if self.foreign.given().iter().any(|g| g.1) {
                return Err(Error::Message(
                    "--panel and --classes say what a checkpoint of scBERT doesn't: name it with --from".into(),
                ));
            }
            let mut seen = std::collections::HashSet::new();
            let once = data.genes.iter();
            let once = once.filter(|g| !g.is_empty() && seen.insert(g.as_str()));
            let panel = GenePanel::new(once.cloned())?;
            let params = Scbert::params(panel).dim(self.dim.unwrap_or(200));
            let params = params.depth(self.depth.unwrap_or(6));
            let params = params.heads(self.heads.unwrap_or(10));
            let params = params.dim_head(self.dim_head.unwrap_or(64));
            return Ok(params.check()?.init(&Device::Cpu, common.training.seed)?);
        };
        if let Some((name, _)) = self.sizes().into_iter().find(|s| s.1.is_some()) {
            return Err(Error::Message(format!(
                "{name}: --from takes the sizes of {}; leave it out",
                path.display()
            )));
        }
        match model::open(path, &self.foreign)? {
            Transformer::Scbert(model) => Ok(*model),
            Transformer::Scgpt(_) => Err(Error::Message(format!(
                "{}: holds scGPT, and scBERT was asked for",
                path.display()
            ))),
        }
    }
}

/// Refuses options of the model that is not trained; `scgpt` are those that the task has for scGPT.
pub(super) fn check(
    model: Which,
    (common, sizes, bert): (&Common, &Sizes, &Bert),
    scgpt: &[Given],
) -> Result<()> {
    if model == Which::Scgpt {
        return refuse(Which::Scgpt, &bert.given());
    }
    let mut given = sizes.given();
    given.push(("--ignore-case", common.ignore_case));
    given.extend(scgpt);
    refuse(Which::Scbert, &given)
}

/// A training of scBERT.
pub(super) struct BertRun<'a> {
    pub(super) common: &'a Common,
    pub(super) interrupt: &'a Interrupt,
    pub(super) model: &'a Scbert,
    pub(super) cells: &'a ScbertCells<'a>,
    pub(super) data: &'a Data,
    pub(super) settings: Value,
    pub(super) config: &'a TrainConfig,
    pub(super) notes: Notes,
    pub(super) shown: &'a str,
}

impl BertRun<'_> {
    pub(super) fn run(
        self,
        train: impl FnOnce(Option<&ResumeState>, &mut dyn Observer) -> sc_transformer::Result<Fitted>,
    ) -> Result<()> {
        let names = select(self.data.all.obs.index(), self.cells.kept());
        let job = Job {
            common: self.common,
            interrupt: self.interrupt,
            settings: self.settings,
            config: self.config,
            cells: &names,
            notes: &self.notes,
            genes: GeneSummary::of_panel(self.cells),
            shown: self.shown,
        };
        job.run(
            |state, mut o| Ok(train(state, &mut o)?),
            |dir| Ok(self.model.save(dir)?),
        )
    }
}
