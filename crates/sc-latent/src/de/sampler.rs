//! Draws of the expression of populations.

use std::sync::Arc;

use sc_tensor::rng::Rng;

use super::blocks::{Blocks, block_size, transpose};
use super::groups::{Population, others};
use super::options::DeOptions;
use super::samples::ScaleSamples;
use crate::decoded::Decoded;
use crate::expression::draws::{Plan, Row, shuffled_rows};
use crate::expression::rows::Writer;
use crate::{Cells, LibrarySize, Result, Scvi, Weights};

/// Decoded draws are kept for other comparisons as long as they need no more memory than this.
const KEPT_BYTES: usize = 512 << 20;
/// The rest of a group is drawn by passing over draws of all cells, unless that takes this many times as many draws.
const MOST_PASSED: usize = 64;

/// Draws from populations of cells, each decoded once.
///
/// What is drawn from a population depends on the seed and the population's name alone, not on what else is compared.
pub(super) struct Sampler<'a, 'c> {
    model: &'a Scvi,
    cells: &'a Cells<'c>,
    options: &'a DeOptions,
    rng: Rng,
    /// All cells, `0..n`.
    all: Vec<usize>,
    /// Decoded draws of all cells, of which each rest takes those outside of its group.
    shared: Option<Shared>,
    kept: Vec<(String, ScaleSamples)>,
}

/// Draws that are to be decoded with one batch.
struct Part {
    /// Of which batch all cells are taken to be; `None`: each of its own.
    code: Option<u32>,
    drawn: Vec<Row>,
    rng: Rng,
}

/// Sorted rows of several parts and their expression.
struct Shared {
    rows: Vec<Vec<Row>>,
    values: Arc<Blocks>,
}

impl<'a, 'c> Sampler<'a, 'c> {
    pub(super) fn new(model: &'a Scvi, cells: &'a Cells<'c>, options: &'a DeOptions) -> Self {
        Self {
            model,
            cells,
            options,
            rng: Rng::new(options.seed).child("de"),
            all: (0..cells.n_cells()).collect(),
            shared: None,
            kept: Vec::new(),
        }
    }

    /// The batches to decode with: those named, or all; without batch correction each cell's own.
    pub(super) fn codes(&self, named: &[String]) -> Result<Vec<Option<u32>>> {
        if !self.options.batch_correction {
            return Ok(vec![None]);
        }
        let registry = self.model.registry();
        let mut codes = if named.is_empty() {
            (0..registry.batches.len() as u32).collect()
        } else {
            named
                .iter()
                .map(|b| registry.batch_code(b))
                .collect::<Result<Vec<u32>>>()?
        };
        codes.sort_unstable();
        codes.dedup();
        Ok(codes.into_iter().map(Some).collect())
    }

    /// Draws for each of so many batches.
    fn per_batch(&self, codes: &[Option<u32>]) -> usize {
        match self.options.batch_correction {
            true => (self.options.n_samples / codes.len().max(1)).max(2),
            false => self.options.n_samples,
        }
    }

    /// Draws from a population. `again` says that it will be asked for once more.
    pub(super) fn population(
        &mut self,
        population: &Population,
        codes: &[Option<u32>],
        again: bool,
    ) -> Result<ScaleSamples> {
        let key = format!("{codes:?} {}", population.name);
        if let Some(k) = self.kept.iter().position(|(name, _)| *name == key) {
            let found = match again {
                true => self.kept[k].1.clone(),
                false => self.kept.swap_remove(k).1,
            };
            return Ok(found);
        }
        let of = format!("group {}", population.name);
        let parts = self.draw(&of, &population.cells, codes)?;
        let samples = self.samples(&parts)?;
        if again {
            self.keep(key, &samples);
        }
        Ok(samples)
    }

    fn keep(&mut self, key: String, samples: &ScaleSamples) {
        self.kept.push((key, samples.clone()));
        let bytes =
            |kept: &[(String, ScaleSamples)]| kept.iter().map(|k| k.1.bytes()).sum::<usize>();
        while bytes(&self.kept) > KEPT_BYTES {
            self.kept.remove(0);
        }
    }

    /// Draws from all cells outside of a population.
    pub(super) fn rest(
        &self,
        population: &Population,
        codes: &[Option<u32>],
    ) -> Result<ScaleSamples> {
        match self.passing(population, codes)? {
            Some(parts) => match &self.shared {
                Some(shared) => Ok(self.of_shared(shared, &parts)),
                None => self.samples(&parts),
            },
            None => {
                let rest = others(&population.cells, self.all.len());
                let of = format!("rest of {}", population.name);
                self.samples(&self.draw(&of, &rest, codes)?)
            }
        }
    }

    /// Decodes at once what the rests of several populations take of the draws of all cells.
    pub(super) fn share(&mut self, firsts: &[&Population], codes: &[Option<u32>]) -> Result<()> {
        let mut rows: Vec<Vec<Row>> = vec![Vec::new(); codes.len()];
        let mut rngs = Vec::new();
        for population in firsts {
            let Some(parts) = self.passing(population, codes)? else {
                continue;
            };
            rngs.clear();
            for (rows, part) in rows.iter_mut().zip(parts) {
                rows.extend(part.drawn);
                rows.sort_unstable();
                rows.dedup();
                rngs.push(part.rng);
            }
        }
        let n: usize = rows.iter().map(Vec::len).sum();
        let bytes = n * self.model.registry().n_genes() * size_of::<f32>();
        if n == 0 || bytes > KEPT_BYTES {
            return Ok(());
        }
        let values = self.decode(codes.iter().copied().zip(rows.iter().zip(&rngs)))?;
        self.shared = Some(Shared { rows, values });
        Ok(())
    }

    /// The draws of all cells that fall outside of a population; `None` where that would take too many.
    fn passing(&self, population: &Population, codes: &[Option<u32>]) -> Result<Option<Vec<Part>>> {
        let (n_all, inside) = (self.all.len(), &population.cells);
        let outside = n_all - inside.len();
        if self.options.weights != Weights::Uniform || n_all / outside.max(1) > MOST_PASSED {
            return Ok(None);
        }
        let n = self.per_batch(codes);
        let part = |(k, &code): (usize, &Option<u32>)| {
            let rng = self.rng.child("all cells").child(&format!("batch {k}"));
            let rows = shuffled_rows(&self.all, rng.stream("rows"));
            let outside = rows.filter(|row| inside.binary_search(&row.cell).is_err());
            Ok(Part {
                code,
                drawn: outside.take(n).collect(),
                rng,
            })
        };
        codes
            .iter()
            .enumerate()
            .map(part)
            .collect::<Result<_>>()
            .map(Some)
    }

    /// Draws among some cells for each batch.
    fn draw(&self, of: &str, cells: &[usize], codes: &[Option<u32>]) -> Result<Vec<Part>> {
        let n = self.per_batch(codes);
        let part = |(k, &code): (usize, &Option<u32>)| {
            let rng = self.rng.child(of).child(&format!("batch {k}"));
            let weights = &self.options.weights;
            let drawn = self
                .model
                .draw_rows(self.cells, cells, n, weights, code, &rng)?;
            Ok(Part { code, drawn, rng })
        };
        codes.iter().enumerate().map(part).collect()
    }

    /// Decodes draws: in their order, or each row once where some are drawn again and again.
    fn samples(&self, parts: &[Part]) -> Result<ScaleSamples> {
        let mut rows = Vec::new();
        let mut draws = Vec::new();
        let mut start = 0;
        for part in parts {
            let plan = Plan::new(&part.drawn);
            let n = plan.rows.len() as u32;
            if plan.rows.len() == part.drawn.len() {
                draws.extend(start..start + n);
                rows.push(part.drawn.clone());
            } else {
                draws.extend(plan.picks.iter().map(|p| p + start));
                rows.push(plan.rows);
            }
            start += n;
        }
        let of_parts = rows.iter().zip(parts.iter().map(|p| &p.rng));
        let values = self.decode(parts.iter().map(|p| p.code).zip(of_parts))?;
        Ok(ScaleSamples::of_blocks(values, draws, self.batches(parts)))
    }

    /// Draws of which the rows were decoded already.
    fn of_shared(&self, shared: &Shared, parts: &[Part]) -> ScaleSamples {
        let mut draws = Vec::new();
        let mut start = 0;
        for (part, rows) in parts.iter().zip(&shared.rows) {
            // Every row is there: the shared ones are the union of those of all rests.
            let place = |row: &Row| (start + rows.binary_search(row).unwrap_or_default()) as u32;
            draws.extend(part.drawn.iter().map(place));
            start += rows.len();
        }
        ScaleSamples::of_blocks(shared.values.clone(), draws, self.batches(parts))
    }

    /// The batch that each draw is decoded with, with batch correction.
    fn batches(&self, parts: &[Part]) -> Option<Vec<u32>> {
        let of_part = |p: &Part| std::iter::repeat_n(p.code.unwrap_or_default(), p.drawn.len());
        self.options
            .batch_correction
            .then(|| parts.iter().flat_map(of_part).collect())
    }

    /// The expression of the rows of all parts, one part after the other.
    fn decode<'r>(
        &self,
        parts: impl Iterator<Item = (Option<u32>, (&'r Vec<Row>, &'r Rng))>,
    ) -> Result<Arc<Blocks>> {
        let genes = self.model.registry().n_genes();
        let at_once = block_size(genes);
        let mut blocks = Blocks::new(genes);
        for (code, (rows, rng)) in parts {
            let each = vec![(); rows.len().div_ceil(at_once)];
            let rng = rng.child("batch 0");
            let decode = |room: &mut Vec<f32>, decoded: &Decoded, ()| {
                room.resize(decoded.n_cells()? * genes, 0.0);
                Writer::new(LibrarySize::Fixed(1.0), None, 1.0).write(decoded, false, room)?;
                Ok(transpose(room, genes))
            };
            let decoded = self
                .model
                .decode_drawn(self.cells, rows, code, &rng, at_once, each, decode)?;
            decoded.into_iter().for_each(|block| blocks.push(block));
        }
        Ok(Arc::new(blocks))
    }
}
