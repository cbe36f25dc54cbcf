use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// All arrays of an `.npz` file as `f64`, row-major.
pub struct Npz(BTreeMap<String, (Vec<usize>, Vec<f64>)>);

impl Npz {
    pub fn read(path: &Path) -> Self {
        let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut archive = zip::ZipArchive::new(file).unwrap();
        let mut arrays = BTreeMap::new();
        for i in 0..archive.len() {
            let mut entry = archive.by_index(i).unwrap();
            let name = entry.name().unwrap().trim_end_matches(".npy").to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            if let Some(array) = parse(&bytes) {
                arrays.insert(name, array);
            }
        }
        Self(arrays)
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn get(&self, name: &str) -> &[f64] {
        &self
            .0
            .get(name)
            .unwrap_or_else(|| panic!("no array {name}"))
            .1
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        &self.0[name].0
    }

    pub fn indices(&self, name: &str) -> Vec<usize> {
        self.get(name).iter().map(|&v| v as usize).collect()
    }
}

/// Numbers only; arrays of text give nothing.
fn parse(bytes: &[u8]) -> Option<(Vec<usize>, Vec<f64>)> {
    assert_eq!(&bytes[..6], b"\x93NUMPY");
    let (len, start) = if bytes[6] == 1 {
        (u16::from_le_bytes([bytes[8], bytes[9]]) as usize, 10)
    } else {
        (
            u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize,
            12,
        )
    };
    let header = std::str::from_utf8(&bytes[start..start + len]).unwrap();
    let data = &bytes[start + len..];
    let after = |key: &str| {
        header
            .split(key)
            .nth(1)
            .unwrap()
            .trim_start_matches([' ', ':', '\''])
    };
    let descr = after("'descr'").split('\'').next().unwrap().to_owned();
    let fortran = after("'fortran_order'").starts_with("True");
    let shape: Vec<usize> = after("'shape'")
        .trim_start_matches('(')
        .split(')')
        .next()
        .unwrap()
        .split(',')
        .filter_map(|s| s.trim().parse().ok())
        .collect();
    macro_rules! numbers {
        ($t:ty) => {
            data.chunks_exact(size_of::<$t>())
                .map(|c| <$t>::from_le_bytes(c.try_into().unwrap()) as f64)
                .collect::<Vec<f64>>()
        };
    }
    let values = match descr.trim_start_matches(['<', '|', '=']) {
        "f8" => numbers!(f64),
        "f4" => numbers!(f32),
        "i8" => numbers!(i64),
        "i4" => numbers!(i32),
        "i2" => numbers!(i16),
        "i1" => numbers!(i8),
        "u1" | "b1" => numbers!(u8),
        _ => return None,
    };
    let values = if fortran && shape.len() == 2 {
        let (n, m) = (shape[0], shape[1]);
        (0..n * m).map(|k| values[(k % m) * n + k / m]).collect()
    } else {
        assert!(!fortran || shape.len() < 2, "fortran order of {shape:?}");
        values
    };
    Some((shape, values))
}
