//! Links between genes and peaks that lie near each other.

use std::collections::HashMap;

use sc_data::Interval;

/// GLUE's weight of a link over so many bases: `((d + 1000) / 1000)^-0.75`.
///
/// ```
/// use sc_integrate::graph::distance_weight;
/// assert_eq!(distance_weight(0), 1.0);
/// assert!((distance_weight(1000) - 0.5946).abs() < 1e-4);
/// ```
pub fn distance_weight(distance: u64) -> f64 {
    ((distance as f64 + 1000.0) / 1000.0).powf(-0.75)
}

/// Links, `(gene, peak, weight, sign 1)` by name, between genes with their promoters and the peaks at most `range` bases away. With
/// a range of 0 only those that overlap are linked.
pub fn link_by_distance(
    genes: &[(String, Interval)],
    peaks: &[(String, Interval)],
    promoter: u64,
    range: u64,
) -> Vec<(String, String, f64, f64)> {
    let mut by_chromosome: HashMap<&str, Vec<&(String, Interval)>> = HashMap::new();
    for p in peaks {
        by_chromosome.entry(&p.1.chromosome).or_default().push(p);
    }
    let mut longest: HashMap<&str, u64> = HashMap::new();
    for (name, list) in &mut by_chromosome {
        list.sort_by_key(|p| p.1.start);
        let length = list.iter().map(|p| p.1.end.saturating_sub(p.1.start)).max();
        longest.insert(name, length.unwrap_or(0));
    }
    let mut links = Vec::new();
    for (gene, body) in genes {
        let region = body.with_promoter(promoter);
        let Some(list) = by_chromosome.get(region.chromosome.as_str()) else {
            continue;
        };
        let reach = range
            + longest
                .get(region.chromosome.as_str())
                .copied()
                .unwrap_or(0);
        let from = list.partition_point(|p| p.1.start.saturating_add(reach) < region.start);
        let to = region.end.saturating_add(range);
        for (peak, place) in list.iter().skip(from).take_while(|p| p.1.start <= to) {
            if let Some(d) = region.distance(place).filter(|&d| d <= range) {
                links.push((gene.clone(), peak.clone(), distance_weight(d), 1.0));
            }
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use sc_data::Strand;

    #[test]
    fn peaks_in_reach_are_linked() {
        let mut reverse = Interval::new("1", 10_000, 12_000);
        reverse.strand = Strand::Reverse;
        let genes = vec![
            ("a".to_owned(), Interval::new("1", 10_000, 12_000)),
            ("b".to_owned(), reverse),
        ];
        let peaks: Vec<_> = [(8_500, 8_600), (12_500, 12_600), (11_000, 11_100), (0, 100)]
            .into_iter()
            .map(|(s, e)| (format!("p{s}"), Interval::new("1", s, e)))
            .chain([("far".to_owned(), Interval::new("2", 11_000, 11_100))])
            .collect();
        let named = |promoter, range| {
            let mut found: Vec<String> = link_by_distance(&genes, &peaks, promoter, range)
                .into_iter()
                .map(|l| format!("{}-{}", l.0, l.1))
                .collect();
            found.sort();
            found.join(" ")
        };
        assert_eq!(named(0, 0), "a-p11000 b-p11000");
        assert_eq!(named(2_000, 0), "a-p11000 a-p8500 b-p11000 b-p12500");
        assert_eq!(named(0, 501), "a-p11000 a-p12500 b-p11000 b-p12500");
        assert_eq!(named(0, 500), "a-p11000 b-p11000");
    }
}
