//! Places on a genome.

/// The strand of a gene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Strand {
    /// It is read from its start to its end.
    #[default]
    Forward,
    /// It is read from its end to its start.
    Reverse,
}

/// A stretch of the genome, half open, as in BED files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Interval {
    /// The chromosome.
    pub chromosome: String,
    /// The first base, from 0.
    pub start: u64,
    /// The base after the last.
    pub end: u64,
    /// The strand, where it matters.
    pub strand: Strand,
}

impl Interval {
    /// On the forward strand.
    pub fn new(chromosome: impl Into<String>, start: u64, end: u64) -> Self {
        Self {
            chromosome: chromosome.into(),
            start,
            end,
            strand: Strand::default(),
        }
    }

    /// From the name of a peak as people write it, `chr1:100-200`, `chr1-100-200` or `chr1_100_200`; `None` if it isn't one.
    ///
    /// ```
    /// use sc_data::Interval;
    ///
    /// assert_eq!(Interval::from_name("chr1:100-200"), Some(Interval::new("chr1", 100, 200)));
    /// assert_eq!(Interval::from_name("GL000194.1_5_20"), Some(Interval::new("GL000194.1", 5, 20)));
    /// assert_eq!(Interval::from_name("HLA-A"), None);
    /// ```
    pub fn from_name(name: &str) -> Option<Self> {
        let (rest, end) = name.trim().rsplit_once(['-', '_', ':'])?;
        let (chromosome, start) = rest.rsplit_once([':', '-', '_'])?;
        let (start, end) = (start.parse().ok()?, end.parse().ok()?);
        (!chromosome.is_empty() && start < end).then(|| Self::new(chromosome, start, end))
    }

    /// With so many bases more before its first one, in the direction in which it is read: a gene with its promoter.
    #[must_use]
    pub fn with_promoter(&self, length: u64) -> Self {
        let mut out = self.clone();
        match self.strand {
            Strand::Forward => out.start = self.start.saturating_sub(length),
            Strand::Reverse => out.end = self.end.saturating_add(length),
        }
        out
    }

    /// The bases before its first one alone, in the direction in which it is read.
    #[must_use]
    pub fn promoter(&self, length: u64) -> Self {
        let (start, end) = match self.strand {
            Strand::Forward => (self.start.saturating_sub(length), self.start),
            Strand::Reverse => (self.end, self.end.saturating_add(length)),
        };
        Self {
            start,
            end,
            ..self.clone()
        }
    }

    /// Bases between two intervals: 0 if they overlap, 1 if they touch; `None` on different chromosomes.
    pub fn distance(&self, other: &Self) -> Option<u64> {
        if self.chromosome != other.chromosome {
            return None;
        }
        Some(if self.end <= other.start {
            other.start - self.end + 1
        } else if other.end <= self.start {
            self.start - other.end + 1
        } else {
            0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let a = Interval::new("1", 10, 20);
        for (s, e, d) in [(0, 10, 1), (15, 16, 0), (20, 30, 1), (25, 30, 6)] {
            assert_eq!(a.distance(&Interval::new("1", s, e)), Some(d));
        }
        assert_eq!(a.distance(&Interval::new("2", 10, 20)), None);
    }

    #[test]
    fn promoters_lie_where_reading_starts() {
        let mut gene = Interval::new("1", 1_000, 3_000);
        assert_eq!(gene.with_promoter(2_000), Interval::new("1", 0, 3_000));
        assert_eq!(gene.promoter(500), Interval::new("1", 500, 1_000));
        gene.strand = Strand::Reverse;
        assert_eq!(
            (
                gene.with_promoter(2_000).start,
                gene.with_promoter(2_000).end
            ),
            (1_000, 5_000)
        );
        assert_eq!(
            (gene.promoter(500).start, gene.promoter(500).end),
            (3_000, 3_500)
        );
    }

    #[test]
    fn only_places_are_places() {
        for name in [
            "",
            "chr1",
            "chr1:5",
            "chr1:20-10",
            ":1-2",
            "a-b-c",
            "chr1:1-99999999999999999999",
        ] {
            assert_eq!(Interval::from_name(name), None, "{name}");
        }
    }
}
