//! Where genes and peaks lie: GTF and BED files, gzipped or not.
//!
//! | file | what is read |
//! |---|---|
//! | GTF (`seqname source feature start end score strand frame attributes`) | a place for each gene, by an attribute such as `gene_name` |
//! | BED (`chrom start end [name [score [strand]]]`) | a place for each line, by its name, or `chrom:start-end` |
//!
//! GTF counts bases from 1 and includes the last; BED counts from 0 and doesn't. Both become [`Interval`]s, which are as BED has it.

use std::collections::BTreeSet;
use std::path::Path;

use ::csv::ByteRecord;
use indexmap::IndexMap;
use sc_data::{Interval, Strand};

use crate::lines::{Records, Source, text};
use crate::{Error, Result};

/// Attribute names that an error lists.
const LISTED: usize = 20;

/// Genes of a GTF file: the attribute `by` of each (`gene_name`, `gene_id`) and where it lies.
///
/// The lines of feature `gene` count. Files without any (UCSC's) are read by their other lines: a gene reaches from the first
/// base of any on its chromosome and strand to the last. A name that belongs to several places occurs several times; the
/// order is that of the file.
///
/// # Errors
/// [`Error::Io`]; [`Error::Content`] for a line that is not of the format, with its number, and if no line has the attribute.
pub fn read_gtf(path: impl AsRef<Path>, by: &str) -> Result<Vec<(String, Interval)>> {
    let path = path.as_ref();
    let mut records = Source::open(path)?.records(b'\t');
    let (mut genes, mut parts) = (Vec::new(), IndexMap::new());
    let mut seen = BTreeSet::new();
    while let Some(record) = records.next()?.cloned() {
        let feature = gtf_line(&records, &record)?;
        let Some(name) = attribute(feature.attributes, by) else {
            if seen.len() < LISTED {
                seen.extend(attributes(feature.attributes).map(|a| a.0.to_owned()));
            }
            continue;
        };
        if feature.kind == b"gene" {
            genes.push((name, feature.place));
        } else if genes.is_empty() {
            let key = (name, feature.place.chromosome.clone(), feature.place.strand);
            let whole: &mut Interval = parts.entry(key).or_insert_with(|| feature.place.clone());
            whole.start = whole.start.min(feature.place.start);
            whole.end = whole.end.max(feature.place.end);
        }
    }
    if genes.is_empty() {
        genes = parts
            .into_iter()
            .map(|((name, ..), whole)| (name, whole))
            .collect();
    }
    if genes.is_empty() {
        let seen: Vec<String> = seen.into_iter().take(LISTED).collect();
        let found = match seen.is_empty() {
            true => "no line with attributes".to_owned(),
            false => format!("attributes {}", seen.join(", ")),
        };
        return Err(Error::content(
            path,
            "attributes",
            found,
            format!("an attribute \"{by}\""),
        ));
    }
    Ok(genes)
}

/// Places of a BED file with their names. A line without a name is named `chrom:start-end`.
///
/// # Errors
/// [`Error::Io`]; [`Error::Content`] for a line that is not of the format, with its number.
pub fn read_bed(path: impl AsRef<Path>) -> Result<Vec<(String, Interval)>> {
    let path = path.as_ref();
    let mut records = Source::open(path)?.records(b'\t');
    let mut places = Vec::new();
    while let Some(record) = records.next()?.cloned() {
        let field = |i| record.get(i).unwrap_or_default();
        // Lines for genome browsers.
        if [&b"track"[..], b"browser"]
            .iter()
            .any(|word| field(0).starts_with(word))
            && record.len() < 3
        {
            continue;
        }
        let mut place = place(&records, field(0), field(1), field(2), 0)?;
        place.strand = strand(field(5));
        let name = match field(3) {
            b"" | b"." => format!("{}:{}-{}", place.chromosome, place.start, place.end),
            name => text(name),
        };
        places.push((name, place));
    }
    Ok(places)
}

/// What is needed of a line of GTF.
struct Feature<'r> {
    kind: &'r [u8],
    place: Interval,
    attributes: &'r [u8],
}

fn gtf_line<'r>(records: &Records<'_>, record: &'r ByteRecord) -> Result<Feature<'r>> {
    let Some(attributes) = record.get(8) else {
        let found = format!("{} fields", record.len());
        return Err(records.wrong(found, "nine fields with tabs between, as GTF files have"));
    };
    let field = |i| record.get(i).unwrap_or_default();
    let mut place = place(records, field(0), field(3), field(4), 1)?;
    place.strand = strand(field(6));
    Ok(Feature {
        kind: field(2),
        place,
        attributes,
    })
}

/// A place whose first base is `start`, counted from `first`.
fn place(
    records: &Records<'_>,
    chromosome: &[u8],
    start: &[u8],
    end: &[u8],
    first: u64,
) -> Result<Interval> {
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u64>().ok();
    let wrong = || {
        let found = format!("\"{}\" to \"{}\"", text(start), text(end));
        records.wrong(found, "two whole numbers, the first and the last base")
    };
    let (Some(from), Some(to)) = (number(start), number(end)) else {
        return Err(wrong());
    };
    let from = from.checked_sub(first).ok_or_else(wrong)?;
    if chromosome.is_empty() || from > to {
        return Err(wrong());
    }
    Ok(Interval::new(text(chromosome), from, to))
}

fn strand(field: &[u8]) -> Strand {
    match field {
        b"-" => Strand::Reverse,
        _ => Strand::Forward,
    }
}

/// `key "value"; key "value"; ...`
fn attributes(field: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let mut quoted = false;
    // A semicolon between quotes belongs to the value.
    let ends = move |c: char| {
        quoted ^= c == '"';
        c == ';' && !quoted
    };
    let field = std::str::from_utf8(field).unwrap_or_default();
    field.split(ends).filter_map(|part| {
        let (key, value) = part.trim().split_once([' ', '='])?;
        Some((key, value.trim().trim_matches('"')))
    })
}

fn attribute(field: &[u8], by: &str) -> Option<String> {
    let found = attributes(field).find(|(key, value)| *key == by && !value.is_empty());
    found.map(|(_, value)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &str, gzip: bool) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        if gzip {
            let mut packed = flate2::write::GzEncoder::new(&mut file, flate2::Compression::fast());
            packed.write_all(text.as_bytes()).unwrap();
            packed.finish().unwrap();
        } else {
            file.write_all(text.as_bytes()).unwrap();
        }
        file
    }

    const GENES: &str = "#!genome-build x\n\
        1\thavana\tgene\t101\t200\t.\t+\t.\tgene_id \"E1\"; gene_name \"A; B\"; level 2;\n\
        1\thavana\texon\t101\t150\t.\t+\t.\tgene_id \"E1\"; gene_name \"A; B\";\n\
        2\thavana\tgene\t1\t30\t.\t-\t.\tgene_id \"E2\"; gene_name \"C\";\n";

    #[test]
    fn genes_by_an_attribute() {
        for gzip in [false, true] {
            let file = file(GENES, gzip);
            let by_id = read_gtf(file.path(), "gene_id").unwrap();
            let names: Vec<&str> = by_id.iter().map(|g| g.0.as_str()).collect();
            assert_eq!(names, ["E1", "E2"]);
            assert_eq!(by_id[0].1, Interval::new("1", 100, 200));
            assert_eq!((by_id[1].1.start, by_id[1].1.strand), (0, Strand::Reverse));
        }
        let by_name = read_gtf(file(GENES, false).path(), "gene_name").unwrap();
        assert_eq!(
            (by_name[0].0.as_str(), by_name[1].0.as_str()),
            ("A; B", "C")
        );
        let e = read_gtf(file(GENES, false).path(), "symbol").unwrap_err();
        assert!(e.to_string().contains("gene_id, gene_name"), "{e}");
    }

    #[test]
    fn genes_of_their_parts() {
        let parts = "1\tucsc\texon\t101\t150\t.\t+\t.\tgene_id \"A\"\n\
            1\tucsc\texon\t301\t350\t.\t+\t.\tgene_id \"A\"\n\
            X\tucsc\texon\t11\t20\t.\t+\t.\tgene_id \"A\"\n";
        let found = read_gtf(file(parts, false).path(), "gene_id").unwrap();
        let places: Vec<&Interval> = found.iter().map(|g| &g.1).collect();
        assert_eq!(
            places,
            [&Interval::new("1", 100, 350), &Interval::new("X", 10, 20)]
        );
    }

    #[test]
    fn peaks() {
        let text = "track name=peaks\nchr1\t0\t10\nchr1\t20\t30\tpeak2\t5\t-\n";
        let found = read_bed(file(text, false).path()).unwrap();
        assert_eq!(found[0], ("chr1:0-10".into(), Interval::new("chr1", 0, 10)));
        assert_eq!(
            (found[1].0.as_str(), found[1].1.strand),
            ("peak2", Strand::Reverse)
        );
    }

    #[test]
    fn wrong_lines_are_named() {
        for (text, says) in [
            ("1\tx\tgene\t5\n", "line 1: found 4 fields"),
            (
                "#c\n1\tx\tgene\t0\t7\t.\t+\t.\ta \"b\";\n",
                "line 2: found \"0\" to \"7\"",
            ),
            (
                "1\tx\tgene\t9\t7\t.\t+\t.\ta \"b\";\n",
                "found \"9\" to \"7\"",
            ),
            (
                "1\tx\tgene\tx\t7\t.\t+\t.\ta \"b\";\n",
                "found \"x\" to \"7\"",
            ),
            ("", "an attribute \"gene_id\""),
        ] {
            let e = read_gtf(file(text, false).path(), "gene_id").unwrap_err();
            assert!(e.to_string().contains(says), "{text}: {e}");
        }
        let e = read_bed(file("chr1\t5\n", false).path()).unwrap_err();
        assert!(e.to_string().contains("line 1"), "{e}");
    }
}
