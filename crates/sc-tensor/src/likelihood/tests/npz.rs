//! Just enough of numpy's format to read reference numbers.

use std::collections::HashMap;
use std::io::Read;

/// All float arrays of the file, flattened. `None` (and a line on stdout) where there is no folder of reference data.
pub(super) fn read(path: &str) -> Option<HashMap<String, Vec<f64>>> {
    let Ok(root) = std::env::var("SC_SHARED") else {
        println!("skipped: SC_SHARED is not set");
        return None;
    };
    let file = std::fs::File::open(std::path::Path::new(&root).join(path)).unwrap();
    let mut zip = zip::ZipArchive::new(file).unwrap();
    let mut arrays = HashMap::new();
    for i in 0..zip.len() {
        let mut entry = zip.by_index(i).unwrap();
        let name = entry.name().unwrap().trim_end_matches(".npy").to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let header_len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let header = String::from_utf8_lossy(&bytes[10..10 + header_len]).into_owned();
        let body = &bytes[10 + header_len..];
        let values = if header.contains("<f8") {
            body.as_chunks::<8>()
                .0
                .iter()
                .map(|b| f64::from_le_bytes(*b))
                .collect()
        } else {
            assert!(header.contains("<f4"), "{header}");
            body.as_chunks::<4>()
                .0
                .iter()
                .map(|b| f64::from(f32::from_le_bytes(*b)))
                .collect()
        };
        arrays.insert(name, values);
    }
    Some(arrays)
}
